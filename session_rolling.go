package main

import (
	"fmt"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Miners that have lost version rolling (BIP 310) are counted and shown. With
// ReconnectOnLostVersionRolling, they are closed after a switch. stratum.Rolling finds
// them. Agents are left out, because each of their miners rolls in its own way.

const (
	// rollingWatchEvery is how often, in seconds, a miner that rolls is checked again
	// while nothing changes.
	rollingWatchEvery = 60

	// rollingBatch is how many miners a loop closes at a time.
	rollingBatch = 50
)

// rolls checks the version bits of a share for the link in use. It does no work once a
// miner has proved that it rolls.
func (s *Session) rolls(share []byte) {
	if !s.rolling.NeedsShare() || s.askedMask == 0 || s.agent != nil {
		return
	}
	if s.rolling.ObserveShare(share) {
		s.lostRolling(stratum.RollingStopped)
	}
}

// recordSentMask records a version mask that the miner is sent.
func (s *Session) recordSentMask(mask uint32) {
	before := s.sentMask
	s.sentMask = mask
	if before == anyBits || s.agent != nil {
		s.rolling.Recheck()
		return // the mask that the miner had before is not known
	}
	if s.rolling.ObserveMask(before, mask) {
		s.lostRolling(stratum.RollingNarrower)
	}
}

func (s *Session) lostRolling(how stratum.RollingLoss) {
	glog.V(2).Infof("%s lost version rolling coin=%q mask=%08x: %s", s, s.link.pool.coin, s.sentMask, how)
	s.manager.monitor.rollingLost.WithLabelValues(s.link.pool.coin, how.String()).Inc()
}

// negotiateAnew closes the connection of a miner that has lost version rolling because of a
// switch, so that the miner reconnects and negotiates it again. It reports whether it did.
// left is how many more may be closed in this sweep, because all of them reconnect at once.
func (s *Session) negotiateAnew(left *int) bool {
	loss := s.rolling.Loss()
	switch {
	case loss == stratum.RollingKept, s.link.tag == firstTag, *left == 0:
		return false
	case len(s.drains) > 0 || s.owes(s.link):
		return false // there are answers to come
	}
	*left--
	s.manager.monitor.rollingClosed.WithLabelValues(s.link.pool.coin).Inc()
	s.close(fmt.Sprintf("it has lost version rolling (%s) and has to negotiate it again", loss))
	return true
}
