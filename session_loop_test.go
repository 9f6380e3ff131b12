package main

import (
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Sessions may end while a loop goes through all of them, and each other one has
// its turn once.
func TestLoopEachSession(t *testing.T) {
	for ends := range 1 << 4 {
		l := &sessionLoop{}
		for range 4 {
			l.add(&Session{})
		}
		all, turns := l.allSessions(), make(map[*Session]int)
		l.each(func(s *Session) {
			if turns[s]++; ends&(1<<s.loopSlot) != 0 {
				l.remove(s)
			}
		})
		for i, s := range all {
			if turns[s] != 1 {
				t.Errorf("ends %04b: session %d has %d turns", ends, i, turns[s])
			}
		}
	}
}

// Sessions of one kind of miner share a subscription, and the memory for kinds of
// miners has a bound.
func TestLoopSharesSubscriptions(t *testing.T) {
	l := &sessionLoop{}
	kind := func(i int) *stratum.Subscription {
		return &stratum.Subscription{UserAgent: fmt.Sprintf("miner/%d", i)}
	}
	first := l.shared(kind(0))
	if l.shared(kind(0)) != first {
		t.Error("two sessions of a kind have two subscriptions")
	}
	for i := range 100 {
		if got := l.shared(kind(i)); *got != *kind(i) {
			t.Fatalf("kind %d got %+v", i, got)
		}
	}
	if l.shared(kind(0)) == first {
		t.Error("a kind that was long not seen is still kept")
	}
}
