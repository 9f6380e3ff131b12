package main

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/golang/glog"
)

// Each loop regularly checks its sessions for conditions that no event reports:
// pools that have gone silent, and sessions on a backup address whose first
// choice may work again.

const (
	sweepEvery = 2 * time.Second

	// failBackBatch is how many sessions a loop moves back to a pool's first
	// address at a time.
	failBackBatch = 200
)

var errPoolSilent = errors.New("no job for too long")

// clock returns the time in seconds since the manager was created.
func (m *sessionManager) clock() uint32 { return uint32(time.Since(m.created) / time.Second) }

// steadyUnix returns the time in Unix seconds by a clock that does not jump. It is the
// system's clock as it was when the manager was created.
func (m *sessionManager) steadyUnix() int64 { return m.created.Unix() + int64(m.clock()) }

// shownUnix converts a time of steadyUnix to the system's present clock, which may have
// been set meanwhile.
func (m *sessionManager) shownUnix(at int64) int64 {
	if at == 0 {
		return 0 // not known
	}
	jump := m.wallClock().Round(0).Sub(m.created.Round(0)) - time.Since(m.created) // Round(0) strips the monotonic clock
	return max(0, at+int64(jump.Round(time.Second)/time.Second))
}

// startSweeps makes the loop sweep its sessions every sweepEvery. It must be called on the
// loop's goroutine.
func (m *sessionManager) startSweeps(l *sessionLoop) {
	l.After(sweepEvery, func() {
		m.sweep(l)
		m.startSweeps(l)
	})
}

func (m *sessionManager) sweep(l *sessionLoop) {
	if l == m.loops[0] {
		m.measurePorts()
		m.memory.look(m.linksMade.Load(), m.draining.Load())
		for why := range refusals {
			m.logRefusals(why)
		}
		for _, line := range m.refusedAccounts.due(time.Now()) {
			glog.Error(line)
		}
	}
	budget := sweepBudget{failBack: make(map[*poolAddress]int), anew: rollingBatch}
	l.each(func(s *Session) { s.look(&budget) })
}

// sweepBudget is how much one sweep may still do.
type sweepBudget struct {
	failBack map[*poolAddress]int // sessions that may move back to each address
	anew     int                  // sessions that may be closed to negotiate version rolling again
}

// look does the periodic checks of one session.
func (s *Session) look(budget *sweepBudget) {
	s.forgetDifficulties()
	if s.manager.clock()%rollingWatchEvery < uint32(sweepEvery/time.Second) {
		s.rolling.Recheck()
	}
	if s.phase != phaseRelaying && s.phase != phaseSwitching {
		return
	}
	if s.link.trial != nil && s.link.trial.mayBeStable() {
		s.becomeStable(false)
	}
	if s.agent != nil {
		s.giveUpOvertaken()
	}
	// Bytes that came while the process was stopped or the machine slept may
	// not have been read yet.
	limit := uint32(s.manager.config.PoolIdleSeconds)
	if silent := s.manager.clock() - s.link.jobSeen; limit > 0 && silent > limit && !s.link.socket.HasMore() {
		s.getsNoJobs(silent, limit)
		return
	}
	if s.phase == phaseRelaying && s.manager.config.ReconnectOnLostVersionRolling && s.negotiateAnew(&budget.anew) {
		return
	}
	if s.phase == phaseRelaying && s.link.trial == nil && s.link.address != s.link.pool.addresses[0] {
		s.failBack(budget.failBack)
	}
}

// getsNoJobs renews a link that has been silent for longer than limit seconds.
// The miner keeps it until the new one is ready. If none is ready within
// idleGrace, the link counts as lost, so that the miner's own failover can act.
func (s *Session) getsNoJobs(silent, limit uint32) {
	m := s.manager
	if s.link.endpoint != nil && m.health.idle(s.link.endpoint, time.Duration(limit)*time.Second) {
		m.takenOut(s.link.pool, s.link.address, s.link.endpoint, errPoolSilent)
	}
	if silent > limit+uint32(m.timing.noPool/time.Second) {
		s.poolLost(errPoolSilent)
		return
	}
	s.renewElsewhere()
}

// memoryRelease gives memory back to the system when a burst of new links is over:
// handshakes leave garbage, and an idle process has no reason to collect it.
type memoryRelease struct {
	seen  int64 // links made until the last check
	burst int64 // new links and resumed sessions since memory was last given back
}

// burstLinks is how many new links make a burst.
const burstLinks = 500

func (t *memoryRelease) look(links, draining int64) {
	fresh := links - t.seen
	t.seen = links
	t.burst += fresh
	if fresh < burstLinks/10 && draining < burstLinks/10 && t.burst >= burstLinks {
		t.burst = 0
		go debug.FreeOSMemory()
	}
}

// failBack moves the session to a better address of its pool, if that address
// works for this worker or may be probed. budget is how many more sessions may
// move to each address.
func (s *Session) failBack(budget map[*poolAddress]int) {
	h, d := s.manager.health, s.dialer(s.link.pool)
	for _, a := range s.link.pool.addresses {
		if a == s.link.address {
			return
		}
		ips, fresh := a.current()
		rank := rankNone
		for _, e := range ips {
			v := h.mayDial(&d, e)
			r := v.rank(false)
			if r == rankInUse && v.unproven {
				r = rankProbe // a few find out whether it still ends links
			}
			rank = max(rank, r)
		}
		if !fresh && len(ips) == 0 {
			rank = rankProbe // it has to be looked up
		}
		if rank <= rankSuspect {
			continue
		}
		left, ok := budget[a]
		if !ok {
			left = failBackBatch
			if rank == rankProbe {
				left = 1
			}
		}
		budget[a] = max(left-1, 0)
		if left == 0 {
			continue
		}
		s.renew(a)
		return
	}
}

// poolBack makes sessions that wait for an address try it at once.
func (m *sessionManager) poolBack(e *endpoint) {
	m.limitedLog.Infof("pool back", "pool back pool=%s", e)
	m.monitor.back(e)
	m.sizes.back(e)
	m.tryAhead(func(p *pool) bool { return p.leadsTo(e) })
}

// tryAhead makes sessions that wait for one of the selected pools try at once.
func (m *sessionManager) tryAhead(waited func(*pool) bool) {
	for _, l := range m.loops {
		l.Post(func() {
			for _, s := range l.allSessions() {
				// If a miner's last links all ended soon, its own pause must
				// run out first.
				if w := s.linking; w != nil && w.retry != nil && s.unstable < 2 && waited(w.pool) {
					s.tryAhead()
				}
			}
		})
	}
}
