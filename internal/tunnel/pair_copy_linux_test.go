//go:build linux && e2e

package tunnel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// If the key's file is overwritten with a key that does not belong to the
// certificate, the last good pair stays in use, for the next process too. So it
// must not be read from the files again.
func TestPairOverwrittenInPlace(t *testing.T) {
	tunnel, a, reports := startReportingTunnel(t)
	_, otherKey := a.good(t)
	text, err := os.ReadFile(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tunnel.options.KeyFile, text, 0o600); err != nil { // in place
		t.Fatal(err)
	}
	if c := <-reports; c.Err == nil || c.Pair == nil {
		t.Fatalf("got %+v, want an error and the pair in use", c)
	}
	serveAfterKill(t, tunnel, a)
}

// A pair was refused, and since then the key cannot be read. A process that is started
// now does not report again why the former files were refused.
func TestPairRefusedIsReportedOnce(t *testing.T) {
	tunnel, a, reports := startReportingTunnel(t)
	if err := os.WriteFile(tunnel.options.CertFile, []byte("half"), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	if c := <-reports; c.Err == nil || c.Pair == nil {
		t.Fatalf("got %+v, want an error and the pair in use", c)
	}
	if err := os.Remove(tunnel.options.KeyFile); err != nil {
		t.Fatal(err)
	}
	if c := <-reports; !errors.Is(c.Err, os.ErrNotExist) {
		t.Fatalf("got %+v, want that the key is missing", c)
	}
	serveAfterKill(t, tunnel, a)
	select {
	case c := <-reports:
		t.Errorf("reported again: %+v", c)
	default:
	}
}

// A process refuses a pair when the files have already changed. That is not reported after
// what has been found since then.
func TestPairRefusedLate(t *testing.T) {
	tunnel, _, reports := startReportingTunnel(t)
	pid := tunnel.Processes()[0].PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, pid)
	if err := os.WriteFile(tunnel.options.CertFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pair is sent", func() bool {
		tunnel.mu.Lock()
		defer tunnel.mu.Unlock()
		return tunnel.pair.latest != tunnel.pair.good
	})
	if err := os.Remove(tunnel.options.KeyFile); err != nil {
		t.Fatal(err)
	}
	if c := <-reports; !errors.Is(c.Err, os.ErrNotExist) {
		t.Fatalf("got %+v, want that the key is missing", c)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pair is refused", func() bool {
		tunnel.mu.Lock()
		defer tunnel.mu.Unlock()
		return tunnel.pair.latest.refused
	})
	if tunnel.Close(); len(reports) > 0 {
		t.Errorf("reported again: %+v", <-reports)
	}
}

// awaitStopped waits until SIGSTOP has taken effect, which is soon but not at once.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "the process is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
}

// A process that is too busy to answer gets no further copies of an unusable pair, which
// would pile up, and a good pair is used as soon as it answers.
func TestPairWaitsForAnswer(t *testing.T) {
	reports := make(chan Certificate, 10)
	tunnel, a := newTunnel(t, func(o *Options) {
		o.CheckEvery, o.Patience = 10*time.Millisecond, time.Hour
		o.Certificate = func(c Certificate) { reports <- c }
	})
	connectSecured(t, tunnel, a)
	if c := <-reports; c.Err != nil {
		t.Fatal(c.Err)
	}
	cert, key := a.good(t)
	if err := os.Rename(cert, tunnel.options.CertFile); err != nil { // the key is not there yet
		t.Fatal(err)
	}
	if c := <-reports; c.Err == nil {
		t.Fatal("a certificate without its key is not reported")
	}
	serial := func() uint64 {
		tunnel.mu.Lock()
		defer tunnel.mu.Unlock()
		return tunnel.pair.serial
	}
	pid := tunnel.Processes()[0].PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, pid)
	before := serial()
	time.Sleep(30 * tunnel.options.CheckEvery)
	// Its answer to the last pair may have been under way.
	if sent := serial() - before; sent > 2 {
		t.Errorf("%d more pairs were sent to a process that does not answer", sent)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(key, tunnel.options.KeyFile); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-reports:
		if c.Err != nil {
			t.Errorf("unexpected certificate %+v", c)
		}
	case <-time.After(patience):
		t.Error("the good pair is not used")
	}
}

// startReportingTunnel starts a tunnel with one connection, whose certificate is in use. The
// channel has what is reported about the files after that.
func startReportingTunnel(t *testing.T) (*Tunnel, *authority, <-chan Certificate) {
	t.Helper()
	reports := make(chan Certificate, 10)
	tunnel, a := newTunnel(t, func(o *Options) {
		o.CheckEvery = 20 * time.Millisecond
		o.Certificate = func(c Certificate) { reports <- c }
	})
	connectSecured(t, tunnel, a)
	if c := <-reports; c.Err != nil {
		t.Fatal(c.Err)
	}
	return tunnel, a, reports
}

// serveAfterKill kills the tunnel process and wants the next one to serve a miner with the
// pair in use.
func serveAfterKill(t *testing.T, tunnel *Tunnel, a *authority) {
	t.Helper()
	if err := unix.Kill(tunnel.Processes()[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return len(tunnel.Processes()) == 0 })
	m := connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
}
