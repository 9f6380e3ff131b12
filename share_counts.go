package main

import (
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Each share is counted three times: for its session, for its sub-account and for
// the address of the pool that it was sent to. The counts of sessions survive
// upgrades; the others begin at zero in each process.

// now returns the time of the events that are being handled, in seconds since the
// manager was created. It must be called on the session's loop.
func (s *Session) now() uint32 {
	return uint32((s.loop.Age() + s.loop.madeAfter) / time.Second)
}

// countShare counts a share that is about to be sent to a pool.
func (s *Session) countShare(to *link) {
	s.shares.Submit(s.now())
	s.account.shares.Submit()
	to.shares().Submit()
}

// countAnswer counts a pool's answer to a share. generation is that of the
// difficulty of the share's job.
func (s *Session) countAnswer(from *link, generation hashrate.Generation, line []byte, sc *stratum.ScannedLine) {
	e := sc.Value(line, stratum.MemberError)
	accepted := stratum.Accepts(sc.Value(line, stratum.MemberResult), e)
	if generation&lateShare != 0 {
		s.countLateAnswer(from, accepted)
	}
	if accepted {
		s.countAccepted(from, from.work.Difficulty(generation))
		return
	}
	s.countRefused(from, from.work.Difficulty(generation), hashrate.RefusalOf(e, line))
}

// countAccepted counts a share that a link's pool has accepted.
func (s *Session) countAccepted(from *link, d hashrate.Difficulty) {
	if from == s.link && from.trial != nil {
		s.becomeStable(true)
	}
	s.shares.Accept(d, s.now())
	s.account.shares.Accept(d)
	from.shares().Accept(d)
}

// countRefused counts a share that a link's pool has refused, or that the switcher
// refused in its place.
func (s *Session) countRefused(from *link, d hashrate.Difficulty, why hashrate.Refusal) {
	s.shares.Refuse(why)
	s.account.shares.Refuse(d, why)
	from.shares().Refuse(d, why)
}

// countUnanswered counts a share that was sent to a link's pool and that the pool
// will never answer.
func (s *Session) countUnanswered(from *link, late bool) {
	if late {
		s.countLate(lateUnanswered)
	}
	s.shares.Unanswered()
	s.account.shares.Unanswered()
	from.shares().Unanswered()
}

// lastShare returns when the miner's last share came, in Unix seconds, or 0 if none
// has.
func (s *Session) lastShare() int64 {
	t := s.shares.Totals()
	if t.Submitted == 0 {
		return 0
	}
	return time.Now().Unix() - int64(s.manager.clock()-t.Last)
}

// shares returns the counts of the pool address that the link leads to. If the
// address is not known, it returns those of the pool's first address.
func (l *link) shares() *hashrate.Counter {
	for i, a := range l.pool.addresses {
		if a == l.address {
			return &l.pool.links[i].shares
		}
	}
	return &l.pool.links[0].shares
}

// totals returns the sum of the counts of the pool's addresses.
func (p *pool) totals() (t hashrate.Totals) {
	for i := range p.links {
		t = t.Plus(p.links[i].shares.Totals())
	}
	return t
}
