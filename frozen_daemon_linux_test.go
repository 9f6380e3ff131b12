//go:build linux && !portable_relay

package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// The daemon does not run for longer than a pool may be silent, as if the clock
// had jumped or the machine had slept. What the pools said meanwhile lies in the
// sockets: no link is given up.
func TestFrozenDaemonKeepsLinks(t *testing.T) {
	t.Parallel()
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, JobInterval: 500 * time.Millisecond, CleanEvery: 1 << 30})
	c := fileConfig(btc)
	c.PoolIdleSeconds = 2
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	const miners = 1000 // more than a loop handles between two looks at its timers
	f := fleetOf(t, p.addr, "alice", miners, 500, stratumtest.MinerOptions{CheatHash: true})
	for range 2 {
		p.signal(syscall.SIGSTOP)
		time.Sleep(4 * time.Second) // nothing can be awaited: the time is the fault
		p.signal(syscall.SIGCONT)
		before := f.Stats().Accepted
		err := f.WaitFor(upgradeCtx(t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+miners })
		if err != nil {
			t.Fatal(err)
		}
	}
	if st := settleFleet(t, f); st.Rejected > 0 {
		t.Errorf("of %d shares %d were rejected: %v", st.Submitted, st.Rejected, st.RejectedByCode)
	}
	if n := btc.Stats().ConnectionsTotal; n != miners {
		t.Errorf("%d connections to the pool for %d miners", n, miners)
	}
	checkPool(t, btc)
}
