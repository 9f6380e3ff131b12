package main

import (
	"container/list"
	"sync"
	"time"
)

// dialGate bounds how many pool links are being prepared at a time, and how many
// are begun per second, so that moving ten thousand miners does not flood a pool. It
// is fair first between addresses, so that a slow pool does not hold up the miners of
// other pools, and then between sub-accounts, so that a large one does not hold up a
// small one. All methods may be called from any goroutine.
type dialGate struct {
	size int

	mu        sync.Mutex
	held      int // held tickets that are not excused; may exceed size, because each address has its own share
	addresses map[*endpoint]*gateAddress
	turns     []*gateAddress // addresses with waiting tickets, in the order of their turns
	rate      tokenBucket    // how many tickets may be granted now
	timer     *time.Timer    // set while only the rate holds tickets back
}

// gateAddress keeps the tickets for one address, waiting ones and held ones.
type gateAddress struct {
	at        *endpoint
	held      int       // held tickets that are not excused
	excused   int       // held tickets that are excused
	suspects  int       // held tickets of suspects of both lanes, excused or not
	returning int       // those of laneReturning among them
	tickets   list.List // all held tickets, the oldest first
	lanes     [laneCount]fairQueue
	turn      int  // index in laneOrder
	queued    bool // the address is in the gate's turns
}

const (
	// A try is slow once it has taken slowAfter. If another try at the address was
	// faster within the last fastKeep, this try is slow but the pool is not. Its ticket
	// is then excused, which means that it no longer counts, so that miners that the
	// pool keeps waiting do not keep others from the pool. If the fast try took much
	// less than slowAfter, a try is already slow once it has taken slowFactor times as
	// long as that one, and at least slowLeast. So hundreds of slow miners that arrive
	// together are excused soon.
	slowAfter  = time.Second
	slowLeast  = slowAfter / 5
	slowFactor = 4
	fastKeep   = 3 * time.Second

	// Every address may always hold size/shareOfSize tickets.
	shareOfSize = 8

	// maxExcused bounds an address's excused tickets, as a multiple of the
	// gate's size.
	maxExcused = 8
)

// gateLane is the reason why a session wants a ticket. Each lane is a queue of its own.
type gateLane uint8

const (
	laneNew       gateLane = iota // a miner's first link
	laneReconnect                 // its link was lost
	laneSwitch                    // its coin changed, or it moves to another address
	laneReturning                 // as laneSuspect, but the miner's last link was lost there
	laneSuspect                   // any reason, if links of the worker failed there lately
	laneCount
)

// laneOrder gives every fourth ticket to a switch and lets new miners and
// reconnects take turns at the others. A lane without waiting tickets passes
// its turn on to the next.
var laneOrder = [...]gateLane{laneNew, laneReconnect, laneSwitch, laneNew, laneReconnect, laneNew, laneSwitch, laneReconnect}

// dialTicket is the right to prepare one pool link, or the place in the queue
// for it. It belongs to the session that acquired it, which releases it.
type dialTicket struct {
	account *subAccount
	address *gateAddress
	lane    gateLane
	granted func() // called once, when a waiting ticket is granted
	state   ticketState
	since   time.Time     // when it was granted
	place   *list.Element // among the address's tickets
	excused bool
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
		size: size, addresses: make(map[*endpoint]*gateAddress),
		rate: newTokenBucket(float64(rate), max(1, float64(rate)*rateBurst)),
	}
}

