//go:build linux && e2e

package e2e

import (
	"flag"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

var collidingFor = flag.Duration("colliding", 18*time.Second, "for how long TestSamePoolCountersFleet runs")

// Two pools number their jobs in the same way, and all miners are moved between
// them again and again. No share is refused because of its job. The same holds at
// pools that pick the extranonce.
func TestSamePoolCountersFleet(t *testing.T) {
	for _, c := range []struct {
		name string
		own  *stratumtest.OwnExtranonce
	}{{"session", nil}, {"pool", &stratumtest.OwnExtranonce{Len: 4, Size: 8}}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fleetBetweenSameCounters(t, c.own)
		})
	}
}

func fleetBetweenSameCounters(t *testing.T, own *stratumtest.OwnExtranonce) {
	const miners, rate, every = 100, 2000, 3 * time.Second
	var pools []*stratumtest.Pool
	for _, name := range []string{"btc", "bcc"} {
		pools = append(pools, testkit.StartPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 4, JobIDs: stratumtest.JobIDCounting, Own: own}))
	}
	c := daemontest.FileConfig(pools...)
	if own != nil {
		c.PoolsPick(pools...)
	}
	p := daemontest.Start(t, c, map[string]string{"fleet": "btc"})
	f := stratumtest.NewFleet(stratumtest.FleetOptions{N: miners, Addr: p.Addr, SharesPerSecond: rate,
		Miner: stratumtest.MinerOptions{LateShares: 1, LateAfter: 50 * time.Millisecond}})
	defer f.Close()
	if err := f.WaitAuthorized(testkit.LongWaitContext(t)); err != nil {
		t.Fatal(err)
	}
	jobs, switches := time.NewTicker(100*time.Millisecond), time.NewTicker(every)
	defer jobs.Stop()
	defer switches.Stop()
	// On a busy machine, shares take longer than intended.
	enough := uint64(collidingFor.Seconds()*rate) * 7 / 10
	end, latest := time.Now().Add(*collidingFor), time.Now().Add(4**collidingFor)
	for coin := 0; time.Now().Before(end) || f.Stats().Submitted < enough && time.Now().Before(latest); {
		select {
		case <-jobs.C:
			for _, pool := range pools {
				pool.NewJob(false)
			}
		case <-switches.C:
			coin = 1 - coin
			p.SetCoins(map[string]string{"fleet": pools[coin].Name()})
		}
	}
	f.SetRate(0)
	if err := f.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Error(err)
	}
	st := f.Stats()
	t.Logf("%d shares, %d accepted, refused %v", st.Submitted, st.Accepted, st.RejectedByCode)
	if st.Rejected > 0 || st.Disconnected > 0 || st.Violations > 0 || st.Submitted < enough {
		t.Errorf("unexpected statistics of the fleet: %+v", st)
	}
	for _, pool := range pools {
		for _, r := range pool.Rejects()[:min(3, len(pool.Rejects()))] {
			t.Errorf("pool %s refused a share: %+v", pool.Name(), r)
		}
	}
}
