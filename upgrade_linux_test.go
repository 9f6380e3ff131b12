//go:build linux && !portable_relay

package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func TestUpgradeUnderLoad(t *testing.T) {
	btc, bcc := twoPools(t)
	p := startProcess(t, fileConfig(btc, bcc), map[string]string{"*": "btc"})
	fleet := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: 200, Addr: p.addr, WorkerName: workerNames("alice"), SharesPerSecond: 500,
	})
	defer fleet.Close()
	if err := fleet.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		before := fleet.Stats().Accepted
		sessions, lost, pause := p.upgrade()
		t.Logf("sessions=%s lost=%s pause_ms=%s", sessions, lost, pause)
		if err := fleet.WaitFor(waitContext(t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+500 }); err != nil {
			t.Fatalf("%v: %+v", err, fleet.Stats())
		}
	}
	fleet.SetRate(0)
	if err := fleet.WaitFor(waitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Errorf("%v: %+v", err, fleet.Stats())
	}
	st := fleet.Stats()
	if st.Disconnected > 0 || st.Rejected > 0 || st.Doubled > 0 || st.OutOfOrder > 0 || st.Unknown > 0 || st.Violations > 0 {
		t.Errorf("%+v", st)
	}
	t.Logf("%+v", st)
}
