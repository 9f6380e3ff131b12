//go:build linux && !portable_relay

package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A pool that is lost between the start of the loops and begin is reconnected once,
// not twice.
func TestUpgradePoolLostBeforeBegin(t *testing.T) {
	btc, _ := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, nil)
	startMiners(t, sw.addr, "alice", 1)
	btc.Close()
	waitUntil(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
	sw.eachSession(func(s *Session) {
		before := s.linking
		s.begin()
		if before == nil || s.linking != before {
			t.Errorf("the link in preparation was %p, but is now %p", before, s.linking)
		}
	})
}