// acquire returns a ticket to dial an address and reports whether it was
// granted at once. If not, granted is called later, from any goroutine; it must
// not block.
func (g *dialGate) acquire(at *endpoint, account *subAccount, lane gateLane, granted func()) (*dialTicket, bool) {
	g.mu.Lock()
	a := g.addresses[at]
	if a == nil {
		a = &gateAddress{at: at}
		g.addresses[at] = a
	}
	t := &dialTicket{account: account, address: a, lane: lane, granted: granted}
	a.lanes[lane].push(t)
	if !a.queued {
		a.queued = true
		g.turns = append(g.turns, a)
	}
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

// release gives a ticket back, whether it is held or waiting. It is a no-op on nil, and on
// a ticket that was released before.
func (g *dialGate) release(t *dialTicket) {
	if t == nil {
		return
	}
	g.mu.Lock()
	if t.state == ticketHeld {
		a := t.address
		a.tickets.Remove(t.place)
		if t.excused {
			a.excused--
		} else {
			g.held--
			a.held--
		}
		a.countSuspect(t, -1)
	}
	t.state = ticketReleased // a ticket that waits is skipped when its turn comes
	next := g.grant()
	g.forget(t.address)
	g.mu.Unlock()
	for _, t := range next {
		t.granted()
	}
}

// served releases the ticket of a link that is ready, and records how long it took if that
// was fast.
func (g *dialGate) served(t *dialTicket) {
	if t != nil {
		g.mu.Lock()
		if now := time.Now(); t.state == ticketHeld && now.Sub(t.since) < slowAfter {
			t.address.at.fastAt.Store(now.UnixNano())
			t.address.at.fastTook.Store(int64(now.Sub(t.since)))
		}
		g.mu.Unlock()
		g.release(t)
	}
}

// excuse stops counting slow tickets of an address where others were fast
// lately.
func (g *dialGate) excuse(a *gateAddress) {
	now := time.Now()
	if now.UnixNano()-a.at.fastAt.Load() >= int64(fastKeep) {
		return
	}
	slow := min(max(slowFactor*time.Duration(a.at.fastTook.Load()), slowLeast), slowAfter)
	for at := a.tickets.Front(); at != nil; at = at.Next() {
		t := at.Value.(*dialTicket)
		if now.Sub(t.since) < slow || a.excused >= maxExcused*g.size {
			break
		}
		if !t.excused {
			t.excused = true
			a.excused++
			a.held--
			g.held--
		}
	}
	g.wakeIn(slow / 4)
}

// forget drops an address that nobody dials.
func (g *dialGate) forget(a *gateAddress) {
	if a.tickets.Len() == 0 && !a.queued {
		delete(g.addresses, a.at)
	}
}

// grant gives out the tickets that are available and returns them. g.mu is
// held.
func (g *dialGate) grant() []*dialTicket {
	var granted []*dialTicket
	for skipped := 0; skipped < len(g.turns); {
		a := g.turns[0]
		if !g.allows(a) {
			g.excuse(a)
		}
		if !g.allows(a) {
			g.turns = append(g.turns[1:], a)
			skipped++
			continue
		}
		if !a.waits() {
			g.turns = g.turns[1:]
			a.queued = false
			g.forget(a)
			continue
		}
		if !g.rate.take(time.Now()) {
			g.wakeLater()
			break
		}
		t := a.take(g.suspectsAllowed())
		g.turns = append(g.turns[1:], a)
		if t == nil { // only suspects wait, and they hold as many as they may
			g.rate.giveBack()
			skipped++
			continue
		}
		skipped = 0
		g.held++
		granted = append(granted, t)
	}
	return granted
}

// allows reports whether an address may have one more ticket. It always may
// within its own share. Beyond that it must leave some for other addresses,
// unless no other address wants any.
func (g *dialGate) allows(a *gateAddress) bool {
	free := g.size - g.held
	switch {
	case a.held-a.suspects < g.share():
		return true
	case free <= 0:
		return false
	case len(g.turns) == 1:
		return true
	}
	return 3*free > a.held
}

// share returns how many tickets, not counting those of suspects, an address may hold even
// while others hold the whole gate. If it were only one, and an address that does not
// answer held all other tickets, a pool that answers most miners at once would have to
// serve them one by one, behind the few that it keeps waiting.
func (g *dialGate) share() int { return max(1, g.size/shareOfSize) }

// waitingAccounts returns how many sub-accounts wait for a ticket. One that waits for
// several addresses is counted for each.
func (g *dialGate) waitingAccounts() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, a := range g.addresses {
		for i := range a.lanes {
			n += len(a.lanes[i].waiting)
		}
	}
	return n
}

