package main

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// recorder is a socketOwner for tests. Its fields are the loop's.
type recorder struct {
	take    func(s *socket, b []byte) int // nil: all
	drained func(s *socket)               // may be nil
	events  chan string
}

func newRecorder() *recorder { return &recorder{events: make(chan string, 1000)} }

func (o *recorder) note(format string, args ...any) {
	select {
	case o.events <- fmt.Sprintf(format, args...):
	default:
		panic("too many events")
	}
}

func (o *recorder) socketConnected(_ *socket, err error) {
	if err != nil {
		o.note("not connected")
		return
	}
	o.note("connected")
}

func (o *recorder) socketReceived(s *socket, b []byte) int {
	if o.take != nil {
		return o.take(s, b)
	}
	o.note("received %s", b)
	return len(b)
}

func (o *recorder) socketDrained(s *socket) {
	if o.drained != nil {
		o.drained(s)
	}
}

func (o *recorder) socketClosed(_ *socket, err error) { o.note("closed: %v", err) }

func (o *recorder) want(t *testing.T, events ...string) {
	t.Helper()
	for _, want := range events {
		select {
		case got := <-o.events:
			if got != want {
				t.Fatalf("got event %.200q, want %.200q", got, want)
			}
		case <-time.After(testWait):
			t.Fatalf("no event, want %.200q", want)
		}
	}
}

// wantQuiet: the loop has done all that was there to do, and there was no event.
func (o *recorder) wantQuiet(t *testing.T, l *loop) {
	t.Helper()
	for range 3 {
		l.call(func() {})
	}
	select {
	case got := <-o.events:
		t.Fatalf("unexpected event %.200q", got)
	default:
	}
}

// relayBench is a running loop and a listener that hands out its connections.
type relayBench struct {
	*loop
	t  *testing.T
	ln *minerListener
}

func newRelayBench(t *testing.T) *relayBench {
	t.Helper()
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.start()
	t.Cleanup(func() {
		ln.close()
		l.freeze()
		l.close()
	})
	return &relayBench{l, t, ln}
}

// adopted gives a socket of the loop and its peer.
func (b *relayBench) adopted(owner socketOwner) (s *socket, peer *net.TCPConn) {
	b.t.Helper()
	nc, err := net.Dial("tcp", b.ln.addr.String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { nc.Close() })
	h, addr, err := b.ln.accept()
	if err != nil {
		b.t.Fatal(err)
	}
	if want := nc.LocalAddr().(*net.TCPAddr).AddrPort(); addr != want {
		b.t.Errorf("accepted from %v, not from %v", addr, want)
	}
	b.call(func() { s, err = b.adopt(h, owner) })
	if err != nil {
		b.t.Fatal(err)
	}
	return s, nc.(*net.TCPConn)
}

func send(t *testing.T, peer net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(peer, text); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, peer net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	peer.SetReadDeadline(time.Now().Add(testWait))
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != want {
		t.Fatalf("read %.200q, %v; want %.200q", got, err, want)
	}
}

func wantEOF(t *testing.T, peer net.Conn) {
	t.Helper()
	peer.SetReadDeadline(time.Now().Add(testWait))
	if n, err := peer.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}
