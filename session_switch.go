package main

import (
	"github.com/golang/glog"
)

// linkReady makes the prepared link the session's link. The miner sees one
// write: the answer to its authorization if it waits for one, the version mask
// if that changed, then what the pool said, difficulty and job.
func (s *Session) linkReady(k *poolLink) {
	l := s.linking
	s.linking = nil
	l.stopped = true
	s.manager.gate.served(l.ticket)
	if k.attempt.ready() {
		s.manager.poolBack(k.attempt.at)
	}
	k.stopTimers()

	first, from := s.phase == phaseRouting, s.pool
	if s.phase == phaseReconnecting {
		s.unstable = uint8(min(l.tries, maxReconnects))
	}
	s.leaveEndpoint(false)
	s.endpoint, s.trial = k.attempt.at, k.attempt
	s.retireUpstream(k.pool)
	s.finishDrainsTo(k.pool, l.address)

	var out []byte
	if first && s.agent == nil {
		out = s.dialect().appendForwarded(out, s.auth.id, k.answer)
	}
	if s.askedMask != 0 {
		if mask := s.askedMask & k.allowedMask; first || mask != s.sentMask {
			if !s.configureAhead { // else the answer to that tells it
				out = appendVersionMask(out, mask)
			}
			s.sentMask = mask
		}
	}
	if first && s.agent != nil {
		// Some agents heed the mask only until they have this answer.
		out = s.dialect().appendForwarded(out, s.auth.id, k.answer)
	}
	out = s.tellExtranonce(out, k.given, k.own)
	out = append(out, k.greeting(!first)...)

	s.rules = k.rules
	s.upstream, s.pool, s.address, s.suffixed = k.socket, k.pool, l.address, k.suffixed
	s.spareDescriptors()
	s.jobSeen = s.manager.clock()
	s.tag++
	s.ownAnswers, s.own = 0, k.unanswered()
	s.agent.open(s.tag, k.answersShares)
	s.difficultyTold()
	if !first && !k.difficulty {
		s.awaitDifficulty()
	}
	s.phase = phaseRelaying
	s.endHandshake()
	s.miner.write(out)
	if s.miner.congested() {
		s.upstream.pause(false)
	}
	if !s.upstream.congested() {
		s.miner.resume()
	}
	s.manager.linked(s, from)
	glog.V(2).Infof("%s mining coin=%q pool=%s", s, k.pool.coin, s.address.text)
	if wanted := s.manager.wantedPool(s); wanted != nil && wanted != s.pool {
		s.switchTo(wanted)
	}
}

// switchTo moves the miner to another coin's pool. Until a link to that pool
// is ready, the miner goes on where it is.
func (s *Session) switchTo(p *pool) {
	switch s.phase {
	case phaseRouting:
		if s.linking != nil && s.linking.pool != p {
			s.connect(p)
		}
	case phaseRelaying, phaseSwitching:
		if p == s.pool {
			if s.linking != nil && s.linking.once {
				return
			}
			s.stopLinking()
			s.phase = phaseRelaying
			return
		}
		if s.linking != nil && s.linking.pool == p && !s.linking.once {
			return
		}
		s.phase = phaseSwitching
		s.connect(p)
	case phaseReconnecting:
		if s.linking != nil && s.linking.pool != p {
			s.connect(p)
		}
	}
}

// stay gives up a switch under way: its coin is not wanted any more, and there
// is no other to go to.
func (s *Session) stay() {
	if s.linking == nil || s.linking.pool == s.pool {
		return
	}
	switch s.phase {
	case phaseSwitching:
		s.stopLinking()
		s.phase = phaseRelaying
	case phaseReconnecting:
		s.connect(s.pool)
	}
}
