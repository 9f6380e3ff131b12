package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// An address fails, and the failures are blamed on the user agent, because a link there
// seems to work: its loop still reads what arrived before the pool was gone. When the pause
// of the user agent is over, its miners do not leave the backup together to try the
// address. They all return when it works.
func TestFailoverBlamedOnUserAgent(t *testing.T) {
	t.Parallel()
	const miners = 60
	backup := miningPool(t, "backup", "")
	first := miningPool(t, "first", "")
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), nil, backups(first.Addr(), backup.Addr()))
	f := stratumtest.NewFleet(stratumtest.FleetOptions{N: miners, Addr: sw.addr, WorkerName: workerNames("alice"), SharesPerSecond: miners})
	t.Cleanup(f.Close)
	eventually(t, "all links at the first are stable", func() bool {
		stable := 0
		sw.eachSession(func(s *Session) {
			if s.phase == phaseRelaying && s.link.trial == nil {
				stable++
			}
		})
		return stable == miners
	})

	// All loops wait until somebody else listens at the address, so that all miners meet
	// the same failure.
	proceed := make(chan struct{})
	for _, l := range sw.loops {
		l.Post(func() { <-proceed })
	}
	first.Close()
	dead := startDeadPool(t, first.Addr(), false)
	h, e := sw.health, sw.health.endpoint(netip.MustParseAddrPort(first.Addr()))
	e.heardAt.Store(h.moment(time.Now().Add(time.Hour)))
	close(proceed)
	eventually(t, "all mine at the backup", func() bool { return sw.sessionsAt()[backup.Addr()] == miners })
	if sw.timesTakenOut() > 0 {
		t.Fatal("the failures were not blamed on the user agent")
	}
	before := dead.allDials()
	eventually(t, "the address has been tried again", func() bool { return dead.dials.Load()-dead.own >= before+2 })
	if tries := dead.allDials() - before; tries > miners/4 {
		t.Errorf("miners left the backup for the failing address %d times", tries)
	}

	e.heardAt.Store(0)
	dead.close()
	if err := first.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := f.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.ByPool["first"] == miners }); err != nil {
		t.Fatal(err)
	}
	if st := f.Stats(); st.Disconnected > 0 {
		t.Errorf("%d miners were disconnected", st.Disconnected)
	}
}
