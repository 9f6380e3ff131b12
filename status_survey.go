package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Sessions may only be read on their loops. A walk visits all of them there, a
// few at a time, so that no share waits for long. A survey is a walk that
// counts them; all readers share its result.

const (
	// walkBatch is how many sessions are visited between other events.
	walkBatch = 256

	// walkWait bounds the wait for the loops, which are stopped during an
	// upgrade.
	walkWait = 2 * time.Second

	surveyKeep = 900 * time.Millisecond

	maxFound = 100
)

var errLoopsBusy = errors.New("the relay does not answer at the moment")

// walk calls begin on each loop, then visit for each of its sessions. part is
// the number of the loop; calls for different parts run concurrently.
//
// If the loops do not finish in time, or stop is closed, walk returns false.
// Visits may then still be under way, so the caller must not read what they
// write.
func (m *sessionManager) walk(stop <-chan struct{}, begin func(part int, l *sessionLoop), visit func(part int, s *Session)) bool {
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
			begin(part, l)
			left = l.allSessions()
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

// sessionGroup is what sessions are counted by. The pool is nil before there
// is a link.
type sessionGroup struct {
	phase   sessionPhase
	pool    *pool
	address *poolAddress
}

// survey is how many sessions of each group there are. It is not changed once
// it is made.
type survey struct {
	at         time.Time // zero: there was none yet
	groups     map[sessionGroup]int
	fromMiners uint64 // bytes
	fromPools  uint64
	delay      time.Duration // how long the slowest loop took to begin
}

// byPhase adds up the groups.
func (v *survey) byPhase() (counts [phaseClosed]int) {
	for g, n := range v.groups {
		counts[g.phase] += n
	}
	return counts
}

// surveyPart is one loop's share of a survey.
type surveyPart struct {
	groups     map[sessionGroup]int
	last       sessionGroup // of the previous session; mostly the same
	count      int          // sessions of last that are not in groups yet
	fromMiners uint64
	fromPools  uint64
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
	ok := m.walk(stop, func(part int, l *sessionLoop) {
		p := &parts[part]
		p.groups = make(map[sessionGroup]int)
		p.fromMiners, p.fromPools = l.fromMiners, l.fromPools
		p.delay = time.Since(began)
	}, func(part int, s *Session) {
		g := sessionGroup{phase: s.phase}
		if s.phase >= phaseRelaying {
			g.pool, g.address = s.link.pool, s.link.address
		}
		parts[part].add(g)
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
		v.delay = max(v.delay, p.delay)
	}
	return v
}

// surveyor keeps the last survey for a moment.
type surveyor struct {
	manager *sessionManager
	stop    <-chan struct{}

	mu    sync.Mutex
	last  *survey
	tried time.Time
}

// get returns a survey not older than surveyKeep, or the last one if the loops
// are too busy.
func (v *surveyor) get() *survey {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.tried) < surveyKeep {
		return v.last
	}
	made := v.manager.takeSurvey(v.stop)
	v.tried = time.Now()
	if made != nil {
		v.last = made
	}
	return v.last
}

// foundMiner is a session as a search shows it. Worker, Agent and the further
// names come from the miner.
type foundMiner struct {
	Session   string   `json:"session"`
	Address   string   `json:"address"`
	Worker    string   `json:"worker"`
	Others    []string `json:"other_workers,omitempty"`
	Devices   int      `json:"devices,omitempty"` // behind an agent
	Account   string   `json:"account"`
	Agent     string   `json:"user_agent"`
	Phase     string   `json:"phase"`
	Since     int64    `json:"since"` // Unix seconds; 0: not known
	Coin      string   `json:"coin"`
	Pool      string   `json:"pool"`
	NextCoin  string   `json:"next_coin,omitempty"`
	Submitted uint32   `json:"submitted"`
	Accepted  uint32   `json:"accepted"`
	Refused   uint32   `json:"refused"`
	LastShare int64    `json:"last_share"` // Unix seconds; 0: none yet

	Unknown    uint32            `json:"unknown"` // shares whose work or verdict is not known
	Reasons    map[string]uint32 `json:"refused_by_reason"`
	Recent     rateReply         `json:"hashrate_15m"`
	Average    rateReply         `json:"hashrate_session"` // since it connected
	Difficulty *float64          `json:"difficulty"`       // as its pool means it; null: not known
}

// maxFoundWorkers bounds how many further workers of a connection are shown.
const maxFoundWorkers = 20

// search finds sessions whose address, worker or session ID contains text. more
// says that there are others.
func (m *sessionManager) search(stop <-chan struct{}, text string) (found []foundMiner, more bool, err error) {
	text = strings.ToLower(strings.TrimSpace(text))
	id, idErr := strconv.ParseUint(text, 16, 32)
	isID := idErr == nil && len(text) == len("00000000")
	type result struct {
		found []foundMiner
		more  bool
	}
	parts := make([]result, len(m.loops))
	ok := m.walk(stop, func(int, *sessionLoop) {}, func(part int, s *Session) {
		r := &parts[part]
		switch {
		case r.more || !(isID && s.hasID && s.id == uint32(id)) && !s.matches(text):
		case len(r.found) == maxFound:
			r.more = true
		default:
			r.found = append(r.found, s.found())
		}
	})
	if !ok {
		return nil, false, errLoopsBusy
	}
	for i := range parts {
		found = append(found, parts[i].found...)
		more = more || parts[i].more
	}
	slices.SortFunc(found, func(a, b foundMiner) int {
		return strings.Compare(a.Worker+a.Session, b.Worker+b.Session)
	})
	if len(found) > maxFound {
		found, more = found[:maxFound], true
	}
	return found, more, nil
}

// matches reports whether text, in lower case, is part of the session's workers
// or address.
func (s *Session) matches(text string) bool {
	if s.auth != nil && containsFold(s.auth.name.String(), text) {
		return true
	}
	for _, w := range s.workers {
		if containsFold(w.name.String(), text) {
			return true
		}
	}
	var b [64]byte
	return strings.Contains(string(s.addr.AppendTo(b[:0])), text)
}

func containsFold(s, lower string) bool { return strings.Contains(strings.ToLower(s), lower) }

// found describes the session.
func (s *Session) found() foundMiner {
	shares, now := s.shares.Totals(), s.now()
	f := foundMiner{
		Session: "--------", Address: s.addr.String(), Phase: s.phase.String(), Since: s.since,
		Submitted: shares.Submitted, Accepted: shares.Accepted, Refused: shares.RefusedShares(), LastShare: s.lastShare(),
		Unknown: shares.Unknown, Reasons: refusalsOf(shares.Refused),
		Recent: rateReplyOf(s.shares.Recent(now)), Average: rateReplyOf(s.shares.Average(now)),
	}
	if s.hasID {
		f.Session = fmt.Sprintf("%08x", s.id)
	}
	if s.subscription != nil {
		f.Agent = strings.Map(stratum.Printable, journal.Clip(s.subscription.UserAgent, journal.MaxText))
	}
	if s.auth != nil {
		f.Worker = journal.Clip(s.auth.name.String(), journal.MaxText)
	}
	if s.account != nil {
		f.Account = journal.Clip(s.account.name, journal.MaxField)
	}
	for _, w := range s.workers[:min(len(s.workers), maxFoundWorkers)] {
		f.Others = append(f.Others, journal.Clip(w.name.String(), journal.MaxField))
	}
	if s.agent != nil {
		f.Devices = len(s.agent.messages)
	}
	if s.link != nil {
		f.Coin, f.Pool = s.link.pool.coin, s.link.address.text
		if d := s.link.work.Current(); d.Known() && s.agent == nil {
			difficulty := d.In(unitOf(s.manager.chain, s.subscription))
			f.Difficulty = &difficulty
		}
	}
	if s.linking != nil {
		f.NextCoin = s.linking.pool.coin
	}
	return f
}
