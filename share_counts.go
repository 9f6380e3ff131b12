package main

import (
	"sync/atomic"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// shareCounts counts shares, of a coin or a sub-account. They count from the
// start of the process. Shares that no pool answers are counted as submitted
// only: those of agents that ask for no answers, or at pools that give none.
type shareCounts struct {
	submitted atomic.Uint64
	accepted  atomic.Uint64
	refused   atomic.Uint64
}

// minerShares counts one session's shares.
type minerShares struct {
	submitted, accepted, refused uint32
	last                         int64 // when the last one came, Unix seconds
}

// countShare notes a share on its way to p.
func (s *Session) countShare(p *pool) {
	s.shares.submitted++
	s.shares.last = s.loop.Time() / 1e9
	s.account.shares.submitted.Add(1)
	p.shares.submitted.Add(1)
}

// countVerdict notes a pool's answer to a share.
func (s *Session) countVerdict(tag stratum.LinkTag, line []byte) {
	sc := stratum.ScanPoolLine(line)
	s.countShareAnswer(tag, stratum.Accepts(sc.Value(line, stratum.MemberResult), sc.Value(line, stratum.MemberError)))
}

// countShareAnswer notes that a pool has answered a share.
func (s *Session) countShareAnswer(tag stratum.LinkTag, accepted bool) {
	s.countVerdictOf(s.linkTagged(tag), accepted)
}

// countVerdictOf notes what a link's pool says of a share that it was sent.
func (s *Session) countVerdictOf(from *link, accepted bool) {
	if accepted {
		s.shares.accepted++
		if from == s.link && from.trial != nil {
			s.becomeStable(true)
		}
		s.account.shares.accepted.Add(1)
		from.pool.shares.accepted.Add(1)
		return
	}
	s.shares.refused++
	s.account.shares.refused.Add(1)
	from.pool.shares.refused.Add(1)
}
