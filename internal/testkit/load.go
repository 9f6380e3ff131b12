package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// FleetOf is a fleet that is authorized, behind the daemon.
func FleetOf(t *testing.T, addr, account string, n int, rate float64, miner stratumtest.MinerOptions) *stratumtest.Fleet {
	t.Helper()
	f := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: n, Addr: addr, WorkerName: WorkerNames(account), SharesPerSecond: rate, Miner: miner,
	})
	t.Cleanup(f.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := f.WaitAuthorized(ctx); err != nil {
		t.Fatalf("miners of %s: %v; %v", account, err, f.DialErrors())
	}
	return f
}

// SettleFleet stops the shares and wants all answered.
func SettleFleet(t *testing.T, f *stratumtest.Fleet) stratumtest.FleetStats {
	t.Helper()
	f.SetRate(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.WaitFor(ctx, func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Errorf("%d shares unanswered", f.Stats().Unanswered)
	}
	st := f.Stats()
	if st.Disconnected > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Violations > 0 || st.DialErrors > 0 {
		t.Errorf("disconnected %d, doubled %d, unknown %d, violations %q", st.Disconnected, st.Doubled, st.Unknown, st.SomeViolations)
	}
	return st
}
