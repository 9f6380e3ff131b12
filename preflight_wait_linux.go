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
	ended := make(chan error, 1)
	go func() {
		// Not even this returns while the program itself can not be read.
		err := cmd.Start()
		if err == nil {
			err = cmd.Wait()
		}
		ended <- err
	}()
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
