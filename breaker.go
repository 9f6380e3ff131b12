package main

import (
	"math/rand/v2"
	"time"
)

const (
	breakerFailures = 3 // failures in a row that take an address out
	breakerProbes   = 3 // sessions that may probe an address at the same time while it is out

	breakerPauseFirst = time.Second
	// breakerPauseSilent bounds the pause of an address that does not answer.
	// It is short enough that a pool that has recovered is noticed before the
	// waiting miners give up.
	breakerPauseSilent = 5 * time.Second
	// breakerPauseDisconnects bounds the pause of an address that answers and then ends its
	// links. It is long, because each probe there costs a miner a job and a reconnect.
	breakerPauseDisconnects = time.Minute
)

// breakerState determines whom a breaker lets through.
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
// value is closed. It has no lock of its own; health.mu guards it.
//
// Each standing of miners has a pause of its own. A pool may refuse miners that it does not
// know, and dozens of them may come under ever new names, so their failures must not keep
// away those that it has accepted.
type breaker struct {
	isOpen bool
	pauses [standings]breakerPause
	probes int // probes under way, of all classes
	// The following classes may not take all places for probes.
	ofSuspects int // probes by workers or accounts that failed there lately
	ofOthers   int // probes by established miners
	// ofReturning counts, in addition to their class, the probes by miners that lost
	// their links there. One of them always has a place.
	ofReturning int
}

// breakerPause is a pause before probing: when it ends, and how long it is. A stable
// link resets last to zero.
type breakerPause struct {
	until time.Time
	last  time.Duration
}

// begin starts a pause twice as long as the last one, limited by most, with a
// jitter of 50 to 150 percent.
func (p *breakerPause) begin(now time.Time, most time.Duration) {
	p.last = min(max(2*p.last, breakerPauseFirst), most)
	p.until = now.Add(p.last/2 + rand.N(p.last))
}

// standing is what is known of a miner before it dials an address. The values are bits.
type standing uint8

const (
	// standingServed means that the miner has had a stable link to any pool.
	standingServed standing = 1 << iota
	// standingReturning means that the miner's link to the address was lost, so the pool
	// there has accepted the worker.
	standingReturning

	standings = 1 << iota // how many different standings there are

	standingNone standing = 0
	standingAll  standing = standings - 1
)

// state returns the state for miners of which nothing is known, as every failure concerns
// these.
func (b *breaker) state(now time.Time) breakerState { return b.stateFor(standingNone, now) }

// stateFor returns the state for miners of a standing.
func (b *breaker) stateFor(s standing, now time.Time) breakerState {
	switch {
	case !b.isOpen:
		return breakerClosed
	case now.Before(b.pauses[s].until):
		return breakerOpen
	}
	return breakerProbing
}

// trip opens the breaker because a miner of the given standing failed, or starts the next
// pause if the last one is over. Only miners pause of which no more is known; the others
// may still probe. A running pause is not prolonged, because tries that fail during it
// began before it. trip reports whether the breaker was closed.
func (b *breaker) trip(now time.Time, most time.Duration, failed standing) (opened bool) {
	opened = !b.isOpen
	b.isOpen = true
	for s := range b.pauses {
		if p := &b.pauses[s]; standing(s)&^failed == 0 && !now.Before(p.until) {
			p.begin(now, most)
		}
	}
	return opened
}

// close lets everybody through and reports whether the breaker was open. It keeps the
// lengths of the last pauses until a link is stable; see forgetPauses.
func (b *breaker) close() (wasOpen bool) {
	wasOpen = b.isOpen
	b.isOpen = false
	for s := range b.pauses {
		b.pauses[s].until = time.Time{}
	}
	return wasOpen
}

// forgetPauses makes the next pauses as short as first ones.
func (b *breaker) forgetPauses() {
	for s := range b.pauses {
		b.pauses[s].last = 0
	}
}

// probeClass says which of the breakerProbes places a session may take.
type probeClass uint8

const (
	probeNone    probeClass = iota // not a probe, because the breaker was closed
	probeNew                       // a new miner, which may take any place
	probeOther                     // established miners, which may take all places but one, and always at least one
	probeSuspect                   // miners that failed there lately, which may take one place
)

// mayProbe reports whether there is a place for a probe. returning means that the miner
// lost its link there.
func (b *breaker) mayProbe(class probeClass, returning bool) bool {
	switch {
	case returning && b.ofReturning == 0:
		// The pool has accepted this worker, and the miner is closed if it waits too
		// long. Otherwise miners that the pool never answers might hold all places.
		return true
	case class == probeOther && b.ofOthers == 0:
		// Otherwise new miners might hold all places for as long as a handshake takes.
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

func (b *breaker) probeBegins(class probeClass, returning bool) { b.countProbe(class, returning, 1) }

func (b *breaker) probeEnds(class probeClass, returning bool) { b.countProbe(class, returning, -1) }

func (b *breaker) countProbe(class probeClass, returning bool, by int) {
	switch class {
	case probeNone:
		return
	case probeSuspect:
		b.ofSuspects += by
	case probeOther:
		b.ofOthers += by
	}
	b.probes += by
	if returning {
		b.ofReturning += by
	}
}

// failureRow collects who failed at an address one after the other, with no
// success in between. The zero value is empty.
type failureRow struct {
	entries [breakerFailures]failureEntry
	n       int // how many entries are used, one for each party that failed
	count   int // failures, including repeated ones by the same party
}

type failureEntry struct {
	account, worker, userAgent string
	began                      time.Time     // when the try began
	lasted                     time.Duration // how long the link was ready before it ended
}

// rowMemory is how long an entry of a row counts after its try began.
const rowMemory = time.Minute

// add records a failure. Failures by the same party, as defined by same, count once.
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

// began returns when the first try of the row began.
func (r *failureRow) began() time.Time {
	first := r.entries[0].began
	for _, e := range r.entries[1:r.n] {
		if e.began.Before(first) {
			first = e.began
		}
	}
	return first
}

// lasted returns how long the longest-lived link of the row was ready.
func (r *failureRow) lasted() (longest time.Duration) {
	for _, e := range r.entries[:r.n] {
		longest = max(longest, e.lasted)
	}
	return longest
}

func (r *failureRow) reset() { *r = failureRow{} }

func sameAccountFailed(a, b *failureEntry) bool   { return a.account == b.account }
func sameUserAgentFailed(a, b *failureEntry) bool { return a.userAgent == b.userAgent }
func sameWorkerFailed(a, b *failureEntry) bool {
	return a.account == b.account && a.worker == b.worker
}
