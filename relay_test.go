package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
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

func TestRelayReadsAndWrites(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	s, peer := b.adopted(o)
	send(t, peer, "hello")
	o.want(t, "received hello")
	b.call(func() { s.write([]byte("you ")); s.write(nil); s.write([]byte("too")) })
	wantRead(t, peer, "you too")
	peer.Close()
	o.want(t, "closed: "+errPeerClosed.Error())
	b.call(func() { s.write([]byte("x")); s.pause(true); s.resume(); s.close() })
	o.wantQuiet(t, b.loop)
}

// What the owner leaves comes again with what follows.
func TestRelayKeepsWhatIsLeft(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	o.take = func(_ *socket, p []byte) int {
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
	o.want(t, "closed: "+errPeerClosed.Error())
}

func TestRelayCloseByOwner(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	s, peer := b.adopted(o)
	b.call(func() { s.write([]byte("bye")); s.close(); s.close() })
	wantRead(t, peer, "bye")
	wantEOF(t, peer)
	o.wantQuiet(t, b.loop)

	// In the middle of a call.
	o.take = func(s *socket, p []byte) int { s.close(); s.write(p); return 0 }
	_, peer = b.adopted(o)
	send(t, peer, "x")
	wantEOF(t, peer)
	o.wantQuiet(t, b.loop)
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
	dial := func(o *recorder, addr netip.AddrPort, text string) (s *socket) {
		b.call(func() {
			var err error
			if s, err = b.dial(addr, o); err != nil {
				o.note("not connected") // at once
				return
			}
			s.write([]byte(text))
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
	b.call(func() { s.write([]byte("and after")) })
	wantRead(t, peer, "written before and after")
	send(t, peer, "answer")
	o.want(t, "received answer")

	// Given up before it stands: no event.
	o = newRecorder()
	b.call(func() {
		s, err := b.dial(addr, o)
		if err != nil {
			t.Error(err)
			return
		}
		s.write([]byte("x"))
		s.close()
	})
	o.wantQuiet(t, b.loop)

	ln.Close()
	o = newRecorder()
	dial(o, addr, "x")
	o.want(t, "not connected")
	o.wantQuiet(t, b.loop)
}

func TestRelayPauseAndResume(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	o.take = func(s *socket, p []byte) int {
		o.note("%s", p)
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			s.pause(false) // one line at a time
			return i + 1
		}
		return 0
	}
	s, peer := b.adopted(o)
	send(t, peer, "a\nb\nc")
	o.want(t, "a\nb\nc")
	o.wantQuiet(t, b.loop)
	b.call(func() {
		s.resume()
		select {
		case e := <-o.events:
			t.Errorf("event %q during resume", e)
		default:
		}
	})
	o.want(t, "b\nc") // without anything new
	send(t, peer, "\n")
	o.wantQuiet(t, b.loop)
	b.call(s.resume)
	select {
	case got := <-o.events:
		if got == "c" { // what was kept, then the rest
			o.want(t, "c\n")
		} else if got != "c\n" {
			t.Errorf("event %q", got)
		}
	case <-time.After(testWait):
		t.Error("no event after resume")
	}
	// Paused and resumed in one go, twice resumed, closed after resume.
	b.call(func() { s.resume(); s.pause(true); s.resume(); s.resume() })
	send(t, peer, "d\n")
	o.want(t, "d\n")
	send(t, peer, "e\n")
	b.call(func() { s.resume(); s.close() })
	o.wantQuiet(t, b.loop)
	wantEOF(t, peer)
}

// A peer that does not read: bytes wait, in order, and the owner is told when
// all are gone.
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
	b.call(func() {
		for !s.congested() && written < 1<<30 {
			s.write(block)
			sum.Write(block)
			written += len(block)
		}
		s.write([]byte("end"))
		sum.Write([]byte("end"))
		written += 3
		o.drained = func(*socket) { drained <- struct{}{} }
	})
	o.wantQuiet(t, b.loop)
	got := sha256.New()
	peer.SetReadDeadline(time.Now().Add(testWait))
	if n, err := io.CopyN(got, peer, int64(written)); err != nil {
		t.Fatalf("%d of %d bytes: %v", n, written, err)
	}
	if !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Error("the bytes came changed or in another order")
	}
	select {
	case <-drained:
	case <-time.After(testWait):
		t.Error("the owner is not told that all is written")
	}
	o.wantQuiet(t, b.loop)
	b.call(func() {
		if s.congested() {
			t.Error("still congested")
		}
	})
}

func TestRelayUnsentLimit(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	s, peer := b.adopted(o)
	b.call(func() {
		block := make([]byte, 64<<10)
		for range 1000 { // more than any kernel takes
			s.write(block)
			if n := len(s.unsent); n > maxUnsent {
				t.Errorf("%d bytes wait", n)
			}
		}
	})
	o.want(t, "closed: "+errUnsentLimit.Error())
	o.wantQuiet(t, b.loop)
	peer.SetReadDeadline(time.Now().Add(testWait))
	if _, err := io.Copy(io.Discard, peer); isTimeout(err) {
		t.Error("the connection is not closed")
	}
}

func TestRelayWriteTimeout(t *testing.T) {
	b := newRelayBench(t)
	b.call(func() { b.stallLimit = 100 * time.Millisecond })
	o, healthy := newRecorder(), newRecorder()
	s, _ := b.adopted(o)
	other, peer := b.adopted(healthy)
	began := time.Now()
	fill := func(s *socket) {
		for !s.congested() {
			s.write(make([]byte, 64<<10))
		}
	}
	o.drained = fill
	b.call(func() { fill(s); other.write([]byte("x")) })
	o.want(t, "closed: "+errWriteTimeout.Error())
	if d := time.Since(began); d < 90*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
	wantRead(t, peer, "x")
	b.call(func() {
		if other.closed {
			t.Error("the other socket was closed too")
		}
	})
}

func TestRelayTimers(t *testing.T) {
	b := newRelayBench(t)
	var order []string
	done := make(chan struct{})
	b.call(func() {
		note := func(name string) func() { return func() { order = append(order, name) } }
		b.after(600*time.Millisecond, func() { note("600")(); close(done) })
		b.after(500*time.Millisecond, note("500"))
		var late *loopTimer
		b.after(time.Millisecond, func() {
			note("1")()
			b.stopTimer(late)
			b.after(0, note("1+0"))
			b.after(4*time.Millisecond, note("1+4"))
		})
		late = b.after(400*time.Millisecond, note("stopped by another"))
		stopped := b.after(2*time.Millisecond, note("stopped"))
		b.stopTimer(stopped)
		b.stopTimer(stopped)
		b.stopTimer(nil)
		b.after(-time.Second, note("-"))
	})
	select {
	case <-done:
	case <-time.After(testWait):
		t.Fatal("timers do not fire")
	}
	b.call(func() {
		if want := []string{"-", "1", "1+0", "1+4", "500", "600"}; !slices.Equal(order, want) {
			t.Errorf("fired %q, want %q", order, want)
		}
		if len(b.timers) != 0 {
			t.Errorf("%d timers are left", len(b.timers))
		}
		fired := b.after(0, func() {})
		b.runTimers()
		b.stopTimer(fired) // has no effect any more
	})
}

// Timers in any number fire in order, however they are stopped.
func TestRelayTimersRandom(t *testing.T) {
	b := newRelayBench(t)
	const n = 2000
	var fired []time.Time
	stopped, left := make(map[int]bool), 0
	done := make(chan struct{})
	b.call(func() {
		timers := make([]*loopTimer, n)
		for i := range timers {
			timers[i] = b.after(rand.N(50*time.Millisecond), func() {
				if stopped[i] {
					t.Errorf("timer %d fired though it was stopped", i)
				}
				fired = append(fired, timers[i].at)
				if left--; left == 0 {
					close(done)
				}
			})
		}
		for range n / 2 {
			i := rand.N(n)
			b.stopTimer(timers[i])
			stopped[i] = true
		}
		left = n - len(stopped)
	})
	select {
	case <-done:
	case <-time.After(testWait):
		t.Fatal("not all timers fire")
	}
	b.call(func() {
		if !slices.IsSortedFunc(fired, time.Time.Compare) {
			t.Error("timers fired out of order")
		}
	})
}

// An alarm that rang for a timer stopped meanwhile must not be taken for one
// that is still to ring.
func TestRelayTimerAfterStoppedOne(t *testing.T) {
	rung := make(chan struct{}, 10)
	c := &relayCore{wake: func() { rung <- struct{}{} }}
	wantRing := func() {
		t.Helper()
		select {
		case <-rung:
		case <-time.After(testWait):
			t.Fatal("the alarm does not ring")
		}
	}
	c.stopTimer(c.after(time.Millisecond, func() { t.Error("fired") }))
	wantRing()
	c.runTimers()
	fired := false
	c.after(time.Millisecond, func() { fired = true })
	wantRing()
	c.runTimers()
	if !fired {
		t.Error("the timer did not fire")
	}
}

func TestRelayPostFromManyGoroutines(t *testing.T) {
	b := newRelayBench(t)
	const senders, posts = 16, 500
	next := make([]int, senders) // the loop's
	total := 0
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			for n := range posts {
				b.post(func() {
					if next[i] != n {
						t.Errorf("sender %d: post %d came as %d", i, n, next[i])
					}
					next[i]++
					total++
					if n%100 == 0 {
						b.post(func() { total++ }) // from the loop itself
					}
				})
				if n%50 == 0 {
					b.call(func() {})
				}
			}
		})
	}
	all.Wait()
	b.call(func() {})
	b.call(func() {
		if want := senders * (posts + posts/100); total != want {
			t.Errorf("%d calls, want %d", total, want)
		}
	})
}

