//go:build linux && !portable_relay

package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

// An upgrade opens, runs and writes files, and the kernel may block these calls
// for ever, for instance if the server of a network file system is gone or a
// disk is frozen for a snapshot. The goroutine that upgrades also receives the
// signals, and nothing is relayed during part of an upgrade, so it never waits
// for a file itself.

// stateFileWait is how long the state file may take while nothing is relayed.
const stateFileWait = 5 * time.Second

// fileSteps keeps count of what upgrades do with files.
type fileSteps struct {
	// stuck counts the steps that were given up but have not ended. No upgrade begins
	// until they have, because their threads would hold up exec, and what they still
	// do could spoil a later upgrade.
	stuck atomic.Int32
}

// errStopped means that a signal to stop came during the step.
var errStopped = errors.New("a signal ended it")

// inStep runs work in a goroutine of its own and returns its result. It gives up after
// wait, or when a signal to stop comes, which stays in the channel for its receiver. If
// work succeeds after that, its result is passed to late, unless late is nil.
func inStep[T any](u *upgrader, what string, wait time.Duration, work func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var (
		none T
		done = make(chan result)
		gone = make(chan struct{})
	)
	go func() {
		value, err := work()
		select {
		case done <- result{value, err}:
			return
		case <-gone:
		}
		if err == nil && late != nil {
			late(value)
		}
		u.files.stuck.Add(-1)
	}()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	err := regularfile.ErrTooSlow
	select {
	case r := <-done:
		return r.value, r.err
	case <-limit.C:
	case sig := <-u.stop:
		leaveSignal(u.stop, sig)
		err = errStopped
	}
	u.files.stuck.Add(1)
	close(gone)
	return none, fmt.Errorf("%s: %w", what, err)
}

// leaveSignal gives a signal back to the channel it was taken from.
func leaveSignal(c chan os.Signal, sig os.Signal) {
	select {
	case c <- sig:
	default: // the channel is full of signals to stop
	}
}
