package main

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/natural"
)

// The lists of miners of single sub-accounts.

const (
	maxMinerRows = 500

	// silentAfter is the time without a share after which a miner counts as silent.
	silentAfter = 10 * time.Minute
)

// minerLists briefly keeps the miners of the sub-accounts that were asked for. A
// session is read at most once per surveyKeep, whatever the number of readers.
type minerLists struct {
	mu    sync.Mutex
	lists map[string]*minerList // by sub-account
	busy  time.Time             // when the loops last did not answer
}

// minerList is immutable.
type minerList struct {
	made   time.Time
	miners []sessionSnapshot
}

// get returns the miners of a sub-account. It is nil if none is connected.
func (t *minerLists) get(m *sessionManager, stop <-chan struct{}, account string) (*minerList, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropOld(time.Now())
	if l := t.lists[account]; l != nil {
		return l, nil
	}
	if time.Since(t.busy) < surveyKeep {
		return nil, errLoopsBusy
	}
	a, sessions := m.accounts.sessionsOf(account)
	if a == nil {
		return nil, nil
	}
	l := &minerList{made: time.Now()}
	if !l.fill(m, stop, a, sessions) {
		t.busy = time.Now()
		return nil, errLoopsBusy
	}
	l.made = time.Now()
	if t.lists == nil {
		t.lists = make(map[string]*minerList)
	}
	t.lists[account] = l
	return l, nil
}

// forget drops lists that are too old to be shown.
func (t *minerLists) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropOld(time.Now())
}

// dropOld is called with mu held.
func (t *minerLists) dropOld(now time.Time) {
	maps.DeleteFunc(t.lists, func(_ string, l *minerList) bool { return now.Sub(l.made) >= surveyKeep })
}

// fill asks the loops. It returns false if they are too busy.
func (l *minerList) fill(m *sessionManager, stop <-chan struct{}, a *subAccount, sessions []*Session) bool {
	byLoop := make([][]*Session, len(m.loops))
	for _, s := range sessions {
		part := slices.Index(m.loops, s.loop)
		byLoop[part] = append(byLoop[part], s)
	}
	parts := make([][]sessionSnapshot, len(m.loops))
	ok := m.walk(stop, func(part int, _ *sessionLoop) []*Session {
		parts[part] = make([]sessionSnapshot, 0, len(byLoop[part]))
		return byLoop[part]
	}, func(part int, s *Session) {
		if s.account == a { // it has not left meanwhile
			parts[part] = append(parts[part], s.snapshot(s.now()))
		}
	})
	if ok {
		l.miners = slices.Concat(parts...)
	}
	return ok
}

// minerOrders are the orders of a list of miners.
var minerOrders = map[string]func(a, b *sessionSnapshot) int{
	"worker":     compareWorkers,
	"phase":      func(a, b *sessionSnapshot) int { return cmp.Compare(a.phase, b.phase) },
	"hashrate":   func(a, b *sessionSnapshot) int { return cmp.Compare(a.hashrate(), b.hashrate()) },
	"difficulty": func(a, b *sessionSnapshot) int { return cmp.Compare(orMinus(a.difficulty), orMinus(b.difficulty)) },
	"accepted":   func(a, b *sessionSnapshot) int { return cmp.Compare(a.shares.Accepted, b.shares.Accepted) },
	"refused":    func(a, b *sessionSnapshot) int { return cmp.Compare(a.refusedPart(), b.refusedPart()) },
	"last_share": func(a, b *sessionSnapshot) int { return cmp.Compare(a.lastShare, b.lastShare) },
	"since":      func(a, b *sessionSnapshot) int { return cmp.Compare(a.since, b.since) },
	"coin": func(a, b *sessionSnapshot) int {
		return cmp.Or(natural.Compare(a.coin, b.coin), natural.Compare(a.pool, b.pool))
	},
	"address":    func(a, b *sessionSnapshot) int { return a.addr.Compare(b.addr) },
	"user_agent": func(a, b *sessionSnapshot) int { return natural.Compare(a.userAgent, b.userAgent) },
	"session":    func(a, b *sessionSnapshot) int { return cmp.Compare(a.id, b.id) },
}

func compareWorkers(a, b *sessionSnapshot) int {
	return cmp.Or(natural.Compare(a.worker.Account, b.worker.Account), natural.Compare(a.worker.Miner, b.worker.Miner))
}

