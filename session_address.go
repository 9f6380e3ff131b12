package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// dialer returns what health needs to know about the session before it dials p.
func (s *Session) dialer(p *pool) dialer {
	d := dialer{account: s.account, worker: s.auth.name.String(), new: s.phase == phaseRouting, served: s.served, session: !p.picksExtranonce, needs: int8(s.neededSize(p))}
	if s.subscription != nil {
		d.userAgent = s.subscription.UserAgent
	}
	return d
}

// returnsTo reports whether e is where the miner's last link was lost.
func (s *Session) returnsTo(e *endpoint) bool {
	return s.phase == phaseReconnecting && s.link != nil && s.link.endpoint == e
}

// choice is the address for the next try, or why there is none.
type choice struct {
	address  *poolAddress
	ips      []*endpoint  // those of address that may be dialled, in order
	override bool         // dial although the worker's pause there is not over
	lookUp   *poolAddress // this name has to be looked up before an address can be chosen

	obstacle obstacle          // why there is no address
	at       *poolAddress      // the address that obstacle is about
	cause    error             // the cause of obstacle, if it is known
	answer   *stratum.Response // the pool's answer to other miners with this user agent
}

func (c *choice) err() error {
	switch c.obstacle {
	case obstacleWorker:
		return fmt.Errorf("%w: pool=%s", errOwnLinksFail, c.at.text)
	case obstacleUserAgent:
		if c.answer != nil {
			return &subscribeError{c.answer}
		}
		return fmt.Errorf("pool=%s does not serve this user agent", c.at.text)
	case obstaclePorts:
		return fmt.Errorf("%w to pool=%s", errNoLocalPort, c.at.text)
	case obstacleMachine:
		return errMachineIsShort
	}
	if c.cause != nil {
		return fmt.Errorf("%w: %w", errPoolsDown, c.cause)
	}
	return errPoolsDown
}

// choose picks the address for the next try. It follows the pool's order, but
// an address in use comes before one that may only be probed, and both before
// one where the account's other workers fail. Addresses that have failed since
// the last pause are considered only if there is no other.
func (s *Session) choose(l *linking) choice {
	if len(l.passed) > 0 {
		if c := s.chooseFrom(l, true); c.address != nil || c.lookUp != nil {
			return c
		}
		l.passed = nil
	}
	return s.chooseFrom(l, false)
}

// hasUntried reports whether there is an address that has not failed since the
// last pause and may be dialled.
func (s *Session) hasUntried(l *linking) bool {
	if l.only != nil {
		return false
	}
	c := s.chooseFrom(l, true)
	return c.address != nil || c.lookUp != nil
}

func (s *Session) chooseFrom(l *linking, untried bool) choice {
	h, d := s.manager.health, s.dialer(l.pool)
	addresses := l.pool.addresses
	if l.only != nil {
		addresses = []*poolAddress{l.only}
	}
	// An established miner may ignore its worker's pause, because it has pauses of its
	// own and a limited number of tries.
	mayOverride := !untried && !l.once && s.phase != phaseRouting
	var best choice
	bestRank := rankNone
	for _, a := range addresses {
		if untried && slices.Contains(l.passed, a) {
			continue
		}
		ips, wait := a.usable()
		if wait {
			if bestRank == rankInUse {
				continue // an address in use is known, so this look-up can wait
			}
			return choice{lookUp: a}
		}
		c := choice{at: a, obstacle: obstacleOut}
		if len(ips) == 0 {
			c.cause = a.lookupError()
		}
		rank, refused := rankNone, false
		for _, e := range ips {
			d.returning = s.returnsTo(e)
			v := h.mayDial(&d, e)
			r := v.rank(mayOverride)
			refused = refused || v.refused
			switch {
			case r > rankNone:
				c.address, c.ips = a, append(c.ips, e)
				rank = max(rank, r)
			case v.obstacle < c.obstacle || v.obstacle > obstacleOut:
				c.obstacle, c.answer = v.obstacle, v.answer
			}
		}
		if rank == rankNone && c.obstacle == obstacleOut {
			a.refresh()
		}
		if rank == rankInUse && bestRank == rankProbe && refused {
			continue // probe rather than go to a backup that refuses the worker
		}
		if rank > bestRank || bestRank == rankNone && (best.at == nil || c.obstacle.sooner(best.obstacle)) {
			c.override = rank == rankOverride
			best, bestRank = c, rank
		}
		if bestRank == rankInUse {
			break
		}
	}
	return best
}

// sooner reports whether o rather than other is given as the reason why nothing is dialled.
// Reasons about this miner come before those about the address.
func (o obstacle) sooner(other obstacle) bool { return o < other }

// addressRank orders the addresses that may be dialled.
type addressRank uint8

const (
	rankNone     addressRank = iota // may not be dialled
	rankOverride                    // may be dialled only because the session's own pause replaces the worker's
	rankSuspect                     // the account's workers fail there
	rankProbe                       // the address is out and may be probed
	rankInUse
)

