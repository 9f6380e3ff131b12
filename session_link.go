package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

var (
	errPoolsDown = errors.New("no address of the pool answers")
	// errOwnLinksFail means that the pool works for others, but ends or refuses this
	// miner's links.
	errOwnLinksFail = errors.New("the pool's addresses do not keep this miner's links")
)

// errNameNotSendable means that the pool needs the name exactly as the miner wrote it,
// and it cannot be sent that way.
var errNameNotSendable = errors.New("the worker's name is not valid UTF-8 or contains NUL, but this pool needs it unchanged")

const (
	// maxReconnects is how many tries to get a lost pool back may fail before
	// the miner is closed, so that its own failover can act.
	maxReconnects = 10

	// noPoolTimeout is how long a miner without a link waits while all addresses
	// are out, before it is closed for the same reason.
	noPoolTimeout = 30 * time.Second

	switchRetryFirst = time.Second
	switchRetryMost  = time.Minute
	reconnectFirst   = 250 * time.Millisecond
	reconnectMost    = 5 * time.Second
)

// linking is the preparation of a session's next pool link: for the first
// connect, a switch, or a reconnect. Each try chooses an address, waits for a
// dial ticket and then for the link's handshake. If it fails, another may
// follow after a pause.
type linking struct {
	pool     *pool
	only     *poolAddress   // the only address allowed; nil if all of the pool's are
	once     bool           // there is only one try; if it fails, the session keeps its present link
	address  *poolAddress   // chosen for this try
	ips      []*endpoint    // the IPs of address, in the order in which to try them
	override bool           // this try ignores the worker's pause, because the session has a pause of its own
	passed   []*poolAddress // addresses that failed since the last pause
	tries    int            // failed tries, all addresses together
	waits    int            // how often no address could be dialled
	chosen   int            // how often an address was chosen since the last pause
	ticket   *dialTicket
	link     *poolLink
	retry    *relay.Timer
	due      time.Time // when the next try is scheduled
	ahead    bool      // the try under way is an extra one before due, because the pool is back
	began    time.Time
	outSince time.Time // since when no address may be dialled; zero if one may
	stopped  bool      // given up or finished, so posted functions must do nothing
}

// connect begins to prepare a link to p. It replaces any other preparation.
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
	s.loop.StopTimer(l.retry)
	if l.link != nil {
		l.link.close()
	}
	s.manager.gate.release(l.ticket)
}

// retryAfter starts the next try after a pause.
func (s *Session) retryAfter(pause time.Duration) {
	l := s.linking
	l.due = time.Now().Add(pause)
	l.retry = s.loop.After(pause, s.tryLink)
}

// tryAhead makes a try at once, because a pool that the session waits for is
// back. If this attempt fails, the attempt already scheduled still runs, so
// that a pool that comes and goes does not use up the miner's tries.
func (s *Session) tryAhead() {
	l := s.linking
	s.loop.StopTimer(l.retry)
	l.ahead = true
	l.outSince = time.Time{}
	s.tryLink()
}

// tryLink begins the next try.
func (s *Session) tryLink() {
	l := s.linking
	l.retry = nil
	l.chosen = 0
	s.nextAddress(l)
}

// nextAddress chooses an address and waits for its turn to dial it. A host name that
// was not looked up recently is looked up first.
func (s *Session) nextAddress(l *linking) {
	if s.agent != nil && l.pool.picksExtranonce {
		s.linkFailed(errAgentPool, finding{blame: blameSession}, evidenceSession)
		return
	}
	if !l.pool.canName(s.auth.name) {
		s.linkFailed(errNameNotSendable, finding{blame: blameSession}, evidenceSession)
		return
	}
	l.chosen++
	c := s.choose(l)
	switch {
	case c.lookUp != nil:
		c.lookUp.resolve(func() {
			s.loop.Post(func() {
				if !l.stopped {
					s.nextAddress(l)
				}
			})
		})
	case c.address == nil || l.chosen > maxChoices:
		s.notDialled(l, &c)
	default:
		l.address, l.ips, l.override = c.address, c.ips, c.override
		d := s.dialer(l.pool)
		ticket, held := s.manager.gate.acquire(c.ips[0], s.account, s.lane(&d, c.ips[0]), func() {
			s.loop.Post(func() {
				if !l.stopped {
					s.dialPool(l)
				}
			})
		})
		l.ticket = ticket
		if held {
			s.dialPool(l)
		}
	}
}

