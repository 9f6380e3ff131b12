//go:build linux && !portable_relay

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"
)

// A preflight that does not end is only waited for as long as it may take, even if
// it cannot be killed.
func TestPreflightThatCanNotBeKilled(t *testing.T) {
	for _, killable := range []bool{true, false} {
		t.Run(fmt.Sprint(killable), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sleep", "30")
			if !killable {
				cmd.Cancel = func() error { return nil }
			}
			began := time.Now()
			err := runPreflight(ctx, cmd)
			if err == nil || errors.Is(err, errPreflightStuck) == killable {
				t.Errorf("got error %v", err)
			}
			if took := time.Since(began); took > preflightEnd+testWait {
				t.Errorf("the preflight was waited for %v, which is too long", took)
			}
		})
	}
}
