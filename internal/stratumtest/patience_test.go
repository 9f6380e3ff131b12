package stratumtest

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A wait ends when the process could run for the time that it may last. Steps that were
// delayed count less than the time that has passed.
func TestPatience(t *testing.T) {
	c := runClock{running: true} // the test counts itself
	now := time.Now()
	var ended []string
	wait := func(name string, d time.Duration) (stop func()) {
		return c.wait(d, func(cause error) {
			if !errors.Is(cause, context.DeadlineExceeded) {
				t.Errorf("%s ended with %v", name, cause)
			}
			ended = append(ended, name)
		})
	}
	want := func(names ...string) {
		t.Helper()
		if len(ended) != len(names) {
			t.Fatalf("the waits that ended are %q, want %q", ended, names)
		}
		for i := range names {
			if ended[i] != names[i] {
				t.Fatalf("the waits that ended are %q, want %q", ended, names)
			}
		}
	}
	wait("long", 30*time.Millisecond)
	wait("short", 10*time.Millisecond)
	stop := wait("stopped", 5*time.Millisecond)
	c.step(patienceMost, now) // it may have begun before the waits
	c.step(4*time.Millisecond, now)
	stop()
	c.step(4*time.Millisecond, now)
	want()
	c.step(2*time.Millisecond, now)
	want("short")
	if !c.step(19*time.Millisecond, now) {
		t.Error("nobody seems to wait")
	}
	want("short")
	if c.step(time.Millisecond, now) {
		t.Error("somebody seems to wait")
	}
	want("short", "long")
	// However busy the machine is, a wait ends.
	c.running = true
	wait("in any case", 10*time.Millisecond)
	c.step(patienceMost, time.Now().Add(patienceLimit*9*time.Millisecond))
	want("short", "long")
	c.step(patienceMost, time.Now().Add(patienceLimit*10*time.Millisecond))
	want("short", "long", "in any case")
}

func TestWithPatience(t *testing.T) {
	began := time.Now()
	const d = 50 * time.Millisecond
	ctx, cancel := WithPatience(context.Background(), d)
	defer cancel()
	<-ctx.Done()
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context ended with %v", err)
	}
	if took := time.Since(began); took < d {
		t.Errorf("the context ended after %v, want at least %v", took, d)
	}
	ctx, cancel = WithPatience(context.Background(), time.Hour)
	if err := ctx.Err(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled context has the error %v", err)
	}
}
