package main

import (
	"fmt"
	"sync"
	"time"
)

const (
	loopBeatEvery = time.Second

	// loopStall is how long a loop may stand still before the process is not
	// healthy any more.
	loopStall = 5 * time.Second

	stalledLooks = int(loopStall/loopBeatEvery) + 1
)

// loopWatch sees whether the loops work. A loop with nothing to do sleeps for
// any length of time, so each is asked every second, by its mailbox.
//
// Time is counted in looks at the loops, not by the clock: a process that was
// stopped, or a machine that slept, has not stood still.
type loopWatch struct {
	manager *sessionManager
	every   time.Duration // loopBeatEvery; less in tests

	mu    sync.Mutex
	beats []loopBeat // by loop
}

// loopBeat is what one loop was asked.
type loopBeat struct {
	asked  bool // and has not answered
	missed int  // looks since then
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

// look counts what was not answered, and asks the others again. While an
// upgrade has stopped the loops nothing is counted.
func (w *loopWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.manager.loops {
		switch beat := &w.beats[i]; {
		case w.manager.frozen.Load():
			beat.missed = 0
		case beat.asked:
			if beat.missed++; beat.missed == stalledLooks {
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

// stalled is which loop stands still, empty if none does.
func (w *loopWatch) stalled() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, beat := range w.beats {
		if beat.missed >= stalledLooks {
			return fmt.Sprintf("relay loop %d has not answered for %d s", i, beat.missed)
		}
	}
	return ""
}
