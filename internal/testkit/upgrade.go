package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// upgradeWait is how long these tests wait for what should happen at once: a
// daemon with race detector on a busy machine takes its time.
const LongWait = 25 * time.Second

func LongWaitContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), LongWait)
	t.Cleanup(cancel)
	return ctx
}

// CheckFleet fails the test if a miner lost its connection or a share, or got
// answers doubled or in another order.
func CheckFleet(t *testing.T, f *stratumtest.Fleet, miners int) {
	t.Helper()
	f.SetRate(0)
	if err := f.WaitFor(LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Error(err)
	}
	st := f.Stats()
	if st.Miners != miners || st.DialErrors > 0 || st.Disconnected > 0 || st.Rejected > 0 || st.Doubled > 0 || st.OutOfOrder > 0 ||
		st.Unknown > 0 || st.Violations > 0 || st.Accepted != st.Submitted {
		t.Errorf("%+v", st)
	}
	t.Logf("%d miners, %d shares, slowest answer %v", st.Miners, st.Accepted, f.Latency.Quantile(1))
}
