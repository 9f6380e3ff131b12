package main

import (
	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// linkReady makes the prepared link the session's link. The order of its steps
// matters. The former link is retired before the new link's jobs are recorded,
// because only then is it known which job IDs are in use. The miner gets
// everything in one write before either side is read again, so that no line of
// the pool gets in between.
func (s *Session) linkReady(k *poolLink) {
	first, former := s.phase == phaseRouting, s.pool()
	s.rolling.Recheck()
	s.preparationDone(k)
	s.useLink(s.newLink(k))
	s.agent.open(s.link.tag, k.answersShares) // before greeting, which records its difficulties
	lines := s.firstLines(k, first)
	s.expectDifficulty(k, first)
	s.relay(lines)
	s.manager.linked(s, former)
	if first {
		s.recordConnected()
	}
	glog.V(2).Infof("%s mining coin=%q pool=%s", s, k.pool.coin, s.link.address.text)
	if wanted := s.manager.wantedPool(s); wanted != nil && wanted != s.link.pool {
		s.switchTo(wanted)
	}
}

// preparationDone releases what the link's preparation held, and records what its
// success proves.
func (s *Session) preparationDone(k *poolLink) {
	l := s.linking
	s.linking = nil
	l.stopped = true
	s.manager.gate.served(l.ticket)
	if k.attempt.ready() {
		s.manager.poolBack(k.attempt.at)
	}
	k.stopTimers()
	if s.phase == phaseReconnecting {
		s.unstable = uint8(min(l.tries, maxReconnects))
	}
}

// useLink makes next the link in use.
func (s *Session) useLink(next *link) {
	s.leaveEndpoint(false)
	s.stopAwaitingDifficulty()
	s.retireLink(next)
	former := s.link
	s.link = next
	s.moveAsked(former)
	s.finishDrainsTo(next)
	s.spareDescriptors()
}

// firstLines returns everything that the miner is sent about a new link: the answer to
// its authorization if it waits for one, the version mask and the extranonce if they have
// changed, and then the pool's own lines with difficulty and job.
func (s *Session) firstLines(k *poolLink, first bool) []byte {
	var out []byte
	if first && s.agent == nil {
		out = s.dialect().AppendForwarded(out, s.auth.id, k.answer)
	}
	if s.askedMask != 0 {
		if mask := s.askedMask & k.allowedMask; first || mask != s.sentMask {
			if !s.configureAhead { // otherwise the answer to mining.configure has the mask
				out = stratum.AppendVersionMask(out, mask)
			}
			s.recordSentMask(mask)
		}
	}
	if first && s.agent != nil {
		// Some agents ignore a mask that comes after this answer.
		out = s.dialect().AppendForwarded(out, s.auth.id, k.answer)
	}
	out = s.appendExtranonce(out, k.given, k.usePoolExtranonce)
	return append(out, k.greeting(!first)...)
}

// expectDifficulty makes sure that a miner that comes from another link gets a
// difficulty.
func (s *Session) expectDifficulty(k *poolLink, first bool) {
	if !first && !k.difficulty {
		s.awaitDifficulty()
	}
}

// relay starts to pass lines between the miner and the link in use. The miner gets lines
// first.
func (s *Session) relay(lines []byte) {
	s.phase = phaseRelaying
	s.endHandshake()
	s.miner.Write(lines)
	if s.miner.Congested() {
		s.link.socket.Pause(false)
	}
	if !s.link.socket.Congested() {
		s.miner.Resume()
	}
}

// switchTo moves the miner to another coin's pool. Until a link to that pool is
// ready, the miner keeps its present link.
func (s *Session) switchTo(p *pool) {
	switch s.phase {
	case phaseRouting:
		if s.linking != nil && s.linking.pool != p {
			s.connect(p)
		}
	case phaseRelaying, phaseSwitching:
		if p == s.link.pool {
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

// stay gives up a switch under way, because its coin is no longer wanted and no
// other coin with a pool is.
func (s *Session) stay() {
	if s.linking == nil || s.linking.pool == s.pool() {
		return
	}
	switch s.phase {
	case phaseSwitching:
		s.stopLinking()
		s.phase = phaseRelaying
	case phaseReconnecting:
		s.connect(s.link.pool)
	}
}
