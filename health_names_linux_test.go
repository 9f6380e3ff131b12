//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// silentListener returns an address that drops the beginning of a connection, as a
// host does that is switched off.
func silentListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	addr, err := relay.LocalAddr(fd)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody accepts. When the queue is full, the kernel drops further connections.
	for {
		nc, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { nc.Close() })
	}
}

// A name leads to several IPs of which only one works. All miners are served, at
// the latest when the next IP is tried as well. From then on the working one is
// tried first.
func TestNameWithDeadIPs(t *testing.T) {
	for _, c := range []struct {
		name string
		dead func(t *testing.T) []netip.AddrPort
		wait time.Duration // how long the first miners may wait
	}{
		{"one refuses", func(t *testing.T) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(unusedAddr(t))} }, 500 * time.Millisecond},
		{"IPv6 refuses", func(t *testing.T) []netip.AddrPort {
			port := netip.MustParseAddrPort(unusedAddr(t)).Port()
			return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Loopback(), port)}
		}, 500 * time.Millisecond},
		{"no route", func(*testing.T) []netip.AddrPort {
			return []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:3333")}
		}, 1500 * time.Millisecond},
		{"one never answers", func(t *testing.T) []netip.AddrPort { return []netip.AddrPort{silentListener(t)} }, raceDelay + 500*time.Millisecond},
		{"two never answer", func(t *testing.T) []netip.AddrPort {
			return []netip.AddrPort{silentListener(t), silentListener(t)}
		}, 2*raceDelay + 500*time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := testkit.StartChoosyPool(t, "btc", nil)
			backup := testkit.StartChoosyPool(t, "backup", nil)
			accounts := testkit.ManyAccounts("a", 5)
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr(), backup.Addr()))
			a := sw.pools["btc"].addresses[0]
			a.mu.Lock()
			var ips []*endpoint
			for _, addr := range c.dead(t) {
				ips = append(ips, sw.health.endpoint(addr))
			}
			a.ips = append(ips, a.ips...)
			a.mu.Unlock()
			const miners = 20
			logins := make(chan *testkit.Login, miners)
			delay := testkit.MeasureDelay(t)
			for i := range miners {
				go func() {
					logins <- testkit.LogIn(sw.addr, fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i), "raw/1.0")
				}()
			}
			var first []*testkit.Login
			for range miners {
				l := <-logins
				l.Close()
				first = append(first, l)
			}
			limit := c.wait + 500*time.Millisecond + delay()
			for _, l := range first {
				if l.Pool != "btc" || l.Took > limit {
					t.Errorf("a miner got to pool %q after %v, with answer %q", l.Pool, l.Took.Round(time.Millisecond), l.Answer)
				}
			}
			for i := range 10 {
				delay := testkit.MeasureDelay(t)
				l := testkit.LogIn(sw.addr, fmt.Sprintf("%s.later%d", accounts[i%len(accounts)], i), "raw/1.0")
				l.Close()
				if l.Pool != "btc" || l.Took > 300*time.Millisecond+delay() {
					t.Errorf("a later miner got to pool %q after %v, with answer %q", l.Pool, l.Took.Round(time.Millisecond), l.Answer)
				}
			}
			// The pool restarts. Its miners do not go to the backup.
			crew := testkit.GoodCrew(t, sw.addr, 10, accounts...)
			pool.DropServed()
			testkit.WaitAllAccepted(t, crew, 2)
			testkit.CheckServed(t, crew, "btc", true)
			if n := backup.Total.Load(); n > 0 {
				t.Errorf("there were %d connections to the backup, want none", n)
			}
		})
	}
}
