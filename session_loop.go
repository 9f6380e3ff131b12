package main

import (
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// sessionLimits are the relay's limits for the sockets of sessions.
var sessionLimits = relay.Limits{Kept: stratum.MaxPoolLine, Bulk: maxRegistered}

// sessionLoop is a loop with what its sessions share. Its fields belong to the
// loop's goroutine.
type sessionLoop struct {
	*relay.Loop

	madeAfter time.Duration // time from the creation of the manager to that of the loop

	// fromMiners and fromPools count the bytes that sessions consumed from each side.
	fromMiners, fromPools uint64

	sessions []*Session // the loop's sessions, in no order; Session.loopSlot is the index

	job stratum.RepeatedLine // the latest job that a pool has sent

	// subscriptions are the latest ones that differ from each other; see shared.
	subscriptions    [8]*stratum.Subscription
	nextSubscription int

	form *authorizationForm // the latest one; see sharedForm

	scratch []byte // buffer for lines that sessions build; sockets copy from it

	ends map[*relay.Socket]*tunnelEnd // by carried socket, whose TLS a tunnel process handles; nil until there is one
}

// newSessionLoop makes a loop for the manager that was created at this time.
func newSessionLoop(created time.Time) (*sessionLoop, error) {
	l, err := relay.NewLoop(sessionLimits)
	if err != nil {
		return nil, err
	}
	loop := &sessionLoop{Loop: l, madeAfter: l.Now().Sub(created) - l.Age()}
	loop.carryEnds()
	return loop, nil
}

func (l *sessionLoop) add(s *Session) {
	s.loopSlot = int32(len(l.sessions))
	l.sessions = append(l.sessions, s)
}

func (l *sessionLoop) remove(s *Session) {
	last := len(l.sessions) - 1
	l.sessions[s.loopSlot] = l.sessions[last]
	l.sessions[s.loopSlot].loopSlot = s.loopSlot
	l.sessions[last] = nil
	l.sessions = l.sessions[:last]
}

// each calls f for each session of the loop. f may close the session that it is given,
// but no other.
func (l *sessionLoop) each(f func(*Session)) {
	for i := len(l.sessions) - 1; i >= 0; i-- {
		f(l.sessions[i]) // if f closes it, the last session takes its slot, and that one has had its turn
	}
}

// shared returns the subscription of an earlier session if it equals sub, so that the
// many miners of the same kind in a farm share one copy. Nobody may change a
// subscription once it has been passed to shared.
func (l *sessionLoop) shared(sub *stratum.Subscription) *stratum.Subscription {
	for _, known := range l.subscriptions {
		if known != nil && *known == *sub {
			return known
		}
	}
	l.subscriptions[l.nextSubscription%len(l.subscriptions)] = sub
	l.nextSubscription++
	return sub
}

// sharedForm returns the latest form if it equals f, and otherwise f.
func (l *sessionLoop) sharedForm(f *authorizationForm) *authorizationForm {
	if l.form == nil || !l.form.equals(f) {
		l.form = f
	}
	return l.form
}

// allSessions returns a copy of the list of sessions, so that the caller may close any of
// them while it goes through the copy.
func (l *sessionLoop) allSessions() []*Session { return slices.Clone(l.sessions) }
