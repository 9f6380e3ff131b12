package main

import (
	"fmt"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Miners that have lost version rolling (BIP 310) are counted, shown and, if the
// configuration wants it, closed after a switch. stratum.Rolling finds them.
// Agents' miners roll on their own, each in its own way: they are left out.

const (
	// rollingWatchEvery is how often, in seconds, a miner that rolls is looked at
	// while nothing changes.
	rollingWatchEvery = 60

	// rollingBatch is how many miners a loop closes at a time.
	rollingBatch = 50
)

// rolls notes what the version bits of a share for the link in use say. It costs
// nothing once a miner has proved that it rolls.
func (s *Session) rolls(share []byte) {
	if !s.rolling.Looks() || s.askedMask == 0 || s.agent != nil {
		return
	}
	if s.rolling.Share(share) {
		s.lostRolling(stratum.RollingStopped)
	}
}

// maskTold notes a version mask that the miner is told.
func (s *Session) maskTold(mask uint32) {
	before := s.sentMask
	s.sentMask = mask
	if before == anyBits || s.agent != nil {
		s.rolling.Watch()
		return // what it was told before is not known
	}
	if s.rolling.Mask(before, mask) {
		s.lostRolling(stratum.RollingNarrower)
	}
}

func (s *Session) lostRolling(how stratum.RollingLoss) {
	glog.V(2).Infof("%s lost version rolling coin=%q mask=%08x: %s", s, s.link.pool.coin, s.sentMask, how)
	s.manager.monitor.rollingLost.WithLabelValues(s.link.pool.coin, how.String()).Inc()
}

// negotiateAnew closes a miner that has lost version rolling by a switch, so that
// it connects and asks for it again. It reports whether it did. left is how many
// more may be closed in this round: they all connect at once.
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
	s.close(fmt.Sprintf("it has lost version rolling (%s), and is to negotiate anew", loss))
	return true
}
