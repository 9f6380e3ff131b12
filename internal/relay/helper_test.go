package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

const testWait = 8 * time.Second

// recorder is an Owner for tests. Its fields belong to the loop.
type recorder struct {
	take    func(s *Socket, b []byte) int // nil takes everything
	drained func(s *Socket)               // may be nil
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

func (o *recorder) SocketConnected(_ *Socket, err error) {
	if err != nil {
		o.note("not connected")
		return
	}
	o.note("connected")
}

func (o *recorder) SocketReceived(s *Socket, b []byte) int {
	if o.take != nil {
		return o.take(s, b)
	}
	o.note("received %s", b)
	return len(b)
}

func (o *recorder) SocketDrained(s *Socket) {
	if o.drained != nil {
		o.drained(s)
	}
}

func (o *recorder) SocketClosed(_ *Socket, err error) { o.note("closed: %v", err) }

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

// wantQuiet wants the loop to have done all that it had to do, and no event.
func (o *recorder) wantQuiet(t *testing.T, l *Loop) {
	t.Helper()
	for range 3 {
		l.Call(func() {})
	}
	select {
	case got := <-o.events:
		t.Fatalf("unexpected event %.200q", got)
	default:
	}
}

// relayBench is a running loop and a listener that hands out its connections.
type relayBench struct {
	*Loop
	t  *testing.T
	ln *Listener
}

func newRelayBench(t *testing.T) *relayBench {
	t.Helper()
	l, err := NewLoop(Limits{Kept: 512 << 10, Bulk: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() {
		ln.Close()
		<-l.Stop()
		l.Close()
	})
	return &relayBench{l, t, ln}
}

// adopted returns a socket of the loop and its peer.
func (b *relayBench) adopted(owner Owner) (s *Socket, peer *net.TCPConn) {
	b.t.Helper()
	nc, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { nc.Close() })
	h, addr, err := b.ln.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	if want := nc.LocalAddr().(*net.TCPAddr).AddrPort(); addr != want {
		b.t.Errorf("the peer's address is %v, want %v", addr, want)
	}
	b.Call(func() { s, err = b.Adopt(h, owner) })
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
	if n, err := peer.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}
