package testkit

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	RawSubscribe = `{"id":1,"method":"mining.subscribe","params":["raw/1.0"]}`
	RawAuthorize = `{"id":2,"method":"mining.authorize","params":["alice.1","x"]}`
)

// DialSubscribed connects a miner that has subscribed.
func DialSubscribed(t *testing.T, addr string) *stratumtest.Raw {
	t.Helper()
	r := stratumtest.DialRaw(t, addr)
	r.SendLine(RawSubscribe)
	r.Line(stratumtest.Patience)
	return r
}

// CheckFaults wants no fault at the pool; rejected shares are no fault.
func CheckFaults(t *testing.T, p *stratumtest.Pool) {
	t.Helper()
	if faults := p.Faults(); len(faults) > 0 {
		t.Errorf("pool %s: faults %q", p.Name(), faults)
	}
}
