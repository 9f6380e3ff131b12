package stratumtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"time"
)

// TB is the subset of *testing.T that Raw needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Patience is how long Raw waits for what a test expects, as WithPatience counts it.
const Patience = 5 * time.Second

// Raw is a connection for tests that check the exact bytes. Its methods end the test if
// something unexpected happens.
type Raw struct {
	t  TB
	nc net.Conn
	r  *bufio.Reader
}

// DialRaw connects to addr. The connection is closed at the end of the test.
func DialRaw(t TB, addr string) *Raw {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		t.Fatalf("raw: %v", err)
	}
	return NewRaw(t, nc)
}

// NewRaw takes ownership of a connection, which is closed at the end of the test.
func NewRaw(t TB, nc net.Conn) *Raw {
	t.Cleanup(func() { nc.Close() })
	return &Raw{t, nc, bufio.NewReader(nc)}
}

// Conn returns the underlying connection.
func (r *Raw) Conn() net.Conn { return r.nc }

// Close closes the connection.
func (r *Raw) Close() { r.nc.Close() }

// CloseWrite ends the stream to the other side. Reading is still possible.
func (r *Raw) CloseWrite() { r.nc.(*net.TCPConn).CloseWrite() }

// Send writes the bytes unchanged.
func (r *Raw) Send(text string) {
	r.t.Helper()
	r.nc.SetWriteDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(r.nc, text); err != nil {
		r.t.Fatalf("raw: send %.100q: %v", text, err)
	}
}

// SendLine writes a line and a line end.
func (r *Raw) SendLine(line string) { r.t.Helper(); r.Send(line + "\n") }

// TryLine returns the next line without its end, or an error.
func (r *Raw) TryLine(timeout time.Duration) (string, error) {
	r.nc.SetReadDeadline(time.Now().Add(timeout))
	line, err := readLine(r.r)
	return string(line), err
}

// Line returns the next line without its end. The timeout counts as WithPatience does.
func (r *Raw) Line(timeout time.Duration) string {
	r.t.Helper()
	defer r.patientReads(timeout)()
	line, err := readLine(r.r)
	if err != nil {
		r.t.Fatalf("raw: no line within %v: %v", timeout, err)
	}
	return string(line)
}

// patientReads lets reads fail once the timeout is over, until stop is called.
func (r *Raw) patientReads(timeout time.Duration) (stop func()) {
	r.nc.SetReadDeadline(time.Time{})
	ctx, cancel := WithPatience(context.Background(), timeout)
	keep := context.AfterFunc(ctx, func() { r.nc.SetReadDeadline(time.Now()) })
	return func() { keep(); cancel() }
}

// ExpectLine fails the test unless the next line is exactly the given one.
func (r *Raw) ExpectLine(want string) {
	r.t.Helper()
	if got := r.Line(Patience); got != want {
		r.t.Fatalf("raw: line\n got %s\nwant %s", got, want)
	}
}

// ExpectJSON fails the test unless the next line is JSON equal to the given text. The
// order of keys does not matter.
func (r *Raw) ExpectJSON(want string) {
	r.t.Helper()
	got := r.Line(Patience)
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		r.t.Fatalf("raw: the line is not JSON: %q", got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		r.t.Fatalf("raw: the expected text is not JSON: %q", want)
	}
	if !reflect.DeepEqual(g, w) {
		r.t.Fatalf("raw: line\n got %s\nwant %s", got, want)
	}
}

// ExpectMethod fails the test unless the next line has the given method. It returns the
// line.
func (r *Raw) ExpectMethod(method string) string {
	r.t.Helper()
	line := r.Line(Patience)
	var m message
	if json.Unmarshal([]byte(line), &m) != nil || m.Method != method {
		r.t.Fatalf("raw: line %.300q does not have method %s", line, method)
	}
	return line
}

// ExpectClosed fails the test unless the stream ends or is reset before any byte
// arrives.
func (r *Raw) ExpectClosed() {
	r.t.Helper()
	defer r.patientReads(Patience)()
	b, err := r.r.ReadByte()
	switch {
	case err == nil:
		rest, _ := r.r.Peek(r.r.Buffered())
		r.t.Fatalf("raw: expected the connection to be closed, got %.300q", append([]byte{b}, rest...))
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.t.Fatalf("raw: the connection was not closed within %v", Patience)
	}
}

// ExpectNothing fails the test if bytes or the end of the stream arrive within d.
func (r *Raw) ExpectNothing(d time.Duration) {
	r.t.Helper()
	r.nc.SetReadDeadline(time.Now().Add(d))
	_, err := r.r.Peek(1)
	if err == nil {
		rest, _ := r.r.Peek(r.r.Buffered())
		r.t.Fatalf("raw: expected nothing, got %.300q", rest)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("raw: expected nothing, got %v", err)
	}
	// The reader would return its timeout again on the next read, so it is replaced.
	r.r = bufio.NewReader(r.nc)
}

// Read reads exactly n bytes. It is for binary messages.
func (r *Raw) Read(n int) []byte {
	r.t.Helper()
	defer r.patientReads(Patience)()
	b := make([]byte, n)
	if got, err := io.ReadFull(r.r, b); err != nil {
		r.t.Fatalf("raw: read %d of %d bytes: %v", got, n, err)
	}
	return b
}

// ExpectMethodAfter skips lines up to and including the given one, and then reads one
// more line of any kind.
func (r *Raw) ExpectMethodAfter(line string) {
	r.t.Helper()
	for r.Line(Patience) != line {
	}
	r.Line(Patience)
}
