package main

import (
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Sessions may end while a loop goes through all of them. Each other session has
// exactly one turn.
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
				t.Errorf("with ends %04b, session %d had %d turns, want 1", ends, i, turns[s])
			}
		}
	}
}

// Sessions of one kind of miner share a subscription. The memory for kinds of
// miners is bounded.
func TestLoopSharesSubscriptions(t *testing.T) {
	l := &sessionLoop{}
	kind := func(i int) *stratum.Subscription {
		return &stratum.Subscription{UserAgent: fmt.Sprintf("miner/%d", i)}
	}
	first := l.shared(kind(0))
	if l.shared(kind(0)) != first {
		t.Error("two sessions of one kind have two subscriptions")
	}
	for i := range 100 {
		if got := l.shared(kind(i)); *got != *kind(i) {
			t.Fatalf("kind %d got %+v", i, got)
		}
	}
	if l.shared(kind(0)) == first {
		t.Error("a kind that was not seen for long is still stored")
	}
}
