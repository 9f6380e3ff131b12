//go:build linux

package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A name has an IP that is silent, and one that is out or refuses connections for a
// moment when the name is dialled. A miner need not wait for the silent one when
// the other is back.
func TestPoolDialTriesAnIPThatIsBack(t *testing.T) {
	t.Parallel()
	t.Run("out", func(t *testing.T) {
		poolDialBack(t, func(sw *testSwitcher, live *endpoint, _ *stratumtest.Pool) func() {
			sw.health.mu.Lock()
			defer sw.health.mu.Unlock()
			live.breaker.trip(time.Now(), breakerPauseSilent, standingAll)
			return func() {}
		})
	})
	t.Run("refused", func(t *testing.T) {
		poolDialBack(t, func(sw *testSwitcher, _ *endpoint, pool *stratumtest.Pool) func() {
			pool.Close()
			return func() {
				eventually(t, "it has refused", func() bool { return sw.pools["btc"].links[0].failed[linkNotConnected].Load() > 0 })
				if err := pool.Restart(); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

func poolDialBack(t *testing.T, begin func(sw *testSwitcher, live *endpoint, pool *stratumtest.Pool) (end func())) {
	t.Helper()
	t.Parallel()
	pool := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{pool}, nil)
	a := sw.pools["btc"].addresses[0]
	live := a.ips[0]
	silent := sw.health.endpoint(silentAddr(t, live.addr.Port()))
	a.mu.Lock()
	a.named, a.ips, a.until = true, []*endpoint{silent, live}, time.Now().Add(time.Minute)
	a.mu.Unlock()
	end := begin(sw, live, pool)

	began := time.Now()
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1", Rate: 20})
	end()
	waitAccepted(t, m, 1)
	t.Logf("served after %v", time.Since(began).Round(time.Millisecond))
	checkMiner(t, m)
}

// silentAddr returns a loopback address with this port where connections are never
// answered, because its listener has no room for them.
func silentAddr(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(port)}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		conn, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatalf("%s takes any number of connections", addr)
	return addr
}
