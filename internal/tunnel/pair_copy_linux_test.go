//go:build linux && e2e

package tunnel

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// If the key's file is overwritten with a key that does not belong to the
// certificate, the last good pair stays in use, for the next process too. So it
// must not be read from the files again.
func TestPairOverwrittenInPlace(t *testing.T) {
	told := make(chan Certificate, 10)
	tunnel, a := newTunnel(t, func(o *Options) {
		o.CheckEvery = 20 * time.Millisecond
		o.Certificate = func(c Certificate) { told <- c }
	})
	connectSecured(t, tunnel, a)
	if c := <-told; c.Err != nil {
		t.Fatal(c.Err)
	}
	_, otherKey := a.good(t)
	text, err := os.ReadFile(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tunnel.options.KeyFile, text, 0o600); err != nil { // in place
		t.Fatal(err)
	}
	if c := <-told; c.Err == nil || c.Pair == nil {
		t.Fatalf("got %+v, want an error and the pair in use", c)
	}
	former := tunnel.Processes()[0].PID
	if err := unix.Kill(former, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return len(tunnel.Processes()) == 0 })
	m := connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
}

// A pair was refused, and since then the key cannot be read. A process that is started
// now does not report again why the former files were refused.
func TestPairRefusedIsReportedOnce(t *testing.T) {
	told := make(chan Certificate, 10)
	tunnel, a := newTunnel(t, func(o *Options) {
		o.CheckEvery = 20 * time.Millisecond
		o.Certificate = func(c Certificate) { told <- c }
	})
	connectSecured(t, tunnel, a)
	if c := <-told; c.Err != nil {
		t.Fatal(c.Err)
	}
	if err := os.WriteFile(tunnel.options.CertFile, []byte("half"), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	if c := <-told; c.Err == nil || c.Pair == nil {
		t.Fatalf("got %+v, want an error and the pair in use", c)
	}
	if err := os.Remove(tunnel.options.KeyFile); err != nil {
		t.Fatal(err)
	}
	if c := <-told; !errors.Is(c.Err, os.ErrNotExist) {
		t.Fatalf("got %+v, want that the key is missing", c)
	}
	former := tunnel.Processes()[0].PID
	if err := unix.Kill(former, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return len(tunnel.Processes()) == 0 })
	m := connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
	select {
	case c := <-told:
		t.Errorf("reported again: %+v", c)
	default:
	}
}
