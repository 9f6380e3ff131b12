package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/golang/glog"
)

// maxRenewals is how often in a minute a pool's client.reconnect is heeded: one
// that says so on every connection would be dialled without end.
const maxRenewals = 5

func (s *Session) mayRenew() bool {
	if now := s.manager.clock(); now-s.renewedAt >= 60 {
		s.renewedAt, s.renewals = now, 0
	}
	if s.renewals == maxRenewals {
		return false
	}
	s.renewals++
	return true
}

// renew replaces the link by one to another address of the same pool, or to
// the same one again. The session goes on with the old link until then.
func (s *Session) renew(only *poolAddress) {
	if s.phase == phaseRelaying {
		s.phase = phaseSwitching
		s.linking = &linking{pool: s.link.pool, only: only, once: true, began: time.Now()}
		s.tryLink()
	}
}

// renewElsewhere is renew for a link that is of no use: to another address, if
// one is well.
func (s *Session) renewElsewhere() {
	if s.phase == phaseRelaying {
		s.phase = phaseSwitching
		s.linking = &linking{pool: s.link.pool, once: true, began: time.Now(), passed: []*poolAddress{s.link.address}}
		s.tryLink()
	}
}

// poolLost pauses the miner and gets it a new link, to the coin it should mine
// or, as long as that one's pool can not be had, to the one it mined. If the
// link was not stable yet, that is one more of the miner's tries.
func (s *Session) poolLost(err error) {
	glog.V(2).Infof("%s pool lost coin=%q: %v", s, s.link.pool.coin, err)
	unstable := s.leaveEndpoint(true)
	if unstable {
		s.unstable++
	}
	s.link.disconnect(s.mayOwe(s.link))
	s.difficultyTold()
	s.manager.poolLost(s, err, unstable)
	s.phase = phaseReconnecting
	s.miner.Pause(true)
	s.failRequests(s.link)
	if s.unstable >= maxReconnects {
		s.close(fmt.Sprintf("the pool ended %d links in a row soon after they began: %v", s.unstable, err))
		return
	}
	switch {
	case s.linking == nil:
		s.reconnect()
	case s.linking.once:
		s.stopLinking()
		s.reconnect()
	case s.linking.retry != nil:
		// A switch was waiting for its next try: now it is urgent.
		s.loop.StopTimer(s.linking.retry)
		s.linking.restart(int(s.unstable))
		s.retryAfter(s.reconnectPause())
	default:
		s.linking.restart(int(s.unstable))
		s.linking.ahead = false
	}
}

// restart counts tries anew, because the link in use was lost.
func (l *linking) restart(tries int) {
	l.tries, l.waits, l.began, l.outSince = tries, 0, time.Now(), time.Time{}
}

// reconnect begins to prepare a new link after a short jitter: the pool may
// have closed all its miners at this moment. After a link that was not stable,
// another address is better, and the pause grows.
func (s *Session) reconnect() {
	p := s.manager.wantedPool(s)
	if p == nil {
		p = s.link.pool
	}
	l := &linking{pool: p, tries: int(s.unstable), began: time.Now()}
	s.linking = l
	if s.unstable > 0 {
		l.avoid(s.link.address)
		if s.hasUntried(l) {
			s.retryAfter(rand.N(s.manager.timing.reconnectFirst))
			return
		}
	}
	s.retryAfter(s.reconnectPause())
}

func (s *Session) reconnectPause() time.Duration {
	timing := &s.manager.timing
	if s.unstable == 0 {
		return rand.N(timing.reconnectFirst)
	}
	return backoff(int(s.unstable), timing.reconnectFirst, timing.reconnectMost)
}

// avoid has the next try go to another address than the one that was lost, if
// one is well.
func (l *linking) avoid(a *poolAddress) {
	if l.pool.has(a) {
		l.passed = []*poolAddress{a}
	}
}

// reconnectPool is the pool for the next try: the wanted coin's and the last
// one's in turn.
func (s *Session) reconnectPool(l *linking) *pool {
	wanted := s.manager.wantedPool(s)
	if wanted == nil || l.pool == wanted {
		return s.link.pool
	}
	return wanted
}
