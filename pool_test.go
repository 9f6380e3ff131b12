package main

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

func mustPoolAddress(t *testing.T, hostPort string) *poolAddress {
	t.Helper()
	a, err := newPoolAddress(hostPort, &StratumServerInfo{}, newHealth())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// resolve looks up an address and returns its IPs.
func resolve(t *testing.T, a *poolAddress) []*endpoint {
	t.Helper()
	done := make(chan struct{}, 2)
	a.resolve(func() { done <- struct{}{} })
	select {
	case <-done:
	case <-time.After(2 * resolveTimeout):
		t.Fatalf("%s: the lookup has no result", a.text)
	}
	ips, fresh := a.current()
	if !fresh {
		t.Error("the address was just looked up but does not count as fresh")
	}
	return ips
}

func TestPoolAddressLiteral(t *testing.T) {
	for _, text := range []string{"127.0.0.1:3333", "[::1]:3333", "[fe80::1%1]:65535"} {
		a := mustPoolAddress(t, text)
		want := netip.MustParseAddrPort(text)
		if got, fresh := a.current(); !fresh || len(got) != 1 || got[0].addr != want {
			t.Errorf("%s: known is %v, fresh %v", text, got, fresh)
		}
	}
	for _, text := range []string{"", "host", "host:", "host:x", "host:65536", "host:-1", "::1:3333", "a:b:c"} {
		if a, err := newPoolAddress(text, &StratumServerInfo{}, newHealth()); err == nil {
			t.Errorf("%q counts as an address: %+v", text, a)
		}
	}
}

func TestPoolAddressName(t *testing.T) {
	a := mustPoolAddress(t, "localhost:3333")
	if ips, fresh := a.current(); fresh || len(ips) > 0 {
		t.Errorf("the address is known before it was looked up: %v", ips)
	}
	for _, e := range resolve(t, a) {
		if !e.addr.Addr().IsLoopback() || e.addr.Port() != 3333 {
			t.Errorf("localhost was looked up as %v", e)
		}
		if !a.leadsTo(e) || a.health.endpoint(e.addr) != e {
			t.Errorf("%v is not shared", e)
		}
	}
}

// The IP that connected last is tried first; IPv4 and IPv6 alternate after it.
func TestPoolAddressOrder(t *testing.T) {
	a := mustPoolAddress(t, "pool.invalid:25")
	for _, ip := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::4", "2001:db8::5"} {
		a.ips = append(a.ips, a.health.endpoint(netip.AddrPortFrom(netip.MustParseAddr(ip), a.port)))
	}
	order := func() (names []string) {
		ips, _ := a.current()
		for _, e := range ips {
			names = append(names, e.addr.Addr().String())
		}
		return names
	}
	if got, want := order(), []string{"192.0.2.1", "2001:db8::4", "192.0.2.2", "2001:db8::5", "192.0.2.3"}; !slices.Equal(got, want) {
		t.Errorf("before any connected, got %v, want %v", got, want)
	}
	for i, want := range [][]string{
		2: {"192.0.2.3", "2001:db8::4", "192.0.2.1", "2001:db8::5", "192.0.2.2"},
		4: {"2001:db8::5", "192.0.2.1", "2001:db8::4", "192.0.2.2", "192.0.2.3"},
	} {
		if want == nil {
			continue
		}
		try := a.health.begin(&dialer{account: &subAccount{}}, a.ips[i], false)
		try.connected()
		if got := order(); !slices.Equal(got, want) {
			t.Errorf("after %s connected, got %v, want %v", want[0], got, want)
		}
	}
}

// A lookup fails. The previous IPs stay in use, if there are any. Each change of
// the outcome is reported.
func TestPoolAddressLookupFails(t *testing.T) {
	a := mustPoolAddress(t, "no-such-pool.invalid:25")
	var told []bool
	a.health.lookedUp = func(_ *poolAddress, _ bool, err error) { told = append(told, err == nil) }
	for range 2 {
		if got := resolve(t, a); len(got) > 0 || a.lookupError() == nil {
			t.Errorf("the name leads to %v, want nothing", got)
		}
	}
	if a.state(true) != breakerOpen {
		t.Errorf("a name without an IP is %s", a.state(true))
	}
	before := a.health.endpoint(netip.MustParseAddrPort("192.0.2.1:25"))
	a.ips, a.until = []*endpoint{before}, time.Now().Add(-time.Second)
	if _, fresh := a.current(); fresh {
		t.Error("the address counts as fresh although its time is over")
	}
	if got := resolve(t, a); len(got) != 1 || got[0] != before {
		t.Errorf("got %v, want the previous IP", got)
	}
	if !slices.Equal(told, []bool{false}) {
		t.Errorf("got reports %v", told)
	}
}

// Many sessions that look up one name at the same time all get one answer each.
func TestPoolAddressSharedLookup(t *testing.T) {
	const sessions = 200
	a := mustPoolAddress(t, "localhost:3333")
	answers := make(chan struct{}, 2*sessions)
	var all sync.WaitGroup
	for range sessions {
		all.Go(func() { a.resolve(func() { answers <- struct{}{} }) })
	}
	all.Wait()
	for range sessions {
		select {
		case <-answers:
		case <-time.After(2 * resolveTimeout):
			t.Fatal("not all lookups are answered")
		}
	}
	if len(answers) > 0 {
		t.Error("somebody was answered twice")
	}
}
