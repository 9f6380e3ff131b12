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
type breaker struct {
	isOpen bool
	until  time.Time     // the pause ends then
	pause  time.Duration // the last one; a stable link sets it back to zero
	probes int           // under way
	// Probes of sessions that may not have all the places.
	ofSuspects int // a worker or an account that failed there lately
	ofOthers   int // established miners
}

func (b *breaker) state(now time.Time) breakerState {
	switch {
	case !b.isOpen:
		return breakerClosed
	case now.Before(b.until):
		return breakerOpen
	}
	return breakerProbing
}

// trip opens the breaker, or has its next pause begin: twice the last one, at
// most most, with jitter from half to once and a half of it. It does nothing
// during a pause, since what fails then began before. It reports whether the
// breaker was closed.
func (b *breaker) trip(now time.Time, most time.Duration) (opened bool) {
	if b.isOpen && now.Before(b.until) {
		return false
	}
	opened = !b.isOpen
	b.isOpen = true
	b.pause = min(max(2*b.pause, breakerPauseFirst), most)
	b.until = now.Add(b.pause/2 + rand.N(b.pause))
	return opened
}

// close lets everybody through. The pause of before is kept until a link is
// stable. It reports whether the breaker was open.
func (b *breaker) close() (was bool) {
	was = b.isOpen
	b.isOpen = false
	return was
}

// probeClass says which places of the probes a session may take.
type probeClass uint8

const (
	probeNone    probeClass = iota // the breaker was closed: not a probe
	probeNew                       // a new miner: all places
	probeOther                     // an established miner: all but one
	probeSuspect                   // failed there lately: one
)

// mayProbe says whether there is a place for a probe.
func (b *breaker) mayProbe(class probeClass) bool {
	switch {
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
