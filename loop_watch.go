package main

import (
	"fmt"
	"sync"
	"time"
)

const (
	loopBeatEvery = time.Second

	// loopStall is how long a loop may be stuck before the process counts as unhealthy.
	loopStall = 5 * time.Second

	stalledChecks = int(loopStall/loopBeatEvery) + 1
)

// loopWatch checks whether the loops work. A loop that has nothing to do may sleep for any
// length of time, so every second the watch posts a function to each loop.
//
// Time is counted in checks and not by the clock. Otherwise the loops would seem to hang
// after the process was stopped or the machine slept.
type loopWatch struct {
	manager *sessionManager
	every   time.Duration // loopBeatEvery; less in tests

	mu    sync.Mutex
	beats []loopBeat // by loop
}

// loopBeat says whether one loop has run the function that it was posted.
type loopBeat struct {
	asked  bool // a function was posted and has not run yet
	missed int  // how many checks have passed since it was posted
}

func newLoopWatch(m *sessionManager) *loopWatch {
	return &loopWatch{manager: m, every: loopBeatEvery, beats: make([]loopBeat, len(m.loops))}
}

func (w *loopWatch) run(stop <-chan struct{}) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			w.look()
		}
	}
}

// look counts a missed check for each loop that has not answered, and asks the other
// loops again. It does nothing while an upgrade has stopped the loops.
func (w *loopWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.manager.loops {
		switch beat := &w.beats[i]; {
		case w.manager.frozen.Load():
			beat.missed = 0
		case beat.asked:
			if beat.missed++; beat.missed == stalledChecks {
				w.manager.limitedLog.Errorf("loop stalled", "relay loop %d has not answered for %d s", i, beat.missed)
			}
		default:
			*beat = loopBeat{asked: true}
			l.Post(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.beats[i] = loopBeat{}
			})
		}
	}
}

// stalled returns a text that names a loop that is stuck, or an empty string if there is
// none.
func (w *loopWatch) stalled() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, beat := range w.beats {
		if beat.missed >= stalledChecks {
			return fmt.Sprintf("relay loop %d has not answered for %d s", i, beat.missed)
		}
	}
	return ""
}
