package main

import (
	"encoding/json"
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

// Miners that authorize alike share what their requests have in common.
func TestLoopSharesAuthorizations(t *testing.T) {
	l := &sessionLoop{}
	form := func(id, method string, rest ...string) *authorizationForm {
		f := &authorizationForm{id: json.RawMessage(id), method: method}
		for _, p := range rest {
			f.rest = append(f.rest, []byte(p))
		}
		return f
	}
	for _, c := range []struct {
		next   *authorizationForm
		shared bool
	}{
		{form("3", "mining.authorize", `"x"`), false},
		{form("3", "mining.authorize", `"x"`), true},
		{form("3", "mining.authorize", `"y"`), false},
		{form("3", "mining.authorize", `"y"`, `"z"`), false},
		{form("3", "mining.authorize"), false},
		{form("4", "mining.authorize"), false},
		{form("4", "eth_submitLogin"), false},
		{form("4", "eth_submitLogin"), true},
	} {
		before := l.form
		got := l.sharedForm(c.next)
		if !got.equals(c.next) {
			t.Errorf("%+v became %+v", c.next, got)
		}
		if shared := got == before; shared != c.shared {
			t.Errorf("%+v is shared: %v, want %v", c.next, shared, c.shared)
		}
	}
}
