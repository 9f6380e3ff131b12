package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// breaker keeps sessions away from a pool address that does not answer. All
// sessions share it, so a dead pool is probed by a few of them and not by ten
// thousand. Its methods may be called from any goroutine.
//
// It is closed while links succeed. After breakerFailures failures in a row it
// opens: nobody dials. When its pause is over, breakerProbes sessions at a time
// may try; the first success closes it, a failure opens it for longer.
type breaker struct {
	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	pause    time.Duration
	probes   int // under way, while not closed
}

const (
	breakerFailures = 3
	breakerProbes   = 3

	breakerPauseFirst = time.Second
	// breakerPauseMost is short enough for a pool that is back to be noticed
	// before the miners that wait for it are given up.
	breakerPauseMost = 5 * time.Second
)

// breakerState is what a breaker lets through.
type breakerState uint8

const (
	breakerClosed breakerState = iota
	breakerOpen
	breakerProbing
)

var breakerNames = [...]string{"closed", "open", "probing"}

func (s breakerState) String() string { return breakerNames[s] }

func (b *breaker) state() breakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stateLocked()
}

func (b *breaker) stateLocked() breakerState {
	switch {
	case b.failures < breakerFailures:
		return breakerClosed
	case time.Now().Before(b.until):
		return breakerOpen
	}
	return breakerProbing
}

// allow says whether the address may be dialled now. If so, the outcome must
// be told by succeeded, failed or forget.
func (b *breaker) allow() (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.stateLocked() {
	case breakerClosed:
		return false, true
	case breakerOpen:
		return false, false
	}
	if b.probes >= breakerProbes {
		return false, false
	}
	b.probes++
	return true, true
}

// succeeded notes a link that came up. It reports whether that closed the
// breaker.
func (b *breaker) succeeded(probe bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endProbe(probe)
	reopened := b.failures >= breakerFailures
	b.failures, b.pause, b.until = 0, 0, time.Time{}
	return reopened
}

// failed notes a link that could not be had, or ended. It reports whether that
// opened the breaker.
func (b *breaker) failed(probe bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endProbe(probe)
	b.failures++
	if b.failures < breakerFailures || time.Now().Before(b.until) {
		return false
	}
	b.pause = min(max(2*b.pause, breakerPauseFirst), breakerPauseMost)
	b.until = time.Now().Add(b.pause/2 + rand.N(b.pause))
	return b.failures == breakerFailures
}

// forget ends a probe without an outcome: it was given up, or the pool answered
// but not this worker.
func (b *breaker) forget(probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endProbe(probe)
}

func (b *breaker) endProbe(probe bool) {
	if probe && b.probes > 0 {
		b.probes--
	}
}
