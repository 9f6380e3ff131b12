package main

import (
	"bytes"
	"sync/atomic"
	"time"
)

// shareCounts counts shares, of a coin or a sub-account. They count from the
// start of the process. Shares that agents send in binary messages are counted
// as submitted only.
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
	if bytes.HasPrefix(memberValue(line, resultKey), trueValue) {
		s.shares.accepted++
		if s.trial != nil && tag == s.tag {
			s.becomeStable(true)
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
