package main

import "sync/atomic"

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
func (s *Session) countVerdict(tag linkTag, line []byte) {
	sc := scanPoolLine(line)
	s.countShareAnswer(tag, accepts(sc.value(line, memberResult), sc.value(line, memberError)))
}

// countShareAnswer notes that a pool has answered a share.
func (s *Session) countShareAnswer(tag linkTag, accepted bool) {
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

// accepts reports whether an answer means that a share was accepted. Some pools
// answer with more than true.
func accepts(result, e []byte) bool {
	switch string(result) {
	case "true":
		return true
	case "", "null", "false":
		return false
	}
	return noError(e)
}
