package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gateTarget is the only address that is dialled.
var gateTarget = &endpoint{addr: netip.MustParseAddrPort("192.0.2.1:3333")}

func TestDialGateLimit(t *testing.T) {
	g := newDialGate(2, 0)
	a := &subAccount{name: "a"}
	var order []int
	var tickets []*dialTicket
	for i := range 5 {
		ticket, held := g.acquire(gateTarget, a, laneNew, func() { order = append(order, i) })
		if want := i < 2; held != want {
			t.Errorf("ticket %d is held: %v, want %v", i, held, want)
		}
		tickets = append(tickets, ticket)
	}
	if len(order) != 0 {
		t.Fatalf("%v was granted before any release", order)
	}
	g.release(tickets[1])
	g.release(tickets[0])
	if want := []int{2, 3}; !slices.Equal(order, want) {
		t.Fatalf("got tickets in the order %v, want %v", order, want)
	}
	for _, ticket := range tickets {
		g.release(ticket)
	}
	if want := []int{2, 3, 4}; !slices.Equal(order, want) {
		t.Fatalf("got tickets in the order %v, want %v", order, want)
	}
	wantIdleGate(t, g, 2)
}

// wantIdleGate wants no ticket to be held and nobody to wait.
func wantIdleGate(t *testing.T, g *dialGate, size int) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != 0 || len(g.addresses) != 0 || len(g.turns) != 0 {
		t.Errorf("%d of %d tickets are held, %d addresses are known and %d wait for their turn; want none", g.held, size, len(g.addresses), len(g.turns))
	}
}

// A sub-account with a thousand miners does not hold up a sub-account with two.
func TestDialGateIsFairBetweenAccounts(t *testing.T) {
	g := newDialGate(1, 0)
	big, small, late := &subAccount{name: "big"}, &subAccount{name: "small"}, &subAccount{name: "late"}
	first, _ := g.acquire(gateTarget, big, laneNew, nil)
	var order []string
	granted := make(map[string]*dialTicket)
	wait := func(a *subAccount, name string) {
		var ticket *dialTicket
		ticket, held := g.acquire(gateTarget, a, laneNew, func() { order = append(order, name); granted[name] = ticket })
		if held {
			t.Fatalf("%s is held at once", name)
		}
	}
	for i := range 1000 {
		wait(big, fmt.Sprint("big", i))
	}
	wait(small, "small0")
	wait(small, "small1")
	next := first
	for i := range 6 {
		g.release(next)
		next = granted[order[len(order)-1]]
		if i == 1 {
			wait(late, "late0")
		}
	}
	want := []string{"big0", "small0", "big1", "small1", "late0", "big2"}
	if !slices.Equal(order, want) {
		t.Errorf("got tickets in the order %v, want %v", order, want)
	}
}

func TestDialGateCancel(t *testing.T) {
	g := newDialGate(1, 0)
	a, b := &subAccount{name: "a"}, &subAccount{name: "b"}
	held, _ := g.acquire(gateTarget, a, laneNew, nil)
	var order []string
	wait := func(account *subAccount, name string) *dialTicket {
		ticket, _ := g.acquire(gateTarget, account, laneNew, func() { order = append(order, name) })
		return ticket
	}
	a1, a2, b1, a3 := wait(a, "a1"), wait(a, "a2"), wait(b, "b1"), wait(a, "a3")
	g.release(a1)
	g.release(a1)
	g.release(b1) // b has no session left
	g.release(nil)
	g.release(held)
	g.release(held) // this would let in one too many
	if want := []string{"a2"}; !slices.Equal(order, want) {
		t.Fatalf("got tickets in the order %v, want %v", order, want)
	}
	// b asks again after all of its tickets were given back.
	b2 := wait(b, "b2")
	g.release(a2) // it is b's turn
	g.release(a2)
	g.release(b2)
	g.release(a1)
	g.release(a3)
	for i := 1; i < len(order); i++ {
		if slices.Contains(order[:i], order[i]) {
			t.Errorf("%s got two tickets: %v", order[i], order)
		}
	}
	if !slices.Contains(order, "a3") || !slices.Contains(order, "b2") || len(order) != 3 {
		t.Errorf("got tickets in the order %v, want a2, a3 and b2", order)
	}
	wantIdleGate(t, g, 1)
}

// Many sessions acquire, cancel and release at the same time. There are never more
// tickets than the size, and all sessions that stay get one.
func TestDialGateRace(t *testing.T) {
	const size, sessions = 3, 200
	g := newDialGate(size, 0)
	accounts := []*subAccount{{name: "a"}, {name: "b"}, {name: "c"}}
	var in, most atomic.Int64
	var all sync.WaitGroup
	for i := range sessions {
		all.Go(func() {
			for range 20 {
				granted := make(chan struct{})
				ticket, held := g.acquire(gateTarget, accounts[i%len(accounts)], laneNew, func() { close(granted) })
				if !held {
					if rand.N(4) == 0 {
						// The grant may come at the same moment. Then the ticket is
						// held and is given back all the same.
						g.release(ticket)
						continue
					}
					<-granted
				}
				n := in.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				runtime.Gosched()
				in.Add(-1)
				g.release(ticket)
				g.release(ticket)
			}
		})
	}
	all.Wait()
	if most.Load() > size {
		t.Errorf("%d tickets were held at a time, want at most %d", most.Load(), size)
	}
	wantIdleGate(t, g, size)
}

