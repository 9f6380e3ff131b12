package main

import (
	"bytes"
	"sync/atomic"
	"time"
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
	s.shares.last = time.Now().Unix()
	s.account.shares.submitted.Add(1)
	p.shares.submitted.Add(1)
}

// countVerdict notes a pool's answer to a share.
func (s *Session) countVerdict(tag linkTag, line []byte) {
	p := s.pool
	for _, d := range s.drains {
		if d.tag == tag {
			p = d.pool
		}
	}
	s.countVerdictOf(tag, p, bytes.HasPrefix(memberValue(line, resultKey), trueValue))
}

// countVerdictOf notes what p says of a share that a link was sent.
func (s *Session) countVerdictOf(tag linkTag, p *pool, accepted bool) {
	if accepted {
		s.shares.accepted++
		if s.trial != nil && tag == s.tag {
			s.becomeStable()
		}
		s.account.shares.accepted.Add(1)
		p.shares.accepted.Add(1)
		return
	}
	s.shares.refused++
	s.account.shares.refused.Add(1)
	p.shares.refused.Add(1)
}

var (
	resultKey = []byte(`"result"`)
	trueValue = []byte("true")
)
