//go:build linux && !portable_relay

package relay

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// Addresses pass unchanged through accept and connect.
func TestListenerAddresses(t *testing.T) {
	ln, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b := newRelayBench(t)
	o := newRecorder()
	var s *Socket
	b.Call(func() { s, err = b.Dial(netip.MustParseAddrPort(ln.Addr().String()), o) })
	if err != nil {
		t.Fatal(err)
	}
	h, peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	o.want(t, "connected")
	b.Call(func() {
		if local, err := LocalAddr(s.FD()); err != nil || local != peer {
			t.Errorf("accepted %v, which is %v, %v", peer, local, err)
		}
		if at, err := PeerAddr(s.FD()); err != nil || at.String() != ln.Addr().String() {
			t.Errorf("connected to %v, %v, want %v", at, err, ln.Addr())
		}
	})
}

// An address keeps its value in the form that the kernel takes.
func TestRawAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7:3333":          "192.0.2.7:3333",
		"[::ffff:192.0.2.7]:3333": "192.0.2.7:3333",
		"[2001:db8::1]:443":       "[2001:db8::1]:443",
		"[fe80::1%2]:65535":       "[fe80::1]:65535",
	} {
		sa, size := toRaw(netip.MustParseAddrPort(text))
		if got := fromRaw(&sa); got.String() != want {
			t.Errorf("%s became %v, want %s", text, got, want)
		}
		is4 := !strings.Contains(want, "[")
		if is4 != (sa.Family == unix.AF_INET && size == 16) || is4 == (sa.Family == unix.AF_INET6 && size == 28) {
			t.Errorf("%s has family %d and %d bytes", text, sa.Family, size)
		}
		if zone := strings.Contains(text, "%2"); zone != (!is4 && sa.Scope_id == 2) {
			t.Errorf("%s has the zone %d", text, sa.Scope_id)
		}
	}
}
