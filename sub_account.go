package main

import (
	"time"

	"github.com/golang/glog"
)

// subAccount is what the manager knows of one sub-account with miners here.
// Its fields but name are guarded by the manager's mu.
type subAccount struct {
	name   string
	shares shareCounts

	wanted   string // the coin by the coin source; empty if its entry is gone
	sessions []*Session
	pending  int            // sessions about to join
	mining   map[string]int // sessions with a pool link, by coin

	lastSwitch  time.Time // when wanted changed last
	lastError   string    // of the last pool link that failed
	lastErrorAt time.Time
	lastErrorOf blame     // whom it was held against
	lastFailed  time.Time // when that was logged
	run         *switchRun

	stableAt linkTally // guarded by health.mu
}

// switchRun is one move of a sub-account's miners to another coin, for the
// log: it has a line when it begins and one when the last miner has moved.
type switchRun struct {
	from   string
	coin   string
	began  time.Time
	moved  int
	failed int // links
}

// alertEvery bounds how often a sub-account's failing links are logged.
const alertEvery = time.Minute

// expectAccount makes ready for a session that is about to join, so that coin
// changes from now on are not missed. Any goroutine may call it.
func (m *sessionManager) expectAccount(name, coin string) *subAccount {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[name]
	if a == nil {
		a = &subAccount{name: name, wanted: coin, mining: make(map[string]int)}
		m.accounts[name] = a
		m.health.accountsHere.Add(1)
	}
	a.pending++
	return a
}

// dropPending takes back expectAccount for a session that went away.
func (m *sessionManager) dropPending(a *subAccount) {
	if a == nil {
		return
	}
	m.mu.Lock()
	a.pending--
	m.dropIfUnused(a)
	m.mu.Unlock()
	m.coins.Release(a.name)
}

// joinAccount makes the expected session one of the account's and returns the
// coin it should mine.
func (m *sessionManager) joinAccount(s *Session, a *subAccount) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.pending--
	a.add(s)
	s.interest = true
	return a.wanted
}

func (a *subAccount) add(s *Session) {
	s.account = a
	s.accountSlot = len(a.sessions)
	a.sessions = append(a.sessions, s)
}

// leaveAccount takes the session out of its account, if it is in one.
func (m *sessionManager) leaveAccount(s *Session) {
	a := s.account
	if a == nil {
		return
	}
	m.mu.Lock()
	last := len(a.sessions) - 1
	a.sessions[s.accountSlot] = a.sessions[last]
	a.sessions[s.accountSlot].accountSlot = s.accountSlot
	a.sessions[last] = nil
	a.sessions = a.sessions[:last]
	if s.link != nil {
		a.count(s.link.pool.coin, -1)
	}
	m.finishRun(a)
	m.dropIfUnused(a)
	m.mu.Unlock()
	s.account = nil
	if s.interest {
		s.interest = false
		m.coins.Release(a.name)
	}
}

func (m *sessionManager) dropIfUnused(a *subAccount) {
	if len(a.sessions) == 0 && a.pending == 0 && m.accounts[a.name] == a {
		delete(m.accounts, a.name)
		m.health.accountsHere.Add(-1)
	}
}

func (a *subAccount) count(coin string, by int) {
	if a.mining[coin] += by; a.mining[coin] == 0 {
		delete(a.mining, coin)
	}
}

// wantedPool is the pool of the coin the session should mine, nil if there is
// none.
func (m *sessionManager) wantedPool(s *Session) *pool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pools[s.account.wanted]
}

// CoinChanged implements CoinSink: the account's miners are moved.
func (m *sessionManager) CoinChanged(account, coin string) {
	m.mu.Lock()
	a := m.accounts[account]
	if a == nil || a.wanted == coin {
		m.mu.Unlock()
		return
	}
	from := a.wanted
	a.wanted = coin
	a.lastSwitch = time.Now()
	p := m.pools[coin]
	miners := len(a.sessions)
	byLoop := make(map[*loop][]*Session)
	for _, s := range a.sessions {
		byLoop[s.loop] = append(byLoop[s.loop], s)
	}
	m.monitor.switchCut(a.name, a.run)
	a.run = nil
	if p != nil && miners > 0 {
		a.run = &switchRun{from: from, coin: coin, began: time.Now()}
	}
	m.mu.Unlock()
	m.monitor.switchBegins(account, from, coin, miners, p != nil)

	switch {
	case coin == "":
		m.limitedLog.warningf("coin deleted", "switch account=%q coin=%q: entry deleted, %d miners stay", account, from, miners)
	case p == nil:
		m.limitedLog.errorf("coin without a pool", "switch account=%q from=%q to=%q: not in StratumServerMap, %d miners stay", account, from, coin, miners)
	default:
		glog.V(1).Infof("switch account=%q from=%q to=%q miners=%d: begins", account, from, coin, miners)
	}
	for l, sessions := range byLoop {
		l.post(func() {
			for _, s := range sessions {
				switch {
				case s.account != a:
				case p == nil:
					s.stay()
				default:
					s.switchTo(p)
				}
			}
		})
	}
}

// linked counts a session's new pool link. from is the pool before, or nil.
func (m *sessionManager) linked(s *Session, from *pool) {
	m.linksMade.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	a := s.account
	if from != nil {
		a.count(from.coin, -1)
	}
	a.count(s.link.pool.coin, 1)
	if a.run != nil && from != nil && from != s.link.pool && s.link.pool.coin == a.run.coin {
		a.run.moved++
		m.finishRun(a)
	}
}

// finishRun logs the end of a switch when no miner is left on another coin.
func (m *sessionManager) finishRun(a *subAccount) {
	if a.run == nil || a.mining[a.run.coin] < len(a.sessions) {
		return
	}
	glog.V(1).Infof("switch account=%q to=%q miners=%d failed_links=%d ms=%d: done",
		a.name, a.run.coin, a.run.moved, a.run.failed, time.Since(a.run.began).Milliseconds())
	m.monitor.switchDone(a.name, a.run)
	a.run = nil
}

// linkFailed notes at its sub-account a pool link that could not be had. The
// log has a line for an account now and then, not one for each of its miners.
func (m *sessionManager) linkFailed(s *Session, l *linking, err error, f finding) {
	m.linksFailed.Add(1)
	m.monitor.tooLong(err)
	m.mu.Lock()
	if s.account.run != nil {
		s.account.run.failed++
	}
	m.mu.Unlock()
	m.accountTrouble(s, l.pool, l.address, f.blame, "link failed", err)
}

// poolLost notes an established link that ended. unstable: soon after it began.
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

// accountTrouble notes what happened to a link at the session's sub-account,
// and whom it was held against.
func (m *sessionManager) accountTrouble(s *Session, p *pool, at *poolAddress, about blame, what string, err error) {
	m.mu.Lock()
	a := s.account
	a.lastError, a.lastErrorAt, a.lastErrorOf = err.Error(), time.Now(), about
	alert := time.Since(a.lastFailed) >= alertEvery
	if alert {
		a.lastFailed = time.Now()
	}
	m.mu.Unlock()
	if !alert {
		return
	}
	where := "-" // no address may be tried
	if at != nil {
		where = at.text
	}
	key := eventKey{Kind: eventPool, What: what, Account: a.name, Coin: p.coin, Pool: where}
	if about != blameNobody {
		key.About = about.String()
	}
	m.monitor.events.add(levelBad, key, err.Error())
	m.limitedLog.warningf(what, "pool account=%q coin=%q pool=%s about=%s worker=%q: %s: %v", a.name, p.coin, where, about, s.auth.name, what, err)
}
