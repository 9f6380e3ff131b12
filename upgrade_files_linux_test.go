//go:build linux && !portable_relay

package main

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

// TestUpgradeStepGivenUp: if a step returns too late, its result is still handed to
// the right place, and there is no other upgrade before that.
func TestUpgradeStepGivenUp(t *testing.T) {
	for _, c := range []struct {
		name string
		stop os.Signal
		want error
	}{
		{"too slow", nil, regularfile.ErrTooSlow},
		{"stopped", syscall.SIGTERM, errStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &upgrader{stop: make(chan os.Signal, 1), system: upgradeSystem{now: time.Now}}
			wait := time.Minute
			if c.stop != nil {
				u.stop <- c.stop
			} else {
				wait = time.Millisecond
			}
			hangs, late := make(chan struct{}), make(chan int, 1)
			_, err := inStep(u, "file", wait, func() (int, error) { <-hangs; return 7, nil }, func(n int) { late <- n })
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.stop != nil && len(u.stop) != 1 {
				t.Error("the signal is lost")
			}
			if err := u.upgrade(); err == nil || u.files.stuck.Load() != 1 {
				t.Errorf("another upgrade meanwhile returned %v, with %d steps stuck", err, u.files.stuck.Load())
			}
			close(hangs)
			if n := <-late; n != 7 {
				t.Errorf("the late result is %d, want 7", n)
			}
			waitUntil(t, "the end of the step", func() bool { return u.files.stuck.Load() == 0 })
		})
	}
}
