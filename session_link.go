package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/golang/glog"
)

var errPoolsDown = errors.New("no address of the pool answers")

const (
	// maxReconnects is how often a lost pool is tried before the miner is
	// closed, so that its own failover can act.
	maxReconnects = 10

	switchRetryFirst = time.Second
	switchRetryMost  = time.Minute
	reconnectFirst   = 250 * time.Millisecond
	reconnectMost    = 5 * time.Second
)

// linking is the preparation of a session's next pool link: for the first
// connect, a switch, or a reconnect. It waits for a dial ticket, then for the
// link's handshake, then perhaps for the next try.
type linking struct {
	pool    *pool
	only    *poolAddress   // the one to take; nil: any of the pool's
	once    bool           // if it fails, the session stays where it is
	address *poolAddress   // being dialled; its breaker waits for the outcome
	probe   bool           // the dial is one
	passed  []*poolAddress // that failed since the last pause
	tries   int            // that failed, of all addresses
	ticket  *dialTicket
	link    *poolLink
	retry   *loopTimer
	due     time.Time // when the next try is, or would have been
	ahead   bool      // the try under way is out of turn: its pool is back
	began   time.Time
	stopped bool
}

// connect begins to prepare a link to p, in place of any other.
func (s *Session) connect(p *pool) {
	s.stopLinking()
	s.linking = &linking{pool: p, began: time.Now()}
	s.tryLink()
}

func (s *Session) stopLinking() {
	l := s.linking
	if l == nil {
		return
	}
	s.linking = nil
	l.stopped = true
	s.loop.stopTimer(l.retry)
	if l.link != nil {
		l.link.close()
	}
	if l.address != nil {
		l.address.breaker.forget(l.probe)
	}
	s.manager.gate.release(l.ticket)
}

// retryAfter has the next try follow after a pause.
func (s *Session) retryAfter(pause time.Duration) {
	l := s.linking
	l.due = time.Now().Add(pause)
	l.retry = s.loop.after(pause, s.tryLink)
}

// tryAhead makes a try at once, as a pool that is waited for is back. If it
// fails, the one that was due follows all the same: a pool that comes and goes
// must not use up the tries that a miner has.
func (s *Session) tryAhead() {
	l := s.linking
	s.loop.stopTimer(l.retry)
	l.ahead = true
	s.tryLink()
}

// tryLink waits its turn for the next try.
func (s *Session) tryLink() {
	l := s.linking
	l.retry = nil
	ticket, held := s.manager.gate.acquire(s.account, func() {
		s.loop.post(func() { s.dialGranted(l) })
	})
	l.ticket = ticket
	if held {
		s.dialPool(l)
	}
}

func (s *Session) dialGranted(l *linking) {
	if !l.stopped {
		s.dialPool(l)
	}
}

func (s *Session) dialPool(l *linking) {
	if s.agent != nil && l.pool.ownExtranonce {
		s.linkFailed(errAgentPool)
		return
	}
	ok := false
	if l.only != nil {
		l.address = l.only
		l.probe, ok = l.only.breaker.allow()
	} else {
		if l.address, l.probe, ok = l.untried(); !ok {
			l.passed = nil
			l.address, l.probe, ok = l.pool.pick()
		}
	}
	if !ok {
		l.address = nil
		s.linkFailed(errPoolsDown)
		return
	}
	if addr, ok := l.address.known(); ok {
		s.dialAddress(l, addr, nil)
		return
	}
	l.address.resolve(func(addr netip.AddrPort, err error) {
		s.loop.post(func() { s.dialAddress(l, addr, err) })
	})
}

func (s *Session) dialAddress(l *linking, addr netip.AddrPort, err error) {
	if l.stopped {
		return
	}
	if err == nil {
		s.clearWay(l.pool, l.address)
		l.pool.linksTo(l.address).dials.Add(1)
		l.link, err = newPoolLink(s, l.pool, addr)
	}
	if err != nil {
		s.linkFailed(err)
	}
}

// untried is the pool's next address after one has failed: a backup that is
// well makes up for it at once.
func (l *linking) untried() (a *poolAddress, probe, ok bool) {
	if len(l.passed) == 0 {
		return nil, false, false
	}
	for _, state := range []breakerState{breakerClosed, breakerProbing} {
		for _, a := range l.pool.addresses {
			if !slices.Contains(l.passed, a) && a.breaker.state() == state {
				if probe, ok := a.breaker.allow(); ok {
					return a, probe, true
				}
			}
		}
	}
	return nil, false, false
}

// hasUntried is whether untried is likely to find one.
func (l *linking) hasUntried() bool {
	return l.only == nil && slices.ContainsFunc(l.pool.addresses, func(a *poolAddress) bool {
		return !slices.Contains(l.passed, a) && a.breaker.state() != breakerOpen
	})
}

