//go:build linux && e2e && setclock

package e2e

import (
	"path"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// setClock sets the system's clock to d from what it would show if nobody had set
// it since began.
func setClock(t *testing.T, began time.Time, d time.Duration) {
	t.Helper()
	// Since uses the monotonic clock, and Unix the one that is set.
	now := unix.NsecToTimeval(began.Add(time.Since(began) + d).UnixNano())
	if err := unix.Settimeofday(&now); err != nil {
		t.Fatalf("set the clock: %v", err)
	}
}

// TestRealClockSet sets the clock of this machine back and forth under a daemon
// with miners and a ZooKeeper: shares are answered, coins change and upgrades work
// meanwhile, and no connection is lost. It needs root and puts the clock right at
// its end. Other programs may be disturbed, so the test has a build tag:
//
//	go test -tags e2e,setclock -run TestRealClockSet -v ./e2e
func TestRealClockSet(t *testing.T) {
	const miners, rate = 100, 200
	began := time.Now()
	t.Cleanup(func() { setClock(t, began, 0) })

	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	options := func(name string) stratumtest.PoolOptions {
		return stratumtest.PoolOptions{Name: name, SkipWork: true, ShareBits: 4, JobInterval: time.Second, CleanEvery: 1 << 30}
	}
	pools := []*stratumtest.Pool{testkit.StartPool(t, options("btc")), testkit.StartPool(t, options("bcc"))}
	c := daemontest.ZKConfig(server.Addr(), pools...)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	coin := path.Join(c.ZKSwitcherWatchDir, "alice")
	admin.Put(coin, "btc")
	p := daemontest.Start(t, c, nil)
	fleet := testkit.FleetOf(t, p.Addr, "alice", miners, rate, stratumtest.MinerOptions{CheatHash: true})
	const year = 365 * 24 * time.Hour
	for i, d := range []time.Duration{time.Hour, -time.Hour, 10 * year, -10 * year, 11 * time.Minute, 0} {
		setClock(t, began, d)
		target := pools[(i+1)%2]
		shares, before := fleet.Stats().Accepted, target.Stats().Accepted
		admin.Put(coin, target.Name())
		testkit.WaitUntil(t, "all miners at the other pool", func() bool { return target.Stats().Ready >= miners })
		err := fleet.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Accepted > shares+2*rate })
		if err != nil {
			t.Fatalf("clock off by %v: %v", d, err)
		}
		if target.Stats().Accepted == before {
			t.Errorf("clock off by %v: pool %s got no share", d, target.Name())
		}
		if i%2 == 1 {
			if _, lost, pause := p.Upgrade(); lost != "0" {
				t.Errorf("clock off by %v: %s sessions lost in the upgrade, pause %s ms", d, lost, pause)
			}
		}
		t.Logf("clock off by %v: %d shares so far, slowest answer %v", d, fleet.Stats().Accepted, fleet.Latency.Quantile(1))
	}
	testkit.WantNewMiner(t, p.Addr, "alice")
	testkit.CheckFleet(t, fleet, miners)
}