// maxChoices bounds how often a session chooses again because its chosen
// address was out when its turn came.
const maxChoices = 8

func (s *Session) lane(d *dialer, e *endpoint) gateLane {
	switch {
	case s.manager.health.suspect(d, e):
		if s.returnsTo(e) {
			return laneReturning
		}
		return laneSuspect
	case s.phase == phaseRouting:
		return laneNew
	case s.phase == phaseReconnecting:
		return laneReconnect
	}
	return laneSwitch
}

// dialPool dials the chosen address, or chooses again if that may no longer be dialled.
func (s *Session) dialPool(l *linking) {
	h, d := s.manager.health, s.dialer(l.pool)
	ips := make([]*endpoint, 0, len(l.ips))
	for _, e := range l.ips {
		d.returning = s.returnsTo(e)
		if v := h.mayDial(&d, e); v.obstacle == obstacleNone || l.override && v.obstacle.personal() {
			ips = append(ips, e)
		}
	}
	if len(ips) == 0 {
		s.chooseAgain(l)
		return
	}
	s.clearWay(l.pool, l.address)
	l.link = &poolLink{session: s, pool: l.pool, address: l.address, dialer: d, override: l.override}
	l.link.start(ips)
}

// chooseAgain gives up the chosen address, which may no longer be dialled because other
// sessions have found out more about it or probe it. This is not a failed try.
func (s *Session) chooseAgain(l *linking) {
	s.manager.gate.release(l.ticket)
	l.link, l.ticket, l.address = nil, nil, nil
	s.nextAddress(l)
}

// linkFailed decides what happens after a failed try. The failed link is already closed
// and has been reported to health.
func (s *Session) linkFailed(err error, f finding, ev evidence) {
	l := s.linking
	l.link = nil
	s.manager.gate.release(l.ticket)
	l.ticket = nil
	if l.address != nil {
		glog.V(2).Infof("%s link failed coin=%q pool=%s try=%d about=%s: %v", s, l.pool.coin, l.address.text, l.tries+1, f.blame, err)
	}
	s.manager.linkFailed(s, l, err, f)
	if l.address != nil && ev != evidenceRefused && ev != evidenceMachine && ev != evidenceTunnel {
		l.passed = append(l.passed, l.address)
		if l.address = nil; s.hasUntried(l) {
			s.nextAddress(l)
			return
		}
	}
	l.address = nil
	if f.blame == blameMachine {
		s.waitForPool(l, err)
		return
	}
	if s.backToDue(l) {
		return
	}
	l.tries++

	switch s.phase {
	case phaseRouting:
		s.linking = nil
		if refused := answerIn(err); refused != nil {
			s.passRefusal(refused, err)
			return
		}
		if errors.Is(err, errNameNotSendable) {
			s.refuse(stratum.ErrEmptySubAccount, err.Error())
			return
		}
		s.refuse(stratum.ErrConnectFailed, err.Error())
	case phaseSwitching:
		s.switchLater(l)
	case phaseReconnecting:
		s.reconnectLater(l, err)
	}
}

// notDialled decides what happens when no address may be dialled. This does not count as
// one of the miner's tries.
func (s *Session) notDialled(l *linking, c *choice) {
	err := c.err()
	s.manager.linkFailed(s, l, err, finding{})
	if c.obstacle == obstacleWorker {
		// The addresses work for others, but this miner's links fail there, and
		// it has no other address.
		if s.phase == phaseRouting {
			s.linking = nil
			s.refuse(stratum.ErrConnectFailed, err.Error())
			return
		}
		if l.once {
			s.switchLater(l)
			return
		}
	}
	if s.phase == phaseRouting && c.answer != nil {
		s.linking = nil
		s.passRefusal(c.answer, err)
		return
	}
	s.waitForPool(l, err)
}

