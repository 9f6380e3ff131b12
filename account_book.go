package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang/glog"
)

// accountBook has the sub-accounts with miners connected to this switcher. Except
// for its name and share counts, a subAccount is only read or changed by the
// book's methods or with mu held. Any goroutine may use the book.
type accountBook struct {
	health  *health // is kept informed of the number of sub-accounts
	monitor *monitor
	rates   *rateBook

	span time.Duration // costSpan; less in tests

	mu         sync.Mutex
	accounts   map[string]*subAccount // by name
	handedOver bool                   // the next process reports what the present switches cost
}

func newAccountBook(h *health, mon *monitor, rates *rateBook) *accountBook {
	return &accountBook{health: h, monitor: mon, rates: rates, span: costSpan, accounts: make(map[string]*subAccount)}
}

// get returns a sub-account. It creates the sub-account, with the wanted coin, if
// there is none of that name. mu is held.
func (b *accountBook) get(name, wanted string) *subAccount {
	a := b.accounts[name]
	if a == nil {
		a = &subAccount{name: name, shares: b.rates.comes(name), wanted: wanted, mining: make(map[string]int)}
		a.before = a.shares.Totals()
		b.accounts[name] = a
		b.health.accountsHere.Add(1)
	}
	return a
}

// expect prepares for a session that is about to join, so that it misses no
// coin change from now on.
func (b *accountBook) expect(name, coin string) *subAccount {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.get(name, coin)
	a.pending++
	return a
}

// forget undoes expect for a session that has gone.
func (b *accountBook) forget(a *subAccount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.pending--
	b.dropIfUnused(a)
}

// join makes the expected session one of the account's and returns the coin it
// should mine.
func (b *accountBook) join(s *Session, a *subAccount) (wanted string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.pending--
	a.add(s)
	return a.wanted
}

// leave removes the session from its account.
func (b *accountBook) leave(s *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := s.account
	last := len(a.sessions) - 1
	a.sessions[s.accountSlot] = a.sessions[last]
	a.sessions[s.accountSlot].accountSlot = s.accountSlot
	a.sessions[last] = nil
	a.sessions = a.sessions[:last]
	if s.link != nil {
		a.count(s.link.pool.coin, -1)
	}
	if len(a.sessions) == 0 {
		b.cutRun(a, "the last miner left")
	}
	b.finishRun(a)
	b.dropIfUnused(a)
	s.account = nil
}

func (b *accountBook) dropIfUnused(a *subAccount) {
	if len(a.sessions) == 0 && a.pending == 0 && b.accounts[a.name] == a {
		delete(b.accounts, a.name)
		b.rates.leaves(a.name)
		b.health.accountsHere.Add(-1)
	}
}

// wanted returns the coin that the account's miners should mine. It is empty if the
// account's entry in the coin source was deleted.
func (b *accountBook) wanted(a *subAccount) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return a.wanted
}

// linked counts a session's new link. from is the previous pool, or nil.
func (b *accountBook) linked(s *Session, from *pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, to := s.account, s.link.pool
	if from != nil {
		a.count(from.coin, -1)
	}
	a.count(to.coin, 1)
	if a.run != nil && from != nil && from != to && to.coin == a.run.coin {
		a.run.moved++
		b.finishRun(a)
	}
}

// finishRun logs the end of a switch once no miner is left on another coin. mu
// is held.
func (b *accountBook) finishRun(a *subAccount) {
	if a.run == nil || a.mining[a.run.coin] < len(a.sessions) {
		return
	}
	r := a.run
	a.run, r.took = nil, max(1, time.Since(r.began))
	glog.V(1).Infof("switch account=%q to=%q miners=%d failed_links=%d ms=%d: done", a.name, r.coin, r.moved, r.failed, r.took.Milliseconds())
	b.monitor.switchDone(a.name, r)
	if r.after > 0 {
		b.endCost(a)
	}
}

// linkFailed counts a failed try for the switch under way.
func (b *accountBook) linkFailed(a *subAccount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.run != nil {
		a.run.failed++
	}
}

// trouble records what happened to a link of the account. It reports whether that
// should be logged, which is true at most once in alertEvery.
func (b *accountBook) trouble(a *subAccount, about blame, err error) (alert bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	a.lastError, a.lastErrorAt, a.lastErrorOf = err.Error(), now, about
	if alert = now.Sub(a.lastFailed) >= alertEvery; alert {
		a.lastFailed = now
	}
	return alert
}

// coinChange is what a change of an account's coin means for its miners.
type coinChange struct {
	account  *subAccount
	from     string // the previous coin; empty if there was none
	moves    bool   // a switch begins
	sessions []*Session
}

// change records the account's new coin. It returns nil if the account has no
// miners here or nothing has changed. A switch begins if the coin has a pool and
// some miners are not there yet. If an entry was deleted and created again with
// the same coin, no miner has to move.
func (b *accountBook) change(name, coin string, hasPool bool) *coinChange {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[name]
	if a == nil || a.wanted == coin {
		return nil
	}
	c := &coinChange{account: a, from: a.wanted, sessions: slices.Clone(a.sessions)}
	c.moves = hasPool && a.mining[coin] < len(a.sessions)
	a.wanted = coin
	b.cutRun(a, "the coin changed again")
	if c.moves {
		b.beginRun(a, c.from, coin)
	}
	return c
}

// resume adds a session of the previous process to its account. wanted is the
// account's coin and switched the time of its last change (in Unix seconds, 0 if there was none),
// as that process knew them.
func (b *accountBook) resume(s *Session, name, wanted string, switched int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.accounts[name] != nil
	a := b.get(name, wanted)
	if !known && switched != 0 {
		a.lastSwitch = time.Unix(switched, 0)
	}
	a.add(s)
	a.count(s.link.pool.coin, 1)
}

// sessionsOf returns a sub-account and its sessions, or nil if it has no sessions.
func (b *accountBook) sessionsOf(name string) (*subAccount, []*Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[name]
	if a == nil || len(a.sessions) == 0 {
		return nil, nil
	}
	return a, slices.Clone(a.sessions)
}

// size returns how many sub-accounts have miners here.
func (b *accountBook) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.accounts)
}

// all returns the sub-accounts with miners here, in no order.
func (b *accountBook) all() []*subAccount {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.accounts))
}

// state returns each account's coin and when it last changed, for the next
// process.
func (b *accountBook) state() (wanted map[string]string, switched map[string]int64) {
	wanted, switched = make(map[string]string), make(map[string]int64)
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, a := range b.accounts {
		wanted[name] = a.wanted
		if !a.lastSwitch.IsZero() {
			switched[name] = a.lastSwitch.Unix()
		}
	}
	return wanted, switched
}
