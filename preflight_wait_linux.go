//go:build linux && !portable_relay

package main

import (
	"context"
	"errors"
	"os/exec"
	"time"
)

// preflightEnd is how long a preflight that was killed may take to end.
const preflightEnd = 2 * time.Second

// errPreflightStuck: a process that waits for a file system may not be ended by
// anything until that answers. This process would not get away from it either:
// exec ends the threads that wait there first.
var errPreflightStuck = errors.New("it can not be ended, as a file that it reads is on a file system that does not answer")

// runPreflight is cmd.Run for a command that ctx kills. It does not wait for
// one that can not be killed, whose output must not be touched then.
func runPreflight(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit := time.NewTimer(preflightEnd)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
		return errPreflightStuck
	}
}