// A frozen loop does nothing, loses nothing, and goes on where it was.
func TestRelayFreezeAndStart(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	o.take = func(_ *socket, p []byte) int {
		o.note("%s", p)
		return bytes.LastIndexByte(p, '\n') + 1
	}
	s, peer := b.adopted(o)
	for round := range 5 {
		send(t, peer, "half ")
		o.want(t, "half ")
		b.call(func() { b.after(time.Millisecond, func() { o.note("timer") }) })
		if round > 0 {
			o.want(t, "timer")
		}
		b.freeze()
		for len(o.events) > 0 {
			<-o.events // the timer, if it was quick
		}
		// Nobody else is in the loop now: its state may be looked at.
		if string(s.partial) != "half " || s.closed {
			t.Fatalf("partial line %q, closed %v", s.partial, s.closed)
		}
		send(t, peer, "whole\n")
		posted := false
		b.post(func() { posted = true })
		b.after(5*time.Millisecond, func() { o.note("frozen timer") })
		if posted || len(o.events) > 0 {
			t.Fatalf("posted %v, %d events while frozen", posted, len(o.events))
		}
		b.start()
		b.call(func() {
			if !posted {
				t.Error("a post was lost")
			}
		})
		want := map[string]bool{"frozen timer": true, "half whole\n": true}
		for len(want) > 0 {
			select {
			case e := <-o.events:
				if !want[e] && e != "timer" {
					t.Fatalf("event %q", e)
				}
				delete(want, e)
			case <-time.After(testWait):
				t.Fatalf("no %v after start", want)
			}
		}
		b.call(func() { s.write([]byte("answer")) })
		wantRead(t, peer, "answer")
		for len(o.events) > 0 {
			<-o.events
		}
	}
}

