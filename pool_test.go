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
	a, err := newPoolAddress(hostPort)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type resolved struct {
	addr netip.AddrPort
	err  error
}

func resolve(t *testing.T, a *poolAddress) resolved {
	t.Helper()
	found := make(chan resolved, 2)
	a.resolve(func(addr netip.AddrPort, err error) { found <- resolved{addr, err} })
	select {
	case r := <-found:
		return r
	case <-time.After(2 * resolveTimeout):
		t.Fatalf("%s: no answer", a.text)
		return resolved{}
	}
}

func TestPoolAddressLiteral(t *testing.T) {
	for _, text := range []string{"127.0.0.1:3333", "[::1]:3333", "[fe80::1%1]:65535"} {
		a := mustPoolAddress(t, text)
		want := netip.MustParseAddrPort(text)
		for range 2 {
			if got, ok := a.known(); !ok || got != want {
				t.Errorf("%s: known %v, %v", text, got, ok)
			}
			if got := resolve(t, a); got.err != nil || got.addr != want {
				t.Errorf("%s: %v, %v", text, got.addr, got.err)
			}
		}
	}
	for _, text := range []string{"", "host", "host:", "host:x", "host:65536", "host:-1", "::1:3333", "a:b:c"} {
		if a, err := newPoolAddress(text); err == nil {
			t.Errorf("%q is an address: %+v", text, a)
		}
	}
}

func TestPoolAddressName(t *testing.T) {
	a := mustPoolAddress(t, "localhost:3333")
	if addr, ok := a.known(); ok {
		t.Errorf("known before it was looked up: %v", addr)
	}
	got := resolve(t, a)
	if got.err != nil || !got.addr.Addr().IsLoopback() || got.addr.Port() != 3333 {
		t.Errorf("localhost: %v, %v", got.addr, got.err)
	}
	if _, ok := a.known(); !ok {
		t.Error("not known after it was looked up")
	}
}

// Each address of a pool has its turn.
func TestPoolAddressTurns(t *testing.T) {
	a := mustPoolAddress(t, "pool.invalid:25")
	for _, ip := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::3"} {
		a.ips = append(a.ips, netip.MustParseAddr(ip))
	}
	a.until = time.Now().Add(time.Hour)
	for _, next := range []func() netip.Addr{
		func() netip.Addr { addr, _ := a.known(); return addr.Addr() },
		func() netip.Addr { return resolve(t, a).addr.Addr() },
	} {
		var got []netip.Addr
		for range a.ips {
			got = append(got, next())
		}
		for _, ip := range a.ips {
			if !slices.Contains(got, ip) {
				t.Errorf("%v never had its turn: %v", ip, got)
			}
		}
	}
}

// A look-up that fails: the addresses of before serve on, if there are any.
func TestPoolAddressLookupFails(t *testing.T) {
	a := mustPoolAddress(t, "no-such-pool.invalid:25")
	if got := resolve(t, a); got.err == nil {
		t.Errorf("found at %v", got.addr)
	}
	if _, ok := a.known(); ok {
		t.Error("known after a failed look-up")
	}
	before := netip.MustParseAddr("192.0.2.1")
	a.ips, a.until = []netip.Addr{before}, time.Now().Add(-time.Second)
	if addr, ok := a.known(); ok {
		t.Errorf("%v is known though its time is over", addr)
	}
	if got := resolve(t, a); got.err != nil || got.addr.Addr() != before {
		t.Errorf("%v, %v; want the address of before", got.addr, got.err)
	}
	if _, ok := a.known(); !ok {
		t.Error("the address of before does not serve on")
	}
}

// Many that want one name at a time all get an answer, once.
func TestPoolAddressSharedLookup(t *testing.T) {
	const sessions = 200
	a := mustPoolAddress(t, "localhost:3333")
	answers := make(chan resolved, 2*sessions)
	var all sync.WaitGroup
	for range sessions {
		all.Go(func() {
			a.resolve(func(addr netip.AddrPort, err error) { answers <- resolved{addr, err} })
		})
	}
	all.Wait()
	for range sessions {
		select {
		case got := <-answers:
			if got.err != nil || !got.addr.Addr().IsLoopback() {
				t.Fatalf("%v, %v", got.addr, got.err)
			}
		case <-time.After(2 * resolveTimeout):
			t.Fatal("not all are answered")
		}
	}
	if len(answers) > 0 {
		t.Error("somebody was answered twice")
	}
}
