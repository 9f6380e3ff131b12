package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/golang/glog"
)

// maxRenewals is how many client.reconnect requests of a pool are followed in a
// minute. A pool that sends one on every connection would otherwise be dialled
// without end.
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

// renew replaces the link with a new one to the same pool: to the address only, or to any
// address if only is nil. The session keeps the old link until the new one is ready.
func (s *Session) renew(only *poolAddress) {
	if s.phase == phaseRelaying {
		s.phase = phaseSwitching
		s.linking = &linking{pool: s.link.pool, only: only, once: true, began: time.Now()}
		s.tryLink()
	}
}

// renewElsewhere is renew for a link that is of no use any more. It prefers another
// address, if one can be dialled.
func (s *Session) renewElsewhere() {
	if s.phase == phaseRelaying {
		s.phase = phaseSwitching
		s.linking = &linking{pool: s.link.pool, once: true, began: time.Now(), passed: []*poolAddress{s.link.address}}
		s.tryLink()
	}
}

// poolLost pauses the miner and prepares a new link to the coin it should mine
// or, while that coin's pool is unavailable, to the coin it mined. If the lost
// link was not stable yet, it counts as one of the miner's tries, unless the
// tunnel is at fault.
func (s *Session) poolLost(err error) {
	glog.V(2).Infof("%s pool lost coin=%q: %v", s, s.link.pool.coin, err)
	unstable := s.leaveEndpoint(!isTunnelFault(err))
	if unstable {
		s.unstable++
	}
	s.link.disconnect(s.mayOwe(s.link))
	s.stopAwaitingDifficulty()
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
		// A switch was waiting for its next try, which is now urgent.
		s.loop.StopTimer(s.linking.retry)
		s.linking.restart(int(s.unstable))
		s.retryAfter(s.reconnectPause())
	default:
		s.linking.restart(int(s.unstable))
		s.linking.ahead = false
	}
}

// restart resets the count of tries, because the link in use was lost.
func (l *linking) restart(tries int) {
	l.tries, l.waits, l.began, l.outSince = tries, 0, time.Now(), time.Time{}
}

// reconnect begins to prepare a new link after a short jitter: the pool may
// have closed all its miners' connections at this moment. After a link that was
// not stable, another address is preferred and the pause grows.
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

// avoid makes the next try go to another address than a, if one can be dialled.
func (l *linking) avoid(a *poolAddress) {
	if l.pool.has(a) {
		l.passed = []*poolAddress{a}
	}
}

// reconnectPool is the pool for the next try. The wanted coin's pool and the
// last one take turns.
func (s *Session) reconnectPool(l *linking) *pool {
	wanted := s.manager.wantedPool(s)
	if wanted == nil || l.pool == wanted {
		return s.link.pool
	}
	return wanted
}