// Of two sockets that are ready at once, the first closes the other and opens
// a new one, which may well get the same descriptor: events of the one closed
// reach neither it nor the new one.
func TestRelayEventOfClosedSocket(t *testing.T) {
	b := newRelayBench(t)
	var sockets [2]*socket
	var peers [2]*net.TCPConn
	for range 50 {
		first, news := newRecorder(), newRecorder()
		var fresh *socket
		first.take = func(s *socket, p []byte) int {
			first.note("%s", p)
			other := sockets[0]
			if s == other {
				other = sockets[1]
			}
			other.close()
			var err error
			if fresh, err = b.dial(b.ln.addr.(*net.TCPAddr).AddrPort(), news); err != nil {
				t.Error(err)
			}
			return len(p)
		}
		for i := range sockets {
			sockets[i], peers[i] = b.adopted(first)
		}
		b.freeze()
		for _, peer := range peers {
			send(t, peer, "x")
			if peer == peers[1] {
				peer.CloseWrite()
			}
		}
		b.start()
		first.want(t, "x")
		news.want(t, "connected")
		h, _, err := b.ln.accept()
		if err != nil {
			t.Fatal(err)
		}
		h.close()
		news.want(t, "closed: "+errPeerClosed.Error())
		b.call(func() { fresh.close(); sockets[0].close(); sockets[1].close() })
		for len(first.events) > 0 {
			// Only the survivor's own end may have come.
			if e := <-first.events; e != "closed: "+errPeerClosed.Error() {
				t.Fatalf("event %q of a closed socket", e)
			}
		}
		peers[0].Close()
		peers[1].Close()
	}
}

// Two sockets joined as a session joins them: nothing is lost, whatever the
// speed of the sides, and little is held.
func TestRelayJoinedSockets(t *testing.T) {
	b := newRelayBench(t)
	from, to := newRecorder(), newRecorder()
	sink, reader := b.adopted(to)
	most := 0
	from.take = func(s *socket, p []byte) int {
		sink.write(p)
		most = max(most, len(sink.unsent))
		if sink.congested() {
			s.pause(false)
		}
		return len(p)
	}
	source, writer := b.adopted(from)
	joined := &joiner{to, source}
	b.call(func() { sink.owner = joined })

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
			t.Fatalf("after %d of %d bytes: %v", n, total, err)
		}
		got.Write(buf[:r])
		if n += r; n > total/2 && n < total/2+1<<20 {
			runtime.Gosched()
		}
	}
	from.want(t, "closed: "+errPeerClosed.Error())
	sender.Wait()
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("the bytes came changed or in another order")
	}
	b.call(func() {
		if limit := 2 * readChunk; most > limit {
			t.Errorf("%d bytes were held, want at most %d", most, limit)
		}
	})
}

// joiner resumes the source when the sink has room again.
type joiner struct {
	*recorder
	source *socket
}

func (j *joiner) socketDrained(*socket) { j.source.resume() }