// wakeLater arranges for waiting tickets to be granted when the rate allows it.
func (g *dialGate) wakeLater() {
	g.wakeIn(g.rate.refill() + time.Millisecond)
}

func (g *dialGate) wakeIn(d time.Duration) {
	if g.timer == nil {
		g.timer = time.AfterFunc(d, g.timePassed)
	}
}

func (g *dialGate) timePassed() {
	g.mu.Lock()
	g.timer = nil
	next := g.grant()
	g.mu.Unlock()
	for _, t := range next {
		t.granted()
	}
}

// waits reports whether somebody wants a ticket for the address.
func (a *gateAddress) waits() bool {
	for i := range a.lanes {
		if a.lanes[i].trim() {
			return true
		}
	}
	return false
}

// suspectsAllowed returns how many tickets suspects may hold at an address: a quarter of
// the gate, or a quarter of the address's share while the gate is full.
func (g *dialGate) suspectsAllowed() int {
	if g.held >= g.size {
		return max(1, g.share()/4)
	}
	return max(1, g.size/4)
}

// take grants the next waiting ticket. Suspects come after all others and hold at most the
// given number; take returns nil if only suspects wait that may not have one. To those that
// return, only their own tickets count, because the pool may never answer the others.
func (a *gateAddress) take(suspects int) *dialTicket {
	var t *dialTicket
	for range laneOrder {
		lane := laneOrder[a.turn]
		a.turn = (a.turn + 1) % len(laneOrder)
		if t = a.lanes[lane].pop(); t != nil {
			break
		}
	}
	if t == nil && a.returning < suspects {
		t = a.lanes[laneReturning].pop()
	}
	if t == nil && a.suspects < suspects {
		t = a.lanes[laneSuspect].pop()
	}
	if t != nil {
		a.countSuspect(t, 1)
		t.state, t.since = ticketHeld, time.Now()
		t.place = a.tickets.PushBack(t)
		a.held++
	}
	return t
}

func (a *gateAddress) countSuspect(t *dialTicket, by int) {
	switch t.lane {
	case laneReturning:
		a.returning += by
		a.suspects += by
	case laneSuspect:
		a.suspects += by
	}
}

// fairQueue holds waiting tickets. Sub-accounts take turns in it.
type fairQueue struct {
	waiting map[*subAccount][]*dialTicket
	turns   []*subAccount // sub-accounts with waiting tickets, in the order of their turns
}

func (q *fairQueue) push(t *dialTicket) {
	if q.waiting == nil {
		q.waiting = make(map[*subAccount][]*dialTicket)
	}
	queue := q.waiting[t.account]
	if len(queue) == 0 {
		q.turns = append(q.turns, t.account)
	}
	q.waiting[t.account] = append(queue, t)
}

// trim drops released tickets from the front and reports whether a ticket still
// waits.
func (q *fairQueue) trim() bool {
	for len(q.turns) > 0 {
		account := q.turns[0]
		queue := q.waiting[account]
		for len(queue) > 0 && queue[0].state == ticketReleased {
			queue[0] = nil
			queue = queue[1:]
		}
		if len(queue) > 0 {
			q.waiting[account] = queue
			return true
		}
		delete(q.waiting, account)
		q.turns = q.turns[1:]
	}
	return false
}

// pop returns the next waiting ticket, or nil.
func (q *fairQueue) pop() *dialTicket {
	if !q.trim() {
		return nil
	}
	account := q.turns[0]
	q.turns = q.turns[1:]
	queue := q.waiting[account]
	t := queue[0]
	queue[0] = nil
	if queue = queue[1:]; len(queue) == 0 {
		delete(q.waiting, account)
	} else {
		q.waiting[account] = queue
		q.turns = append(q.turns, account)
	}
	return t
}
