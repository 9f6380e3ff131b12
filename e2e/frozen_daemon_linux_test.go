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

// The daemon is stopped for longer than a pool may be silent, as if the clock had
// jumped or the machine had slept. What the pools have sent meanwhile waits in the
// sockets, so no link is given up.
func TestFrozenDaemonKeepsLinks(t *testing.T) {
	t.Parallel()
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, JobInterval: 500 * time.Millisecond, CleanEvery: 1 << 30})
	c := daemontest.FileConfig(btc)
	c.PoolIdleSeconds = 4 // on a busy machine a pool may be late with a job
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	const miners = 1000 // more than a loop handles before it looks at its timers again
	f := testkit.FleetOf(t, p.Addr, "alice", miners, 500, stratumtest.MinerOptions{CheatHash: true})
	for range 2 {
		p.Signal(syscall.SIGSTOP)
		time.Sleep(5 * time.Second) // the elapsed time is the fault itself, so nothing can be awaited
		p.Signal(syscall.SIGCONT)
		before := f.Stats().Accepted
		err := f.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+miners })
		if err != nil {
			t.Fatal(err)
		}
	}
	if st := testkit.SettleFleet(t, f); st.Rejected > 0 {
		t.Errorf("of %d shares %d were rejected, want none: %v", st.Submitted, st.Rejected, st.RejectedByCode)
	}
	if n := btc.Stats().ConnectionsTotal; n != miners {
		t.Errorf("%d connections to the pool were made for %d miners, want one each", n, miners)
	}
	testkit.CheckPool(t, btc)
}