// hashrate returns the value to sort by. An unknown hashrate sorts behind all others.
func (v *sessionSnapshot) hashrate() float64 {
	if perSecond, ok := v.recent.Value(); ok {
		return perSecond
	}
	return -1
}

// refusedPart returns the refused part of the answered shares, or -1 without any.
func (v *sessionSnapshot) refusedPart() float64 {
	refused := float64(v.shares.RefusedShares())
	all := refused + float64(v.shares.Accepted)
	if all == 0 {
		return -1
	}
	return refused / all
}

// silent reports whether the miner is at a pool and has sent no share for
// silentAfter.
func (v *sessionSnapshot) silent(now time.Time) bool {
	last := max(v.lastShare, v.since)
	return v.phase >= phaseRelaying && last > 0 && now.Unix()-last >= int64(silentAfter/time.Second)
}

// minersReply is /api/miners.
type minersReply struct {
	Account  string         `json:"account"`
	Miners   []shownMiner   `json:"miners"` // in order, from Offset on
	Offset   int            `json:"offset"`
	Total    int            `json:"total"`
	MaxRows  int            `json:"max_rows"` // as many as one answer may have
	Phases   map[string]int `json:"phases"`
	Silent   int            `json:"silent"`    // without a share for SilentAt seconds
	SilentAt int            `json:"silent_at"` // seconds
}

// serveMiners answers with the miners of one sub-account, in the order asked for
// and at most maxMinerRows of them.
func (s *statusServer) serveMiners(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	account, order := q.Get("account"), cmp.Or(q.Get("sort"), "worker")
	compare, ok := minerOrders[order]
	if !ok {
		http.Error(w, "sort: one of "+strings.Join(slices.Sorted(maps.Keys(minerOrders)), ", "), http.StatusBadRequest)
		return
	}
	if account == "" || len(account) > maxQuery {
		http.Error(w, "account: the name of a sub-account", http.StatusBadRequest)
		return
	}
	limit, ok := numberIn(w, q.Get("limit"), "limit", 1, maxMinerRows, maxMinerRows)
	if !ok {
		return
	}
	offset, ok := numberIn(w, q.Get("offset"), "offset", 0, 1<<30, 0)
	if !ok {
		return
	}
	list, err := s.miners.get(s.manager, s.stop, account)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case list == nil:
		http.Error(w, "no miner of this sub-account is connected", http.StatusNotFound)
		return
	}
	reply := minersReply{
		Account: account, Offset: offset, Total: len(list.miners), MaxRows: maxMinerRows, Miners: []shownMiner{},
		Phases: make(map[string]int), SilentAt: int(silentAfter / time.Second),
	}
	now := time.Now()
	rows := make([]*sessionSnapshot, len(list.miners))
	for i := range list.miners {
		v := &list.miners[i]
		rows[i] = v
		reply.Phases[v.phase.String()]++
		if v.silent(now) {
			reply.Silent++
		}
	}
	direction := 1
	if q.Get("desc") == "1" {
		direction = -1
	}
	rows = firstInOrder(rows, offset+limit, func(a, b *sessionSnapshot) int {
		return cmp.Or(direction*compare(a, b), compareWorkers(a, b), cmp.Compare(a.id, b.id), a.addr.Compare(b.addr))
	})
	for _, v := range rows[min(offset, len(rows)):] {
		reply.Miners = append(reply.Miners, v.shown())
	}
	writeJSON(w, &reply)
}

// firstInOrder returns the first n rows in order. If there are many, it does not sort
// the others. It may change the order of rows.
func firstInOrder[T any](rows []T, n int, compare func(a, b T) int) []T {
	if n > len(rows)/4 {
		slices.SortFunc(rows, compare)
		return rows[:min(n, len(rows))]
	}
	first := make([]T, 0, 2*n)
	full := false // the first n are in order, and what comes after the n-th is not wanted
	for _, r := range rows {
		if full && compare(r, first[n-1]) >= 0 {
			continue
		}
		if first = append(first, r); len(first) == 2*n {
			slices.SortFunc(first, compare)
			first, full = first[:n], true
		}
	}
	slices.SortFunc(first, compare)
	return first[:min(n, len(first))]
}

// numberIn reads a number of a query. If it is not a number or out of bounds, it
// answers with an error and ok is false.
func numberIn(w http.ResponseWriter, text, name string, least, most, otherwise int) (n int, ok bool) {
	if text == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		http.Error(w, name+": from "+strconv.Itoa(least)+" to "+strconv.Itoa(most), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}
