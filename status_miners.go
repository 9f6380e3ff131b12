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

// This file serves the list of a sub-account's miners.

const (
	maxMinerRows = 500

	// silentAfter is the time without a share after which a miner counts as silent.
	silentAfter = 10 * time.Minute
)

// minerLists keeps the lists that were requested for surveyKeep, so that no session is
// read more often, whatever the number of readers.
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

// get returns the miners of a sub-account, or nil if none is connected.
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

// forget drops the lists that are older than surveyKeep.
func (t *minerLists) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropOld(time.Now())
}

// dropOld drops the lists that are older than surveyKeep. t.mu is held.
func (t *minerLists) dropOld(now time.Time) {
	maps.DeleteFunc(t.lists, func(_ string, l *minerList) bool { return now.Sub(l.made) >= surveyKeep })
}

// fill reads the sessions on their loops. It returns false if the loops are too busy.
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
		if s.account == a { // the session may have ended meanwhile
			parts[part] = append(parts[part], s.snapshot(s.now()))
		}
	})
	if ok {
		l.miners = slices.Concat(parts...)
	}
	return ok
}

// minerOrders has the orders in which a list can be requested.
var minerOrders = map[string]func(a, b *sessionSnapshot) int{
	"worker":   compareWorkers,
	"phase":    func(a, b *sessionSnapshot) int { return cmp.Compare(a.phase, b.phase) },
	"hashrate": func(a, b *sessionSnapshot) int { return cmp.Compare(a.hashrate(), b.hashrate()) },
	"difficulty": func(a, b *sessionSnapshot) int {
		return cmp.Compare(orMinusOne(a.difficulty), orMinusOne(b.difficulty))
	},
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

// hashrate returns the value by which miners are sorted: the recent rate, or -1 if it
// is not known.
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
	Miners   []shownMiner   `json:"miners"` // in the requested order, from Offset on
	Offset   int            `json:"offset"`
	Total    int            `json:"total"`
	MaxRows  int            `json:"max_rows"` // the most miners that one answer may have
	Phases   map[string]int `json:"phases"`
	Silent   int            `json:"silent"`    // without a share for SilentAt seconds
	SilentAt int            `json:"silent_at"` // seconds
}

// serveMiners answers with at most maxMinerRows miners of one sub-account, in the
// requested order.
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

// firstInOrder returns the n first rows in order. It does not sort all rows if there are
// many more. It may change the order of the slice rows.
func firstInOrder[T any](rows []T, n int, compare func(a, b T) int) []T {
	if n > len(rows)/4 {
		slices.SortFunc(rows, compare)
		return rows[:min(n, len(rows))]
	}
	first := make([]T, 0, 2*n)
	full := false // first[:n] is in order, and rows that come after first[n-1] are not wanted
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

// numberIn parses the value of a query's parameter and returns otherwise if it is empty.
// If the value is not a number from least to most, numberIn answers with an error, and
// ok is false.
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
