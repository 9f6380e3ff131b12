//go:build linux && !portable_relay

package relay

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// Only Pause ends an accept loop. The kernel's timeouts, which concern one
// connection, do not.
func TestTimeoutsDoNotEndAccepting(t *testing.T) {
	for _, err := range []error{syscall.ETIMEDOUT, syscall.EAGAIN, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.ETIMEDOUT)}, errors.New("other")} {
		if IsPaused(err) {
			t.Errorf("%v ends the accept loop", err)
		}
	}
	ln, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ln.Pause()
	done := make(chan error, 1)
	go func() { _, _, err := ln.Accept(); done <- err }()
	select {
	case err := <-done:
		if !IsPaused(err) {
			t.Errorf("a stopped listener returns %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the listener does not stop")
	}
}
