package main

import (
	"sync"
	"time"
)

// dialGate bounds how many pool links are being prepared at a time, and how
// many are begun in a second, so that moving ten thousand miners does not flood
// a pool. Waiting sub-accounts are served in turn, one session each: a large
// one does not hold up a small one.
type dialGate struct {
	rate float64 // tickets a second; 0: as many as there are

	mu      sync.Mutex
	free    int
	waiting map[*subAccount][]*dialTicket
	turns   []*subAccount // accounts with waiting tickets, next one first
	tokens  float64       // tickets that may be given now by the rate
	counted time.Time     // when tokens was last brought up to date
	timer   *time.Timer   // set while only the rate holds tickets back
}

// dialTicket is the right to prepare one pool link, or the place in the queue
// for it. It belongs to the session that acquired it, which releases it.
type dialTicket struct {
	account *subAccount
	granted func() // called once when a waiting ticket's turn has come
	state   ticketState
}

type ticketState uint8

const (
	ticketWaiting ticketState = iota
	ticketHeld
	ticketReleased
)

// rateBurst is how many seconds' worth of tickets may be given at once.
const rateBurst = 0.05

func newDialGate(size, rate int) *dialGate {
	return &dialGate{
		rate: float64(rate), free: size, waiting: make(map[*subAccount][]*dialTicket),
		tokens: max(1, float64(rate)*rateBurst), counted: time.Now(),
	}
}

// spend takes a token of the rate, if there is one.
func (g *dialGate) spend() bool {
	if g.rate == 0 {
		return true
	}
	now := time.Now()
	g.tokens = min(max(1, g.rate*rateBurst), g.tokens+g.rate*now.Sub(g.counted).Seconds())
	g.counted = now
	if g.tokens < 1 {
		return false
	}
	g.tokens--
	return true
}

// acquire returns a ticket and whether it is held already. If not, granted is
// called, from any goroutine, when it is; granted must not block.
func (g *dialGate) acquire(account *subAccount, granted func()) (*dialTicket, bool) {
	t := &dialTicket{account: account, granted: granted}
	g.mu.Lock()
	queue := g.waiting[account]
	if len(queue) == 0 {
		g.turns = append(g.turns, account)
	}
	g.waiting[account] = append(queue, t)
	next := g.grant()
	held := t.state == ticketHeld
	g.mu.Unlock()
	for _, other := range next {
		if other != t {
			other.granted()
		}
	}
	return t, held
}

// release gives a ticket back, held or still waiting. It takes nil, and a
// ticket more than once.
func (g *dialGate) release(t *dialTicket) {
	if t == nil {
		return
	}
	g.mu.Lock()
	if t.state == ticketHeld {
		g.free++
	}
	t.state = ticketReleased // a waiting one is skipped when its turn comes
	next := g.grant()
	g.mu.Unlock()
	for _, t := range next {
		t.granted()
	}
}

// grant gives out what tickets there are.
func (g *dialGate) grant() []*dialTicket {
	var granted []*dialTicket
	for g.free > 0 && len(g.turns) > 0 {
		if !g.spend() {
			g.wakeLater()
			break
		}
		t := g.take()
		if t == nil {
			g.tokens++
			break
		}
		g.free--
		granted = append(granted, t)
	}
	return granted
}

// waitingAccounts is how many sub-accounts wait for a ticket.
func (g *dialGate) waitingAccounts() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// wakeLater sees that waiting tickets are given when the rate allows it.
func (g *dialGate) wakeLater() {
	if g.timer == nil {
		g.timer = time.AfterFunc(time.Duration(float64(time.Second)/g.rate)+time.Millisecond, g.rateAllows)
	}
}

func (g *dialGate) rateAllows() {
	g.mu.Lock()
	g.timer = nil
	next := g.grant()
	g.mu.Unlock()
	for _, t := range next {
		t.granted()
	}
}

// take returns the next waiting ticket as a held one, or nil.
func (g *dialGate) take() *dialTicket {
	for len(g.turns) > 0 {
		account := g.turns[0]
		g.turns = g.turns[1:]
		queue := g.waiting[account]
		for len(queue) > 0 && queue[0].state == ticketReleased {
			queue = queue[1:]
		}
		if len(queue) == 0 {
			delete(g.waiting, account)
			continue
		}
		t := queue[0]
		queue[0] = nil
		if queue = queue[1:]; len(queue) == 0 {
			delete(g.waiting, account)
		} else {
			g.waiting[account] = queue
			g.turns = append(g.turns, account)
		}
		t.state = ticketHeld
		return t
	}
	return nil
}
