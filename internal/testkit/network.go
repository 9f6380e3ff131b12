package testkit

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// DialFrom connects to addr from source, which is an address of this host.
func DialFrom(t testing.TB, source, addr string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: Wait}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// IsOpen sends a request and reports whether it is answered. A connection that was
// refused is closed or reset instead.
func IsOpen(t testing.TB, nc net.Conn) bool {
	t.Helper()
	nc.SetDeadline(time.Now().Add(Wait))
	if _, err := io.WriteString(nc, `{"id":1,"method":"mining.extranonce.subscribe","params":[]}`+"\n"); err != nil {
		return false
	}
	_, err := nc.Read(make([]byte, 100))
	if IsTimeout(err) {
		t.Fatal("the request was not answered and the connection was not closed")
	}
	return err == nil
}

// IsTimeout reports whether a deadline has passed.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TCPPair connects to ln and returns both ends of the connection. The accepted end is
// returned as a file.
func TCPPair(t testing.TB, ln net.Listener) (far net.Conn, near *os.File) {
	t.Helper()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	near, err = conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	return far, near
}

// Flood writes a text n times, or until the other side closes. Meanwhile, the answers are
// read and dropped.
func Flood(nc net.Conn, text string, n int) {
	nc.SetDeadline(time.Now().Add(Wait))
	go io.Copy(io.Discard, nc)
	for range n {
		if _, err := io.WriteString(nc, text); err != nil {
			return
		}
	}
}

// UnusedAddr returns an address on which no program listens.
func UnusedAddr(t testing.TB) string {
	t.Helper()
	addr, err := testport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func LongContext(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