// holdAll makes an address take all tickets that it can get, and returns them.
func holdAll(g *dialGate, at *endpoint, lane gateLane, n int) (held []*dialTicket) {
	for i := range n {
		if ticket, ok := g.acquire(at, &subAccount{name: fmt.Sprint(i)}, lane, func() {}); ok {
			held = append(held, ticket)
		}
	}
	return held
}

// A slow address may have every ticket while nobody else wants any. Another address
// always gets a first ticket at once, and more as the slow one's come back.
func TestDialGateIsFairBetweenAddresses(t *testing.T) {
	const size = 12
	g := newDialGate(size, 0)
	slow, other := gateTarget, &endpoint{addr: netip.MustParseAddrPort("192.0.2.2:3333")}
	held := holdAll(g, slow, laneReconnect, 100)
	if len(held) != size {
		t.Fatalf("the only address holds %d of %d tickets", len(held), size)
	}
	if got := holdAll(g, other, laneNew, 5); len(got) != 1 {
		t.Fatalf("another address got %d tickets, want one at once", len(got))
	}
	// Tickets that are given back go to the other address until both have their
	// part.
	for _, ticket := range held {
		g.release(ticket)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.addresses[other].held; n != 5 {
		t.Errorf("the other address holds %d tickets, want all 5 that it asked for", n)
	}
	if n := g.addresses[slow].held; n > size {
		t.Errorf("the slow address holds %d of %d tickets", n, size)
	}
}

// While an address that does not answer holds the whole gate, a pool that answers
// most miners at once and makes some wait serves new ones without delay.
func TestDialGateServesBesideASilentAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, newcomers = 128, 50
		g := newDialGate(size, 0)
		silent := holdAll(g, &endpoint{addr: netip.MustParseAddrPort("192.0.2.2:3333")}, laneReconnect, size)
		if len(silent) != size {
			t.Fatalf("the silent address holds %d of %d tickets", len(silent), size)
		}
		at := &endpoint{addr: gateTarget.addr}
		// link holds a ticket for as long as a link's handshake takes, and returns
		// how long it waited for it.
		link := func(account *subAccount, lane gateLane, takes time.Duration) time.Duration {
			began := time.Now()
			granted := make(chan struct{})
			ticket, held := g.acquire(at, account, lane, func() { close(granted) })
			if !held {
				<-granted
			}
			waited := time.Since(began)
			time.Sleep(takes)
			g.served(ticket)
			return waited
		}
		// The machine is busy, so even a good link takes a while.
		link(&subAccount{name: "good"}, laneNew, slowAfter/2)
		end := time.Now().Add(newcomers * slowAfter / 5)
		var all sync.WaitGroup
		for i := range 6 {
			slow := &subAccount{name: fmt.Sprint("slow", i)}
			hangs := &subAccount{name: fmt.Sprint("hangs", i)}
			all.Go(func() {
				for time.Now().Before(end) {
					link(slow, laneNew, 3*slowAfter)
				}
			})
			all.Go(func() {
				for time.Now().Before(end) {
					link(hangs, laneSuspect, 10*slowAfter)
				}
			})
		}
		good := &subAccount{name: "good"}
		var longest atomic.Int64
		for range newcomers {
			time.Sleep(slowAfter / 5)
			all.Go(func() {
				waited := int64(link(good, laneNew, 20*time.Millisecond))
				for old := longest.Load(); waited > old && !longest.CompareAndSwap(old, waited); old = longest.Load() {
				}
			})
		}
		all.Wait()
		if longest := time.Duration(longest.Load()); longest > slowAfter/2 {
			t.Errorf("a new miner waited %v for its ticket", longest)
		}
		for _, ticket := range silent {
			g.release(ticket)
		}
		wantIdleGate(t, g, size)
	})
}

