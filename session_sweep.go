package main

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/golang/glog"
)

// Now and then each loop looks through its sessions for what no event tells:
// pools that have gone silent, and sessions on a backup address whose first
// choice may be well again.

const (
	sweepEvery = 2 * time.Second

	// failBackBatch is how many sessions a loop moves back to a pool's first
	// address at a time.
	failBackBatch = 200
)

var errPoolSilent = errors.New("no job for too long")

// clock is the time in seconds since the manager was made.
func (m *sessionManager) clock() uint32 { return uint32(time.Since(m.made) / time.Second) }

// startSweeps begins the loop's rounds. Loop only.
func (m *sessionManager) startSweeps(l *loop) {
	l.after(sweepEvery, func() {
		m.sweep(l)
		m.startSweeps(l)
	})
}

func (m *sessionManager) sweep(l *loop) {
	if l == m.loops[0] {
		m.tidy.look(m.linksMade.Load(), m.draining.Load())
		for why := range refusals {
			m.logRefusals(why)
		}
	}
	now := m.clock()
	idle := uint32(m.config.PoolIdleSeconds)
	budget := make(map[*poolAddress]int)
	for _, s := range m.sessionsOf(l) {
		if s.phase != phaseRelaying && s.phase != phaseSwitching {
			continue
		}
		// What came while the process was stopped, or the machine slept, may
		// not have been read yet.
		if idle > 0 && now-s.jobSeen > idle && !s.upstream.hasMore() {
			silent := s.address
			if silent.breaker.failed(false) {
				glog.Errorf("pool taken out coin=%q pool=%s: %v", s.pool.coin, silent.text, errPoolSilent)
				m.monitor.takenOut(s.pool.coin, silent, errPoolSilent)
			}
			s.poolLost(errPoolSilent)
			if s.linking != nil {
				s.linking.avoid(silent)
			}
			continue
		}
		if s.phase == phaseRelaying && s.address != s.pool.addresses[0] {
			s.failBack(budget)
		}
	}
}

// memoryTidy gives memory back to the system when a burst of new links is over:
// handshakes leave garbage, and an idle process has no reason to collect it.
type memoryTidy struct {
	seen  int64 // links made, at the last look
	burst int64 // of them and of resumed sessions, since the last tidying
}

// tidyAfter is how many new links make a burst.
const tidyAfter = 500

func (t *memoryTidy) look(links, draining int64) {
	fresh := links - t.seen
	t.seen = links
	t.burst += fresh
	if fresh < tidyAfter/10 && draining < tidyAfter/10 && t.burst >= tidyAfter {
		t.burst = 0
		go debug.FreeOSMemory()
	}
}

// failBack moves the session to a better address of its pool, if that one is
// well or may be probed. budget holds how many more sessions may go where.
func (s *Session) failBack(budget map[*poolAddress]int) {
	for _, a := range s.pool.addresses {
		if a == s.address {
			return
		}
		left, ok := budget[a]
		if !ok {
			switch a.breaker.state() {
			case breakerClosed:
				left = failBackBatch
			case breakerProbing:
				left = 1
			}
		}
		if left == 0 {
			budget[a] = 0
			continue
		}
		budget[a] = left - 1
		s.renew(a)
		return
	}
}

// poolBack has sessions that wait for an address try it at once.
func (m *sessionManager) poolBack(a *poolAddress) {
	glog.Infof("pool back pool=%s", a.text)
	m.monitor.back(a)
	for _, l := range m.loops {
		l.post(func() {
			for _, s := range m.sessionsOf(l) {
				if w := s.linking; w != nil && w.retry != nil && w.pool.has(a) {
					s.tryAhead()
				}
			}
		})
	}
}