// linkFailed decides about the next try. The link is closed already.
func (s *Session) linkFailed(err error) {
	l, timing := s.linking, &s.manager.timing
	l.link = nil
	s.manager.gate.release(l.ticket)
	var refused *refusedError
	isRefused := errors.As(err, &refused)
	if l.address != nil {
		l.pool.linksTo(l.address).failed[linkFailureOf(err)].Add(1)
		if isRefused || isOwnFault(err) {
			l.address.breaker.forget(l.probe)
		} else if l.address.breaker.failed(l.probe) {
			glog.Errorf("pool taken out coin=%q pool=%s: %v", l.pool.coin, l.address.text, err)
			s.manager.monitor.takenOut(l.pool.coin, l.address, err)
		}
		glog.V(2).Infof("%s link failed coin=%q pool=%s try=%d: %v", s, l.pool.coin, l.address.text, l.tries+1, err)
	}
	s.manager.linkFailed(s, l, err)
	if l.address != nil && !isRefused {
		l.passed = append(l.passed, l.address)
		if l.address = nil; l.hasUntried() {
			s.tryLink()
			return
		}
	}
	l.address = nil
	ahead := l.ahead
	l.ahead = false
	if left := time.Until(l.due); ahead && left > 0 && s.phase != phaseRouting {
		l.retry = s.loop.after(left, s.tryLink)
		return
	}
	l.tries++

	switch s.phase {
	case phaseRouting:
		s.linking = nil
		if isRefused {
			s.passRefusal(refused)
			return
		}
		if errors.Is(err, errPoolsDown) && time.Since(l.began) < timing.poolHandshake {
			// Nobody may try at the moment; the pool may be back soon.
			s.linking = l
			s.retryAfter(timing.reconnectFirst + rand.N(timing.reconnectFirst))
			return
		}
		s.refuse(errConnectFailed, true, err.Error())
	case phaseSwitching:
		if l.once {
			s.linking = nil
			s.phase = phaseRelaying
			return
		}
		s.retryAfter(backoff(l.tries, timing.switchRetryFirst, timing.switchRetryMost))
	case phaseReconnecting:
		if l.tries >= maxReconnects {
			s.close(fmt.Sprintf("pool lost and not back in %v: %v", time.Since(l.began).Round(time.Millisecond), err))
			return
		}
		l.pool, l.only, l.once, l.passed = s.reconnectPool(l), nil, false, nil
		s.retryAfter(backoff(l.tries, timing.reconnectFirst, timing.reconnectMost))
	}
}

// isOwnFault says that a pool that does what it should can not serve this
// session. Others may still be well there.
func isOwnFault(err error) bool {
	var size *sizeError
	return errors.As(err, &size) || errors.Is(err, errAgentPool)
}

// passRefusal gives the miner the pool's own answer to its authorization.
func (s *Session) passRefusal(refused *refusedError) {
	s.manager.handshakeFailed(failRefused)
	s.manager.monitor.refused(s.account.name, handshakeReason(failRefused), refused.Error())
	s.miner.write(s.dialect().appendForwarded(nil, s.auth.id, refused.answer))
	s.backToHandshake()
}

// backoff is the pause after a number of failed tries: doubling from first to
// most, with jitter from half to once and a half of it.
func backoff(tries int, first, most time.Duration) time.Duration {
	d := first << min(tries-1, 20)
	if d > most || d <= 0 {
		d = most
	}
	return d/2 + rand.N(d)
}

// linkReady makes the prepared link the session's link. The miner sees one
// write: the answer to its authorization if it waits for one, the version mask
// if that changed, then what the pool said, difficulty and job.
func (s *Session) linkReady(k *poolLink) {
	l := s.linking
	s.linking = nil
	l.stopped = true
	s.manager.gate.release(l.ticket)
	if l.address.breaker.succeeded(l.probe) {
		s.manager.poolBack(l.address)
	}
	k.stopTimers()

	first := s.phase == phaseRouting
	var out []byte
	if first {
		out = s.dialect().appendForwarded(out, s.auth.id, k.answer)
	}
	if s.askedMask != 0 {
		if mask := s.askedMask & k.allowedMask; first || mask != s.sentMask {
			out = appendVersionMask(out, mask)
			s.sentMask = mask
		}
	}
	out = s.tellExtranonce(out, k.given, k.own)
	out = append(out, k.greeting(!first)...)

	from := s.pool
	s.retireUpstream(k.pool)
	s.noteJobs(k.early)
	s.finishDrainsTo(k.pool, l.address)
	s.rules = k.rules
	s.upstream, s.pool, s.address, s.suffixed = k.socket, k.pool, l.address, k.suffixed
	s.spareDescriptors()
	s.jobSeen = s.manager.clock()
	s.tag++
	s.owed, s.ownAnswers, s.own = 0, 0, k.unanswered()
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
		s.linking = &linking{pool: s.pool, only: only, once: true}
		s.tryLink()
	}
}

// poolLost pauses the miner and gets it a new link, to the coin it should mine
// or, as long as that one's pool can not be had, to the one it mined.
func (s *Session) poolLost(err error) {
	if s.upstream != nil {
		s.upstream.close()
		s.upstream = nil
	}
	glog.V(2).Infof("%s pool lost coin=%q: %v", s, s.pool.coin, err)
	s.manager.poolLost(s, err)
	s.phase = phaseReconnecting
	s.miner.pause(true)
	s.failRequests(s.tag, s.own)
	switch {
	case s.linking == nil:
		s.reconnect()
	case s.linking.once:
		s.stopLinking()
		s.reconnect()
	case s.linking.retry != nil:
		// A switch was waiting for its next try: now it is urgent.
		s.loop.stopTimer(s.linking.retry)
		s.linking.tries, s.linking.began = 0, time.Now()
		s.retryAfter(rand.N(s.manager.timing.reconnectFirst))
	default:
		s.linking.tries, s.linking.began, s.linking.ahead = 0, time.Now(), false
	}
}

// reconnect begins to prepare a new link after a short jitter: the pool may
// have closed all its miners at this moment.
func (s *Session) reconnect() {
	p := s.manager.wantedPool(s)
	if p == nil {
		p = s.pool
	}
	s.linking = &linking{pool: p, began: time.Now()}
	s.retryAfter(rand.N(s.manager.timing.reconnectFirst))
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
		return s.pool
	}
	return wanted
}
