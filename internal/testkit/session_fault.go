package testkit

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func WaitConnections(t *testing.T, p *stratumtest.Pool, n int) {
	t.Helper()
	if err := p.WaitFor(WaitContext(t), func(st stratumtest.PoolStats) bool { return st.Connections == n }); err != nil {
		t.Fatalf("pool %s: %v; %+v", p.Name(), err, p.Stats())
	}
}