// Two addresses that want all tickets leave room for a third, once the tickets that
// they took while they were alone have come back.
func TestDialGateLeavesRoom(t *testing.T) {
	const size = 128
	g := newDialGate(size, 0)
	addresses := []*endpoint{gateTarget, {addr: netip.MustParseAddrPort("192.0.2.2:3333")}}
	var held []*dialTicket
	for i := range 800 {
		if ticket, ok := g.acquire(addresses[i%2], &subAccount{name: fmt.Sprint(i)}, laneReconnect, func() {}); ok {
			held = append(held, ticket)
		}
	}
	for _, ticket := range held {
		g.release(ticket)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if free := g.size - g.held; free < size/8 {
		t.Errorf("%d of %d tickets are free", free, size)
	}
}

// New miners and reconnects take turns, every fourth ticket goes to a switch, and
// workers that failed lately wait behind and hold at most a quarter.
func TestDialGateLanes(t *testing.T) {
	g := newDialGate(1, 0)
	first, _ := g.acquire(gateTarget, &subAccount{}, laneNew, nil)
	var order []byte
	var next *dialTicket
	names := [laneCount]byte{laneNew: 'n', laneReconnect: 'r', laneSwitch: 's', laneReturning: 'b', laneSuspect: 'x'}
	for lane := range laneCount {
		for range 12 {
			var ticket *dialTicket
			ticket, _ = g.acquire(gateTarget, &subAccount{}, lane, func() { order = append(order, names[lane]); next = ticket })
		}
	}
	next = first
	for range 60 {
		g.release(next)
	}
	text := string(order)
	for at := 0; at+4 <= 24; at += 4 {
		part := text[at : at+4]
		if strings.Count(part, "s") != 1 || strings.Count(part, "n") == 0 || strings.Count(part, "r") == 0 {
			t.Errorf("tickets %d to %d went to %q: %s", at, at+3, part, text)
		}
	}
	if back, at := strings.IndexByte(text, 'b'), strings.IndexByte(text, 'x'); back != 36 || at != 48 || len(text) != 60 {
		t.Errorf("the first suspects got tickets %d and %d of %d: %s", back, at, len(text), text)
	}

	wide := newDialGate(16, 0)
	if n := len(holdAll(wide, gateTarget, laneSuspect, 20)); n != 4 {
		t.Errorf("suspects hold %d of 16 tickets", n)
	}
	if n := len(holdAll(wide, gateTarget, laneNew, 20)); n != 12 {
		t.Errorf("others got %d of the other 12 tickets", n)
	}

	// A miner that lost its link there does not wait for suspects that the pool may never
	// answer.
	hanging := newDialGate(16, 0)
	holdAll(hanging, gateTarget, laneSuspect, 20)
	if n := len(holdAll(hanging, gateTarget, laneReturning, 20)); n != 4 {
		t.Errorf("suspects that return hold %d of 16 tickets", n)
	}
}

// Tries that a pool lets wait do not keep others from it, as long as it answers
// some at once.
func TestDialGateSlowTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 8
		g := newDialGate(size, 0)
		at := &endpoint{addr: gateTarget.addr}
		first, _ := g.acquire(at, &subAccount{}, laneNew, nil)
		g.served(first)
		hung := holdAll(g, at, laneNew, size)
		if len(hung) != size {
			t.Fatalf("%d of %d tickets are held", len(hung), size)
		}
		began := time.Now()
		for range 2 * size { // twice as many as there are, because each is served
			granted := make(chan struct{})
			ticket, held := g.acquire(at, &subAccount{}, laneNew, func() { close(granted) })
			if !held {
				select {
				case <-granted:
				case <-time.After(2 * slowAfter):
					t.Fatal("slow tries hold others up")
				}
			}
			g.served(ticket)
		}
		t.Logf("served in %v", time.Since(began).Round(time.Millisecond))
		for _, ticket := range hung {
			g.release(ticket)
		}
		wantIdleGate(t, g, size)

		// If all tries are slow, the size is the limit.
		slow := &endpoint{addr: gateTarget.addr}
		if n := len(holdAll(g, slow, laneNew, size)); n != size {
			t.Errorf("%d of %d tickets are held", n, size)
		}
		time.Sleep(slowAfter + slowAfter/2)
		if n := len(holdAll(g, slow, laneNew, size)); n > 0 {
			t.Errorf("a slow pool got %d tickets more than the limit of %d", n, size)
		}
	})
}

// The gate's rate limits how many handshakes begin in a second. Sub-accounts take
// turns, and tickets that are given back do not let more in.
func TestDialGateRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, large, small = 100, 300, 5
		g := newDialGate(1000, rate)
		began := time.Now()
		var mu sync.Mutex
		granted := make(map[string][]time.Duration)
		var all sync.WaitGroup
		begin := func(a *subAccount) {
			done := make(chan struct{})
			note := func() {
				mu.Lock()
				granted[a.name] = append(granted[a.name], time.Since(began))
				mu.Unlock()
				close(done)
			}
			ticket, held := g.acquire(gateTarget, a, laneNew, note)
			if held {
				note()
			}
			all.Go(func() {
				<-done
				g.release(ticket)
			})
		}
		farm, user := &subAccount{name: "farm"}, &subAccount{name: "user"}
		for range large {
			begin(farm)
		}
		for range small {
			begin(user)
		}
		all.Wait()
		took := time.Since(began)
		if want := time.Duration(large+small) * time.Second / rate; took < want-100*time.Millisecond || took > want+time.Second {
			t.Errorf("%d tickets were granted in %v, at %d a second", large+small, took, rate)
		}
		if last := granted["user"][small-1]; last > 300*time.Millisecond {
			t.Errorf("the small sub-account got its last ticket after %v", last)
		}
		perSecond := 0
		for _, at := range granted["farm"] {
			if at < time.Second {
				perSecond++
			}
		}
		if perSecond > rate+int(rate*rateBurst)+1 {
			t.Errorf("%d tickets were granted in the first second", perSecond)
		}
		wantIdleGate(t, g, 1000)
	})
}