// waitForPool schedules the next try for when an address may be back, unless
// the miner has waited too long.
func (s *Session) waitForPool(l *linking, err error) {
	timing := &s.manager.timing
	l.waits++
	if l.outSince.IsZero() {
		l.outSince = time.Now()
	}
	if s.backToDue(l) {
		return
	}
	switch s.phase {
	case phaseRouting:
		if time.Since(l.began) < timing.poolHandshake {
			s.retryAfter(timing.reconnectFirst + rand.N(timing.reconnectFirst))
			return
		}
		s.linking = nil
		s.refuse(stratum.ErrConnectFailed, err.Error())
	case phaseSwitching:
		s.switchLater(l)
	case phaseReconnecting:
		if waited := time.Since(l.outSince); waited >= timing.noPool {
			s.close(fmt.Sprintf("pool lost and not back in %v: %v", time.Since(l.began).Round(time.Millisecond), err))
			return
		}
		s.tryAnotherPool(l)
		s.retryAfter(backoff(l.tries+l.waits, timing.reconnectFirst, timing.reconnectMost))
	}
}

// backToDue returns to the scheduled try if the one that failed was an extra one. It
// reports whether it did.
func (s *Session) backToDue(l *linking) bool {
	ahead := l.ahead
	l.ahead = false
	left := time.Until(l.due)
	if !ahead || left <= 0 || s.phase == phaseRouting {
		return false
	}
	l.retry = s.loop.After(left, s.tryLink)
	return true
}

func (s *Session) switchLater(l *linking) {
	if l.once {
		s.linking = nil
		s.phase = phaseRelaying
		return
	}
	timing := &s.manager.timing
	s.retryAfter(backoff(l.tries+l.waits, timing.switchRetryFirst, timing.switchRetryMost))
}

func (s *Session) reconnectLater(l *linking, err error) {
	if l.tries >= maxReconnects {
		s.close(fmt.Sprintf("pool lost and not back in %v: %v", time.Since(l.began).Round(time.Millisecond), err))
		return
	}
	s.tryAnotherPool(l)
	timing := &s.manager.timing
	s.retryAfter(backoff(l.tries, timing.reconnectFirst, timing.reconnectMost))
}

func (s *Session) tryAnotherPool(l *linking) {
	l.pool, l.only, l.once, l.passed = s.reconnectPool(l), nil, false, nil
}

// isOwnFault reports whether the pool did nothing wrong but cannot serve this
// session. Other sessions may work there.
func isOwnFault(err error) bool {
	var size *stratum.SizeError
	return errors.As(err, &size) || errors.Is(err, errAgentPool)
}

// answerIn returns the pool's answer that caused err, or nil if no answer did.
func answerIn(err error) *stratum.Response {
	var refused *refusedError
	var subscribe *subscribeError
	switch {
	case errors.As(err, &refused):
		return refused.answer
	case errors.As(err, &subscribe):
		return subscribe.answer
	}
	return nil
}

// passRefusal answers the miner's authorization with the pool's own answer to
// mining.authorize or mining.subscribe, and lets the miner try again.
func (s *Session) passRefusal(answer *stratum.Response, why error) {
	s.manager.monitor.refused(s.account.name, failRefused, why.Error())
	s.recordRefused(failRefused, why.Error())
	s.miner.Write(s.dialect().AppendForwarded(nil, s.auth.id, answer))
	s.backToHandshake()
}

// backoff returns the pause after a number of failed tries. It doubles from first to
// most. A random factor from 0.5 to 1.5 is applied to it.
func backoff(tries int, first, most time.Duration) time.Duration {
	d := first << min(tries-1, 20)
	if d > most || d <= 0 {
		d = most
	}
	return d/2 + rand.N(d)
}
