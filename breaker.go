package main

import (
	"math/rand/v2"
	"time"
)

const (
	breakerFailures = 3 // in a row, until an address is taken out
	breakerProbes   = 3 // sessions that may try an address at a time while it is out

	breakerPauseFirst = time.Second
	// breakerPauseSilent bounds the pause of an address that does not answer. It
	// is short enough for a pool that is back to be noticed before the miners
	// that wait for it are given up.
	breakerPauseSilent = 5 * time.Second
	// breakerPauseKicks bounds the pause of an address that answers and then
	// ends its links: each probe there costs a miner a job and a reconnect.
	breakerPauseKicks = time.Minute
)

// breakerState is what a breaker lets through.
type breakerState uint8

const (
	breakerClosed  breakerState = iota // everybody may dial
	breakerOpen                        // nobody may
	breakerProbing                     // breakerProbes sessions at a time may
)

var breakerNames = [...]string{"closed", "open", "probing"}

func (s breakerState) String() string { return breakerNames[s] }

// breaker keeps sessions away from an address that was found to be out: nobody
// dials it during a pause, then a few sessions at a time probe it. The zero
// value is closed. It has no lock of its own; health guards it.
//
// Miners that have been served, which means by a stable link anywhere, have
// pauses of their own. Others, whose workers the pool may not serve, can come by
// the dozen under ever new names; what they find must not keep those away that
// were served.
type breaker struct {
	isOpen bool
	served breakerPause
	others breakerPause
	probes int // under way
	// Probes of sessions that may not have all the places.
	ofSuspects int // a worker or an account that failed there lately
	ofOthers   int // established miners
}

// breakerPause is when probing begins, and how long the pause before it was; a
// stable link sets that back to zero.
type breakerPause struct {
	until time.Time
	last  time.Duration
}

// begin starts a pause: twice the last one, at most most, with jitter from half
// to once and a half of it.
func (p *breakerPause) begin(now time.Time, most time.Duration) {
	p.last = min(max(2*p.last, breakerPauseFirst), most)
	p.until = now.Add(p.last/2 + rand.N(p.last))
}

// state is what miners may do that have not been served.
func (b *breaker) state(now time.Time) breakerState { return b.stateFor(false, now) }

// stateFor is what miners may do that have been served, or others.
func (b *breaker) stateFor(served bool, now time.Time) breakerState {
	pause := &b.others
	if served {
		pause = &b.served
	}
	switch {
	case !b.isOpen:
		return breakerClosed
	case now.Before(pause.until):
		return breakerOpen
	}
	return breakerProbing
}

// trip opens the breaker, or has the next pause of those begin who may probe.
// Those who have a pause keep it, since what fails then began before. It
// reports whether the breaker was closed.
func (b *breaker) trip(now time.Time, most time.Duration) (opened bool) {
	if !b.isOpen {
		b.isOpen = true
		b.others.last = max(b.others.last, b.served.last)
		b.others.begin(now, most)
		b.served = b.others
		return true
	}
	b.tripOthers(now, most)
	if !now.Before(b.served.until) {
		b.served.begin(now, most)
	}
	return false
}

// tripOthers does so for those that have not been served: one of them has
// failed. The others may probe.
func (b *breaker) tripOthers(now time.Time, most time.Duration) (opened bool) {
	opened = !b.isOpen
	if opened || !now.Before(b.others.until) {
		b.others.begin(now, most)
	}
	b.isOpen = true
	return opened
}

// close lets everybody through. The pauses of before are kept until a link is
// stable. It reports whether the breaker was open.
func (b *breaker) close() (was bool) {
	was = b.isOpen
	b.isOpen = false
	return was
}

// forgetPauses has the next pause be a first one.
func (b *breaker) forgetPauses() { b.served.last, b.others.last = 0, 0 }

// probeClass says which places of the probes a session may take.
type probeClass uint8

const (
	probeNone    probeClass = iota // the breaker was closed: not a probe
	probeNew                       // a new miner: all places
	probeOther                     // an established miner: all but one, and one in any case
	probeSuspect                   // failed there lately: one
)

// mayProbe says whether there is a place for a probe.
func (b *breaker) mayProbe(class probeClass) bool {
	switch {
	case class == probeOther && b.ofOthers == 0:
		// New miners may hold all places for as long as a handshake may take.
		return true
	case b.probes >= breakerProbes:
		return false
	case class == probeSuspect:
		return b.ofSuspects == 0
	case class == probeOther:
		return b.ofOthers < breakerProbes-1
	}
	return true
}

func (b *breaker) probeBegins(class probeClass) { b.countProbe(class, 1) }

func (b *breaker) probeEnds(class probeClass) { b.countProbe(class, -1) }

func (b *breaker) countProbe(class probeClass, by int) {
	switch class {
	case probeNone:
		return
	case probeSuspect:
		b.ofSuspects += by
	case probeOther:
		b.ofOthers += by
	}
	b.probes += by
}

// failureRow collects who failed somewhere, one after the other, with nothing
// in between that speaks for the place. The zero value is empty.
type failureRow struct {
	entries [breakerFailures]failureEntry
	n       int // distinct ones in entries
	count   int // failures, those of the same party included
}

type failureEntry struct {
	account, worker, userAgent string
	began                      time.Time // the try
}

// rowMemory is how long an entry of a row counts.
const rowMemory = time.Minute

// add notes a failure. Entries that same says are of the same party count once.
func (r *failureRow) add(now time.Time, e failureEntry, same func(a, b *failureEntry) bool) {
	kept := 0
	for i := range r.n {
		if now.Sub(r.entries[i].began) < rowMemory && !same(&r.entries[i], &e) {
			r.entries[kept] = r.entries[i]
			kept++
		}
	}
	if kept == len(r.entries) {
		copy(r.entries[:], r.entries[1:])
		kept--
	}
	r.entries[kept] = e
	r.n = kept + 1
	r.count++
}

// began is when the first try of the row began.
func (r *failureRow) began() time.Time {
	first := r.entries[0].began
	for _, e := range r.entries[1:r.n] {
		if e.began.Before(first) {
			first = e.began
		}
	}
	return first
}

func (r *failureRow) reset() { *r = failureRow{} }

func sameAccountFailed(a, b *failureEntry) bool   { return a.account == b.account }
func sameUserAgentFailed(a, b *failureEntry) bool { return a.userAgent == b.userAgent }
func sameWorkerFailed(a, b *failureEntry) bool {
	return a.account == b.account && a.worker == b.worker
}
