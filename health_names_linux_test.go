//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// silentListener is an address that drops what would begin a connection, as a
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
	// Nobody accepts: when the queue is full, the kernel drops what comes.
	for {
		nc, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { nc.Close() })
	}
}

// A name leads to some IPs of which only one is well. All miners are served, at
// the latest after the time until the next IP joins; from then on that one goes
// first.
func TestNameWithDeadIPs(t *testing.T) {
	for _, c := range []struct {
		name string
		dead func(t *testing.T) []netip.AddrPort
		wait time.Duration // of the first miners
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
			pool := startChoosyPool(t, "btc", nil)
			backup := startChoosyPool(t, "backup", nil)
			accounts := manyAccounts("a", 5)
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.addr(), backup.addr()))
			a := sw.pools["btc"].addresses[0]
			a.mu.Lock()
			var ips []*endpoint
			for _, addr := range c.dead(t) {
				ips = append(ips, sw.health.endpoint(addr))
			}
			a.ips = append(ips, a.ips...)
			a.mu.Unlock()
			const miners = 20
			logins := make(chan *login, miners)
			for i := range miners {
				go func() { logins <- logIn(sw.addr, fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i), "raw/1.0") }()
			}
			for range miners {
				l := <-logins
				l.close()
				if l.pool != "btc" || l.took > c.wait+500*time.Millisecond {
					t.Errorf("pool %q after %v, answer %q", l.pool, l.took.Round(time.Millisecond), l.answer)
				}
			}
			for i := range 10 {
				l := logIn(sw.addr, fmt.Sprintf("%s.later%d", accounts[i%len(accounts)], i), "raw/1.0")
				l.close()
				if l.pool != "btc" || l.took > 300*time.Millisecond {
					t.Errorf("later: pool %q after %v, answer %q", l.pool, l.took.Round(time.Millisecond), l.answer)
				}
			}
			// The pool restarts: its miners do not go to the backup.
			crew := goodCrew(t, sw.addr, 10, accounts...)
			pool.dropServed()
			waitAllAccepted(t, crew, 2)
			checkServed(t, crew, "btc", true)
			if n := backup.total.Load(); n > 0 {
				t.Errorf("%d connections to the backup", n)
			}
		})
	}
}

// A pool moves to another IP: its name leads there, and nobody listens at the
// old one. Its miners are kept and follow. Then the name is not found any more,
// which nobody notices.
func TestNameThatChanges(t *testing.T) {
	t.Parallel()
	first := startPool(t, stratumtest.PoolOptions{Name: "first", SkipWork: true})
	port := netip.MustParseAddrPort(first.Addr()).Port()
	c := fileConfig()
	c.StratumServerMap["btc"] = StratumServerInfo{URL: fmt.Sprintf("pool.test:%d", port)}
	p := newProcess(t, t.TempDir())
	p.writeConfig(c)
	p.setCoins(map[string]string{"alice": "btc", "bob": "btc", "carol": "btc"})
	hosts := filepath.Join(p.dir, "hosts")
	setHosts := func(text string) {
		t.Helper()
		// In place, as it is bound to another path.
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	setHosts("127.0.0.1 localhost pool.test\n::1 pool.test\n")
	wrapper := filepath.Join(p.dir, "with-hosts")
	p.replace(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s /etc/hosts && exec %s \"$@\"' sh \"$@\"\n", hosts, p.binary), 0o755)
	p.binary = wrapper
	p.start("-logtostderr", "-v=1")
	crew := goodCrew(t, p.addr, 20, "alice", "bob", "carol")
	checkServed(t, crew, "first", false)

	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	second := serveChoosyPool(t, ln, "second", nil)
	setHosts("127.0.0.2 localhost pool.test\n")
	first.Close()
	moved := time.Now()
	for _, m := range crew {
		if err := m.WaitFor(longContext(t, 25*time.Second), func(st stratumtest.MinerStats) bool { return st.Pool == "second" || st.Disconnected }); err != nil {
			t.Fatalf("%s: %v", m.Worker(), err)
		}
	}
	t.Logf("all follow after %v", time.Since(moved).Round(10*time.Millisecond))
	checkServed(t, crew, "second", true)

	setHosts("127.0.0.1 localhost\n")
	time.Sleep(6 * time.Second) // what was read of the file is kept for 5 s
	second.dropServed()
	wantPrompt(t, p.addr, "alice.new", "second")
	waitAllAccepted(t, crew, 2)
	checkServed(t, crew, "second", true)
}
