package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func TestDialGateLimit(t *testing.T) {
	g := newDialGate(2, 0)
	a := &subAccount{name: "a"}
	var order []int
	var tickets []*dialTicket
	for i := range 5 {
		ticket, held := g.acquire(a, func() { order = append(order, i) })
		if want := i < 2; held != want {
			t.Errorf("ticket %d: held is %v, want %v", i, held, want)
		}
		tickets = append(tickets, ticket)
	}
	if len(order) != 0 {
		t.Fatalf("granted %v before any release", order)
	}
	g.release(tickets[1])
	g.release(tickets[0])
	if want := []int{2, 3}; !slices.Equal(order, want) {
		t.Fatalf("granted %v, want %v", order, want)
	}
	for _, ticket := range tickets {
		g.release(ticket)
	}
	if want := []int{2, 3, 4}; !slices.Equal(order, want) {
		t.Fatalf("granted %v, want %v", order, want)
	}
	wantIdleGate(t, g, 2)
}

// wantIdleGate: nothing is held and nobody waits.
func wantIdleGate(t *testing.T, g *dialGate, size int) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free != size || len(g.waiting) != 0 || len(g.turns) != 0 {
		t.Errorf("%d of %d free, %d accounts wait, %d in turn", g.free, size, len(g.waiting), len(g.turns))
	}
}

// A sub-account with a thousand miners does not hold up one with two.
func TestDialGateIsFairBetweenAccounts(t *testing.T) {
	g := newDialGate(1, 0)
	big, small, late := &subAccount{name: "big"}, &subAccount{name: "small"}, &subAccount{name: "late"}
	first, _ := g.acquire(big, nil)
	var order []string
	granted := make(map[string]*dialTicket)
	wait := func(a *subAccount, name string) {
		var ticket *dialTicket
		ticket, held := g.acquire(a, func() { order = append(order, name); granted[name] = ticket })
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
		t.Errorf("granted %v, want %v", order, want)
	}
}

func TestDialGateCancel(t *testing.T) {
	g := newDialGate(1, 0)
	a, b := &subAccount{name: "a"}, &subAccount{name: "b"}
	held, _ := g.acquire(a, nil)
	var order []string
	wait := func(account *subAccount, name string) *dialTicket {
		ticket, _ := g.acquire(account, func() { order = append(order, name) })
		return ticket
	}
	a1, a2, b1, a3 := wait(a, "a1"), wait(a, "a2"), wait(b, "b1"), wait(a, "a3")
	g.release(a1)
	g.release(a1)
	g.release(b1) // b has nobody left
	g.release(nil)
	g.release(held)
	g.release(held) // would let in one too many
	if want := []string{"a2"}; !slices.Equal(order, want) {
		t.Fatalf("granted %v, want %v", order, want)
	}
	// b comes again after all of its tickets were taken back.
	b2 := wait(b, "b2")
	g.release(a2) // b's turn
	g.release(a2)
	g.release(b2)
	g.release(a1)
	g.release(a3)
	for i := 1; i < len(order); i++ {
		if slices.Contains(order[:i], order[i]) {
			t.Errorf("%s granted twice: %v", order[i], order)
		}
	}
	if !slices.Contains(order, "a3") || !slices.Contains(order, "b2") || len(order) != 3 {
		t.Errorf("granted %v, want a2, a3 and b2", order)
	}
	wantIdleGate(t, g, 1)
}

// Many sessions acquire, cancel and release at once: never more than the size
// are in, and all who stay get in.
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
				ticket, held := g.acquire(accounts[i%len(accounts)], func() { close(granted) })
				if !held {
					if rand.N(4) == 0 {
						// The grant may come at the same moment: then the
						// ticket is held, and goes back all the same.
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
		t.Errorf("%d were in at a time, %d allowed", most.Load(), size)
	}
	wantIdleGate(t, g, size)
}
