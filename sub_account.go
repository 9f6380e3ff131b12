package main

import (
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

// subAccount is what the manager knows about one sub-account with miners connected.
// The book's mu guards all fields except name, shares, before and costing.
type subAccount struct {
	name   string
	shares *hashrate.Counter // owned by the rateBook

	// before has what was counted for earlier miners, all of which had left when the
	// first of the present ones connected.
	before hashrate.Totals

	wanted   string // the latest coin from the coin source; empty if the entry was deleted
	sessions []*Session
	pending  int            // sessions about to join
	mining   map[string]int // sessions with a pool link, by coin

	lastSwitch  time.Time // when wanted last changed
	lastError   string    // of the last pool link that failed
	lastErrorAt time.Time
	lastErrorOf blame      // the party blamed for it
	lastFailed  time.Time  // when a failure was last logged
	run         *switchRun // the switch under way, until all miners have moved

	// costing is the switch whose cost is being counted. Any goroutine may read it.
	costing atomic.Pointer[switchRun]

	stableAt linkTally // guarded by health.mu
}

// alertEvery bounds how often a sub-account's failing links are logged.
const alertEvery = time.Minute

// dropPending undoes expect for a session that has gone.
func (m *sessionManager) dropPending(a *subAccount) {
	if a == nil {
		return
	}
	m.accounts.forget(a)
	m.coins.Release(a.name)
}

func (a *subAccount) add(s *Session) {
	s.account = a
	s.accountSlot = int32(len(a.sessions))
	a.sessions = append(a.sessions, s)
}

// leaveAccount removes the session from its account, if it is in one.
func (m *sessionManager) leaveAccount(s *Session) {
	a := s.account
	if a == nil {
		return
	}
	m.accounts.leave(s)
	if s.interest {
		s.interest = false
		m.coins.Release(a.name)
	}
}

func (a *subAccount) count(coin string, by int) {
	if a.mining[coin] += by; a.mining[coin] == 0 {
		delete(a.mining, coin)
	}
}

// wantedPool returns the pool of the coin that the session should mine, or nil if
// there is none.
func (m *sessionManager) wantedPool(s *Session) *pool { return m.pools[m.accounts.wanted(s.account)] }

// CoinChanged implements coins.Sink. It moves the account's miners.
func (m *sessionManager) CoinChanged(account, coin string) {
	p := m.pools[coin]
	c := m.accounts.change(account, coin, p != nil)
	if c == nil {
		return
	}
	miners := len(c.sessions)
	if c.moves || p == nil {
		m.monitor.switchBegins(account, c.from, coin, miners, p != nil)
	}
	switch {
	case coin == "":
		m.limitedLog.Warningf("coin deleted", "switch account=%q coin=%q: entry deleted, %s", account, c.from, minersStay(miners))
	case p == nil:
		m.limitedLog.Errorf("coin without a pool", "switch account=%q from=%q to=%q: not in StratumServerMap, %s", account, c.from, coin, minersStay(miners))
	case !c.moves:
		glog.V(1).Infof("switch account=%q from=%q to=%q miners=%d: all are there", account, c.from, coin, miners)
	default:
		glog.V(1).Infof("switch account=%q from=%q to=%q miners=%d: begins", account, c.from, coin, miners)
	}
	byLoop := make(map[*sessionLoop][]*Session)
	for _, s := range c.sessions {
		byLoop[s.loop] = append(byLoop[s.loop], s)
	}
	for l, sessions := range byLoop {
		l.Post(func() {
			for _, s := range sessions {
				switch {
				case s.account != c.account:
				case p == nil:
					s.stay()
				default:
					s.switchTo(p)
				}
			}
		})
	}
}

// linked counts a session's new link. from is the previous pool, or nil.
func (m *sessionManager) linked(s *Session, from *pool) {
	m.linksMade.Add(1)
	m.accounts.linked(s, from)
}

// linkFailed records a failed attempt to get a pool link for the session and its
// sub-account. The log gets at most one line per account in alertEvery, not one
// for each miner.
func (m *sessionManager) linkFailed(s *Session, l *linking, err error, f finding) {
	m.linksFailed.Add(1)
	m.monitor.tooLong(err)
	m.accounts.linkFailed(s.account)
	m.accountTrouble(s, l.pool, l.address, f.blame, "link failed", err)
}

// poolLost records that the link in use has ended. unstable means that it ended
// soon after it began.
func (m *sessionManager) poolLost(s *Session, err error, unstable bool) {
	m.linksLost.Add(1)
	s.link.pool.linksTo(s.link.address).lost.Add(1)
	m.monitor.tooLong(err)
	what := "link lost"
	if unstable {
		what = "link lost soon after it began"
	}
	m.accountTrouble(s, s.link.pool, s.link.address, blameNobody, what, err)
}

// accountTrouble records for the session's sub-account what happened to a link and
// who is to blame.
func (m *sessionManager) accountTrouble(s *Session, p *pool, at *poolAddress, about blame, what string, err error) {
	a := s.account
	if !m.accounts.trouble(a, about, err) {
		return
	}
	where := "-" // no address could be tried
	if at != nil {
		where = at.text
	}
	key := journal.Key{Kind: journal.Pool, What: what, Account: a.name, Coin: p.coin, Pool: where}
	if about != blameNobody {
		key.About = about.String()
	}
	m.monitor.events.Add(journal.Bad, key, err.Error())
	m.limitedLog.Warningf(what, "pool account=%q coin=%q pool=%s about=%s worker=%q: %s: %v", a.name, p.coin, where, about, s.auth.name, what, err)
}