func (v *verdict) rank(mayOverride bool) addressRank {
	switch {
	case v.obstacle.personal() && mayOverride:
		return rankOverride
	case v.obstacle != obstacleNone:
		return rankNone
	case v.suspect:
		return rankSuspect
	case v.probe != probeNone:
		return rankProbe
	}
	return rankInUse
}

// leaveEndpoint reports to health that the link ends or is retired. lost means that the pool
// ended it. It returns true if the link was lost before it was stable.
func (s *Session) leaveEndpoint(lost bool) (unstable bool) {
	if !s.link.open() {
		return false // reported when it was lost
	}
	e, trial := s.link.endpoint, s.link.trial
	s.link.trial = nil
	switch {
	case e == nil:
	case trial == nil:
		s.manager.health.stableEnded(s.account, e, lost)
	case lost:
		f := trial.failed(evidenceUnstable, nil)
		s.manager.linkFound(s.link.pool, s.link.address, e, evidenceUnstable, f, errUnstable)
		return true
	default:
		trial.abandon()
	}
	return false
}

// becomeStable records that the link is stable. accepted means that the pool has accepted
// a share on it; otherwise it has merely lasted long enough.
func (s *Session) becomeStable(accepted bool) {
	if s.link.trial.stable(accepted) {
		s.manager.poolBack(s.link.endpoint)
	}
	s.link.trial = nil
	s.unstable = 0
	s.served = true
}

// recordReceived records that the link in use has received something.
func (s *Session) recordReceived() {
	if e := s.link.endpoint; e != nil && s.link.trial == nil && s.link.open() {
		if now := s.manager.health.moment(s.loop.Now()); now-e.heardAt.Load() > int64(heardEvery) {
			e.heardAt.Store(now)
		}
	}
}

// gotJob records that the link in use has received a job. It reads the clock itself, because
// the process may have been stopped since this round of events began.
func (s *Session) gotJob() {
	age := time.Since(s.manager.created)
	s.link.jobSeen = uint32(age / time.Second)
	if e := s.link.endpoint; e != nil && s.link.open() {
		e.jobAt.Store(s.manager.health.moment(s.manager.created.Add(age)))
	}
}

// heardEvery bounds how often a link writes to its endpoint, which all links to the same
// address share.
const heardEvery = 50 * time.Millisecond

// linkFound counts the failure of a link at e and logs what operators need to know. f is
// what health has concluded from the failure.
func (m *sessionManager) linkFound(p *pool, a *poolAddress, e *endpoint, ev evidence, f finding, err error) {
	counts := p.linksTo(a)
	counts.blamed[f.blame].Add(1)
	if ev != evidenceUnstable {
		counts.failed[linkFailureOf(err)].Add(1)
	}
	if f.takenOut {
		m.takenOut(p, a, e, err)
	}
	if f.logDue {
		m.logShortage(e, ev, err)
	}
}

// nameLookedUp handles the result of looking up a pool's name. It logs when look-ups begin
// to fail and when they work again (turned). After a success, sessions that wait for the
// name try the IPs found.
func (m *sessionManager) nameLookedUp(a *poolAddress, turned bool, err error) {
	switch {
	case err != nil:
		m.limitedLog.Errorf("pool name not found", "pool name not found pool=%s: %v", a.text, err)
		m.monitor.events.Add(journal.Bad, journal.Key{Kind: journal.Failover, What: "name not found", Pool: a.text}, err.Error())
		return
	case turned:
		m.limitedLog.Infof("pool name found again", "pool name found again pool=%s", a.text)
		m.monitor.events.Add(journal.Good, journal.Key{Kind: journal.Failover, What: "name found again", Pool: a.text}, "")
	}
	m.tryAhead(func(p *pool) bool { return p.has(a) })
}

// takenOut logs that an address will not be dialled for a while.
func (m *sessionManager) takenOut(p *pool, a *poolAddress, e *endpoint, err error) {
	at := a.text
	if at != e.String() {
		at += " (" + e.addr.String() + ")"
	}
	m.limitedLog.Errorf("pool taken out", "pool taken out coin=%q pool=%s: %v", p.coin, at, err)
	m.monitor.takenOut(p.coin, at, err)
	a.resolveAgain()
}

// logShortage logs what this machine has run out of and what helps.
func (m *sessionManager) logShortage(e *endpoint, ev evidence, err error) {
	switch ev {
	case evidencePorts:
		m.limitedLog.Errorf("no local port", "no local port is free for connections to pool=%s: new links there wait; widen net.ipv4.ip_local_port_range (%d ports now) or give the coin another address: %v", e, localPorts(), err)
	default:
		m.limitedLog.Errorf("machine short", "this machine is short: dials wait: %v; descriptors open=%d limit=%d", err, openDescriptors(), m.fdLimit)
	}
	m.monitor.machineShort(e.String(), err)
}

var errUnstable = errors.New("the pool ended the link soon after it began")
