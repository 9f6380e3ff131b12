package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestRelayReadsAndWrites(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	s, peer := b.adopted(o)
	send(t, peer, "hello")
	o.want(t, "received hello")
	b.Call(func() { s.Write([]byte("you ")); s.Write(nil); s.Write([]byte("too")) })
	wantRead(t, peer, "you too")
	peer.Close()
	o.want(t, "closed: "+ErrPeerClosed.Error())
	b.Call(func() { s.Write([]byte("x")); s.Pause(true); s.Resume(); s.Close() })
	o.wantQuiet(t, b.Loop)
}

// What the owner leaves is given to it again, together with what follows.
func TestRelayKeepsWhatIsLeft(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	o.take = func(_ *Socket, p []byte) int {
		o.note("%s", p)
		return bytes.LastIndexByte(p, '\n') + 1
	}
	_, peer := b.adopted(o)
	for _, step := range []struct{ send, want string }{
		{"ab", "ab"}, {"c", "abc"}, {"d\nef", "abcd\nef"}, {"g", "efg"}, {"\n", "efg\n"}, {"h\n", "h\n"},
	} {
		send(t, peer, step.send)
		o.want(t, step.want)
	}
	send(t, peer, "rest")
	o.want(t, "rest")
	peer.CloseWrite()
	o.want(t, "closed: "+ErrPeerClosed.Error())
}

func TestRelayCloseByOwner(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	s, peer := b.adopted(o)
	b.Call(func() { s.Write([]byte("bye")); s.Close(); s.Close() })
	wantRead(t, peer, "bye")
	wantEOF(t, peer)
	o.wantQuiet(t, b.Loop)

	// This closes in the middle of a call.
	o.take = func(s *Socket, p []byte) int { s.Close(); s.Write(p); return 0 }
	_, peer = b.adopted(o)
	send(t, peer, "x")
	wantEOF(t, peer)
	o.wantQuiet(t, b.Loop)
}

func TestRelayDial(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(at, func(t *testing.T) { testRelayDial(t, at) })
	}
}

func testRelayDial(t *testing.T, at string) {
	b := newRelayBench(t)
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	dial := func(o *recorder, addr netip.AddrPort, text string) (s *Socket) {
		b.Call(func() {
			var err error
			if s, err = b.Dial(addr, o); err != nil {
				o.note("not connected") // if it fails at once
				return
			}
			s.Write([]byte(text))
		})
		return s
	}

	o := newRecorder()
	s := dial(o, addr, "written before ")
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	o.want(t, "connected")
	b.Call(func() { s.Write([]byte("and after")) })
	wantRead(t, peer, "written before and after")
	send(t, peer, "answer")
	o.want(t, "received answer")

	// A connection that is given up before it is established causes no event.
	o = newRecorder()
	b.Call(func() {
		s, err := b.Dial(addr, o)
		if err != nil {
			t.Error(err)
			return
		}
		s.Write([]byte("x"))
		s.Close()
	})
	o.wantQuiet(t, b.Loop)

	ln.Close()
	o = newRecorder()
	dial(o, addr, "x")
	o.want(t, "not connected")
	o.wantQuiet(t, b.Loop)
}

func TestRelayPauseAndResume(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	o.take = func(s *Socket, p []byte) int {
		o.note("%s", p)
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			s.Pause(false) // take one line at a time
			return i + 1
		}
		return 0
	}
	s, peer := b.adopted(o)
	send(t, peer, "a\nb\nc")
	o.want(t, "a\nb\nc")
	o.wantQuiet(t, b.Loop)
	b.Call(func() {
		s.Resume()
		select {
		case e := <-o.events:
			t.Errorf("there was an event %q during Resume", e)
		default:
		}
	})
	o.want(t, "b\nc") // although nothing new has come
	send(t, peer, "\n")
	o.wantQuiet(t, b.Loop)
	b.Call(s.Resume)
	select {
	case got := <-o.events:
		if got == "c" { // what was kept comes first, then the rest
			o.want(t, "c\n")
		} else if got != "c\n" {
			t.Errorf("unexpected event %q", got)
		}
	case <-time.After(testWait):
		t.Error("there is no event after Resume")
	}
	// These pause and resume in one go, resume twice, and close after Resume.
	b.Call(func() { s.Resume(); s.Pause(true); s.Resume(); s.Resume() })
	send(t, peer, "d\n")
	o.want(t, "d\n")
	send(t, peer, "e\n")
	b.Call(func() { s.Resume(); s.Close() })
	o.wantQuiet(t, b.Loop)
	wantEOF(t, peer)
}

// If a peer does not read, bytes wait in order, and the owner is told when all are
// gone.
func TestRelayBackpressure(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	drained := make(chan struct{}, 100)
	s, peer := b.adopted(o)
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = byte(i * 7)
	}
	sum, written := sha256.New(), 0
	b.Call(func() {
		for !s.Congested() && written < 1<<30 {
			s.Write(block)
			sum.Write(block)
			written += len(block)
		}
		s.Write([]byte("end"))
		sum.Write([]byte("end"))
		written += 3
		o.drained = func(*Socket) { drained <- struct{}{} }
	})
	o.wantQuiet(t, b.Loop)
	got := sha256.New()
	peer.SetReadDeadline(time.Now().Add(testWait))
	if n, err := io.CopyN(got, peer, int64(written)); err != nil {
		t.Fatalf("read %d of %d bytes: %v", n, written, err)
	}
	if !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Error("the bytes were changed or reordered")
	}
	select {
	case <-drained:
	case <-time.After(testWait):
		t.Error("the owner is not told that all is written")
	}
	o.wantQuiet(t, b.Loop)
	b.Call(func() {
		if s.Congested() {
			t.Error("the socket is still congested")
		}
	})
}

