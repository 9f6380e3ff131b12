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

	madeAfter time.Duration // how much later than the manager it was made

	// fromMiners and fromPools count the bytes that sessions took from either side.
	fromMiners, fromPools uint64

	sessions []*Session // the loop's sessions, in no order; Session.loopSlot is the index

	job stratum.RepeatedLine // the latest that a pool has sent

	// subscriptions are some latest ones that differ; see shared.
	subscriptions    [8]*stratum.Subscription
	nextSubscription int

	scratch []byte // buffer for lines that sessions build; sockets copy from it

	ends map[*relay.Socket]*tunnelEnd // of carried sockets; nil while there were none
}

// newSessionLoop makes a loop of a manager that was made then.
func newSessionLoop(made time.Time) (*sessionLoop, error) {
	l, err := relay.NewLoop(sessionLimits)
	if err != nil {
		return nil, err
	}
	loop := &sessionLoop{Loop: l, madeAfter: l.Now().Sub(made) - l.Age()}
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

// each calls f for each session of the loop. f may end its session, and no other.
func (l *sessionLoop) each(f func(*Session)) {
	for i := len(l.sessions) - 1; i >= 0; i-- {
		f(l.sessions[i]) // if it ends, one that has had its turn takes its place
	}
}

// shared returns the subscription of an earlier session if it is the same as sub.
// Most miners of a farm are of few kinds, so that one copy serves many sessions.
// Nobody may change it from then on.
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

// allSessions returns the loop's sessions in a list of its own, so that they may end meanwhile.
func (l *sessionLoop) allSessions() []*Session { return slices.Clone(l.sessions) }
