package main

import (
	"errors"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"sync"
	"sync/atomic"
	"time"
)

// Sessions may only be read on their loops. A walk visits them there, a few at a time,
// so that no share waits for long. A survey is a walk that counts the sessions. All
// readers share its result.

const (
	// walkBatch is how many sessions are visited before the loop handles other events.
	walkBatch = 256

	// walkWait bounds the wait for the loops, which are stopped during an
	// upgrade.
	walkWait = 2 * time.Second

	// surveyKeep is how long the result of a walk is shown before there is another walk.
	surveyKeep = 900 * time.Millisecond
)

var errLoopsBusy = errors.New("the relay loops do not answer at the moment")

// walk calls begin on each loop, then visit for each of the loop's sessions that
// begin has returned. part is the number of the loop; calls for different parts
// run concurrently.
//
// If the loops do not finish in time, or stop is closed, walk returns false.
// Visits may then still be under way, so the caller must not read what they
// write.
func (m *sessionManager) walk(stop <-chan struct{}, begin func(part int, l *sessionLoop) []*Session, visit func(part int, s *Session)) bool {
	done := make(chan struct{}, len(m.loops))
	var abandoned atomic.Bool
	for part, l := range m.loops {
		var left []*Session
		var step func()
		step = func() {
			n := min(walkBatch, len(left))
			for _, s := range left[:n] {
				if s.phase != phaseClosed {
					visit(part, s)
				}
			}
			if left = left[n:]; len(left) > 0 && !abandoned.Load() {
				l.Post(step)
				return
			}
			done <- struct{}{}
		}
		l.Post(func() {
			left = begin(part, l)
			step()
		})
	}
	timeout := time.NewTimer(walkWait)
	defer timeout.Stop()
	for range m.loops {
		select {
		case <-done:
		case <-timeout.C:
			abandoned.Store(true)
			return false
		case <-stop:
			abandoned.Store(true)
			return false
		}
	}
	return true
}

// sessionGroup is what the sessions that are counted together have in common. pool and
// address are nil before the first link.
type sessionGroup struct {
	phase   sessionPhase
	pool    *pool
	address *poolAddress
	rolling stratum.RollingLoss
}

// survey has the number of sessions in each group. It is immutable.
type survey struct {
	at         time.Time // when it was made; zero if there was none yet
	groups     map[sessionGroup]int
	fromMiners uint64 // bytes received from miners
	fromPools  uint64 // bytes received from pools
	tls        tlsSurvey
	delay      time.Duration // how long the slowest loop took to begin
}

// byPhase returns the number of sessions in each phase.
func (v *survey) byPhase() (counts [phaseClosed]int) {
	for g, n := range v.groups {
		counts[g.phase] += n
	}
	return counts
}

// surveyPart is one loop's part of a survey.
type surveyPart struct {
	groups     map[sessionGroup]int
	last       sessionGroup // of the previous session; the next one is usually in the same
	count      int          // sessions of last that are not in groups yet
	fromMiners uint64
	fromPools  uint64
	tls        tlsSurvey
	delay      time.Duration
}

func (p *surveyPart) add(g sessionGroup) {
	if g != p.last {
		p.flush()
		p.last = g
	}
	p.count++
}

func (p *surveyPart) flush() {
	if p.count > 0 {
		p.groups[p.last] += p.count
		p.count = 0
	}
}

// takeSurvey makes a survey. It returns nil if the loops are too busy.
func (m *sessionManager) takeSurvey(stop <-chan struct{}) *survey {
	began := time.Now()
	parts := make([]surveyPart, len(m.loops))
	ok := m.walk(stop, func(part int, l *sessionLoop) []*Session {
		p := &parts[part]
		p.groups = make(map[sessionGroup]int)
		p.fromMiners, p.fromPools = l.fromMiners, l.fromPools
		p.delay = time.Since(began)
		return l.allSessions()
	}, func(part int, s *Session) {
		g := sessionGroup{phase: s.phase}
		if s.phase >= phaseRelaying {
			g.pool, g.address, g.rolling = s.link.pool, s.link.address, s.rolling.Loss()
		}
		parts[part].add(g)
		parts[part].tls.add(s)
	})
	if !ok {
		return nil
	}
	v := &survey{at: time.Now(), groups: make(map[sessionGroup]int)}
	for i := range parts {
		p := &parts[i]
		p.flush()
		for g, n := range p.groups {
			v.groups[g] += n
		}
		v.fromMiners += p.fromMiners
		v.fromPools += p.fromPools
		v.tls.addAll(&p.tls)
		v.delay = max(v.delay, p.delay)
	}
	return v
}

// surveyor makes surveys and keeps the last one.
type surveyor struct {
	manager *sessionManager
	stop    <-chan struct{}

	mu    sync.Mutex
	last  *survey
	tried time.Time // when a survey was last attempted
}

// get returns a survey not older than surveyKeep, or the last one if the loops
// are too busy.
func (v *surveyor) get() *survey {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.tried) < surveyKeep {
		return v.last
	}
	fresh := v.manager.takeSurvey(v.stop)
	v.tried = time.Now()
	if fresh != nil {
		v.last = fresh
	}
	return v.last
}
