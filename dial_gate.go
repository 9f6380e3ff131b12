package main

import "sync"

// dialGate bounds how many pool links are being prepared at a time, so that
// moving ten thousand miners does not flood a pool. Waiting sub-accounts are
// served in turn, one session each: a large one does not hold up a small one.
type dialGate struct {
	mu      sync.Mutex
	free    int
	waiting map[*subAccount][]*dialTicket
	turns   []*subAccount // accounts with waiting tickets, next one first
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

func newDialGate(size int) *dialGate {
	return &dialGate{free: size, waiting: make(map[*subAccount][]*dialTicket)}
}

// acquire returns a ticket and whether it is held already. If not, granted is
// called, from any goroutine, when it is; granted must not block.
func (g *dialGate) acquire(account *subAccount, granted func()) (*dialTicket, bool) {
	t := &dialTicket{account: account, granted: granted}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free > 0 {
		g.free--
		t.state = ticketHeld
		return t, true
	}
	queue := g.waiting[account]
	if len(queue) == 0 {
		g.turns = append(g.turns, account)
	}
	g.waiting[account] = append(queue, t)
	return t, false
}

// release gives a ticket back, held or still waiting. It takes nil, and a
// ticket more than once.
func (g *dialGate) release(t *dialTicket) {
	if t == nil {
		return
	}
	g.mu.Lock()
	held := t.state == ticketHeld
	t.state = ticketReleased // a waiting one is skipped when its turn comes
	var next *dialTicket
	if held {
		if next = g.take(); next == nil {
			g.free++
		}
	}
	g.mu.Unlock()
	if next != nil {
		next.granted()
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
