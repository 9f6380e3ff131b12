package main

import (
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Each share is counted three times: for its session, for its sub-account and for
// the address of the pool that it was sent to. The counts of sessions are kept over
// upgrades; the others begin anew in each process.

// now is the time of the events that are being handled, in seconds since the
// manager was made. Loop only.
func (s *Session) now() uint32 {
	return uint32((s.loop.Age() + s.loop.madeAfter) / time.Second)
}

// countShare notes a share on its way to a pool.
func (s *Session) countShare(to *link) {
	s.shares.Submit(s.now())
	s.account.shares.Submit()
	to.shares().Submit()
}

// countAnswer notes a pool's answer to a share. generation is that of the
// share's job.
func (s *Session) countAnswer(from *link, generation hashrate.Generation, line []byte, sc *stratum.ScannedLine) {
	e := sc.Value(line, stratum.MemberError)
	accepted := stratum.Accepts(sc.Value(line, stratum.MemberResult), e)
	if generation&lateShare != 0 {
		s.countJudged(from, accepted)
	}
	if accepted {
		s.countAccepted(from, from.work.Difficulty(generation))
		return
	}
	s.countRefused(from, from.work.Difficulty(generation), hashrate.RefusalOf(e, line))
}

// countAccepted notes that a link's pool has accepted a share.
func (s *Session) countAccepted(from *link, d hashrate.Difficulty) {
	if from == s.link && from.trial != nil {
		s.becomeStable(true)
	}
	s.shares.Accept(d, s.now())
	s.account.shares.Accept(d)
	from.shares().Accept(d)
}

// countRefused notes that a link's pool has refused a share, or that the
// switcher had to.
func (s *Session) countRefused(from *link, d hashrate.Difficulty, why hashrate.Refusal) {
	s.shares.Refuse(why)
	s.account.shares.Refuse(d, why)
	from.shares().Refuse(d, why)
}

// countUnanswered notes that a link's pool will never say what it makes of a
// share that it has got.
func (s *Session) countUnanswered(from *link, late bool) {
	if late {
		s.countLate(lateUnanswered)
	}
	s.shares.Unanswered()
	s.account.shares.Unanswered()
	from.shares().Unanswered()
}

// lastShare is when the miner's last share came, in Unix seconds; 0: none has.
func (s *Session) lastShare() int64 {
	t := s.shares.Totals()
	if t.Submitted == 0 {
		return 0
	}
	return time.Now().Unix() - int64(s.manager.clock()-t.Last)
}

// shares are the counts of the pool address that the link leads to. Of one whose
// address is not known they are those of the pool's first.
func (l *link) shares() *hashrate.Counter {
	for i, a := range l.pool.addresses {
		if a == l.address {
			return &l.pool.links[i].shares
		}
	}
	return &l.pool.links[0].shares
}

// totals adds up the counts of the pool's addresses.
func (p *pool) totals() (t hashrate.Totals) {
	for i := range p.links {
		t = t.Plus(p.links[i].shares.Totals())
	}
	return t
}
