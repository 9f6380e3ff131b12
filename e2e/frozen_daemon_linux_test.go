//go:build linux && e2e

package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// The daemon does not run for longer than a pool may be silent, as if the clock
// had jumped or the machine had slept. What the pools said meanwhile lies in the
// sockets: no link is given up.
func TestFrozenDaemonKeepsLinks(t *testing.T) {
	t.Parallel()
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, JobInterval: 500 * time.Millisecond, CleanEvery: 1 << 30})
	c := daemontest.FileConfig(btc)
	c.PoolIdleSeconds = 2
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	const miners = 1000 // more than a loop handles between two looks at its timers
	f := testkit.FleetOf(t, p.Addr, "alice", miners, 500, stratumtest.MinerOptions{CheatHash: true})
	for range 2 {
		p.Signal(syscall.SIGSTOP)
		time.Sleep(4 * time.Second) // nothing can be awaited: the time is the fault
		p.Signal(syscall.SIGCONT)
		before := f.Stats().Accepted
		err := f.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+miners })
		if err != nil {
			t.Fatal(err)
		}
	}
	if st := testkit.SettleFleet(t, f); st.Rejected > 0 {
		t.Errorf("of %d shares %d were rejected: %v", st.Submitted, st.Rejected, st.RejectedByCode)
	}
	if n := btc.Stats().ConnectionsTotal; n != miners {
		t.Errorf("%d connections to the pool for %d miners", n, miners)
	}
	testkit.CheckPool(t, btc)
}