func TestRelayUnsentLimit(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	s, peer := b.adopted(o)
	b.Call(func() {
		block := make([]byte, 64<<10)
		for range 1000 { // more than any kernel buffers
			s.Write(block)
			if n := len(s.Unsent()); n > MaxUnsent {
				t.Errorf("%d bytes are waiting", n)
			}
		}
	})
	o.want(t, "closed: "+errUnsentLimit.Error())
	o.wantQuiet(t, b.Loop)
	peer.SetReadDeadline(time.Now().Add(testWait))
	if _, err := io.Copy(io.Discard, peer); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is not closed")
	}
}

func TestRelayWriteTimeout(t *testing.T) {
	b := newRelayBench(t)
	b.Call(func() { b.stallLimit = 100 * time.Millisecond })
	o, healthy := newRecorder(), newRecorder()
	s, _ := b.adopted(o)
	other, peer := b.adopted(healthy)
	began := time.Now()
	fill := func(s *Socket) {
		for !s.Congested() {
			s.Write(make([]byte, 64<<10))
		}
	}
	o.drained = fill
	b.Call(func() { fill(s); other.Write([]byte("x")) })
	o.want(t, "closed: "+errWriteTimeout.Error())
	if d := time.Since(began); d < 90*time.Millisecond {
		t.Errorf("the socket was closed after %v", d)
	}
	wantRead(t, peer, "x")
	b.Call(func() {
		if other.closed {
			t.Error("the other socket was closed as well")
		}
	})
}

// Of two sockets that are ready at the same time, the first closes the other and
// opens a new one, which may well get the same descriptor. Events of the closed one
// reach neither it nor the new one.
func TestRelayEventOfClosedSocket(t *testing.T) {
	b := newRelayBench(t)
	var sockets [2]*Socket
	var peers [2]*net.TCPConn
	for range 50 {
		first, news := newRecorder(), newRecorder()
		var fresh *Socket
		first.take = func(s *Socket, p []byte) int {
			first.note("%s", p)
			other := sockets[0]
			if s == other {
				other = sockets[1]
			}
			other.Close()
			var err error
			if fresh, err = b.Dial(b.ln.Addr().(*net.TCPAddr).AddrPort(), news); err != nil {
				t.Error(err)
			}
			return len(p)
		}
		for i := range sockets {
			sockets[i], peers[i] = b.adopted(first)
		}
		<-b.Stop()
		for _, peer := range peers {
			send(t, peer, "x")
			if peer == peers[1] {
				peer.CloseWrite()
			}
		}
		b.Start()
		first.want(t, "x")
		news.want(t, "connected")
		h, _, err := b.ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		news.want(t, "closed: "+ErrPeerClosed.Error())
		b.Call(func() { fresh.Close(); sockets[0].Close(); sockets[1].Close() })
		for len(first.events) > 0 {
			// Only the survivor's own end may have been reported.
			if e := <-first.events; e != "closed: "+ErrPeerClosed.Error() {
				t.Fatalf("event %q of a closed socket", e)
			}
		}
		peers[0].Close()
		peers[1].Close()
	}
}

// Two sockets are joined as a session joins them. Nothing is lost, whatever the
// speed of the sides, and little is held.
func TestRelayJoinedSockets(t *testing.T) {
	b := newRelayBench(t)
	from, to := newRecorder(), newRecorder()
	sink, reader := b.adopted(to)
	most := 0
	from.take = func(s *Socket, p []byte) int {
		sink.Write(p)
		most = max(most, len(sink.Unsent()))
		if sink.Congested() {
			s.Pause(false)
		}
		return len(p)
	}
	source, writer := b.adopted(from)
	joined := &joiner{to, source}
	b.Call(func() { sink.owner = joined })

	const total = 24 << 20
	sent, got := sha256.New(), sha256.New()
	var sender sync.WaitGroup
	sender.Go(func() {
		block := make([]byte, 100_000)
		for left := total; left > 0; {
			for i := range block {
				block[i] = byte(rand.Uint32())
			}
			n, err := writer.Write(block[:min(len(block), left)])
			sent.Write(block[:n])
			if left -= n; err != nil {
				return
			}
		}
		writer.CloseWrite()
	})
	reader.SetReadDeadline(time.Now().Add(2 * testWait))
	buf := make([]byte, 300_000)
	for n := 0; n < total; {
		r, err := reader.Read(buf[:1+rand.N(len(buf)-1)])
		if err != nil {
			t.Fatalf("reading failed after %d of %d bytes: %v", n, total, err)
		}
		got.Write(buf[:r])
		if n += r; n > total/2 && n < total/2+1<<20 {
			runtime.Gosched()
		}
	}
	from.want(t, "closed: "+ErrPeerClosed.Error())
	sender.Wait()
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("the bytes were changed or reordered")
	}
	b.Call(func() {
		if limit := 2 * ReadChunk; most > limit {
			t.Errorf("%d bytes were held, want at most %d", most, limit)
		}
	})
}

// joiner resumes the source when the sink has room again.
type joiner struct {
	*recorder
	source *Socket
}

func (j *joiner) SocketDrained(*Socket) { j.source.Resume() }
