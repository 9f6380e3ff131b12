//go:build linux && !portable_relay

package relay

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While reading is paused, the end of the miner is noticed if that is asked for.
func TestLinuxRelayPausedHangup(t *testing.T) {
	b := newRelayBench(t)
	for _, reset := range []bool{false, true} {
		o := newRecorder()
		s, peer := b.adopted(o)
		b.Call(func() { s.Pause(true) })
		send(t, peer, "unread")
		if reset {
			peer.SetLinger(0)
		}
		peer.Close()
		o.want(t, "closed: "+ErrPeerClosed.Error())
	}
	o := newRecorder()
	s, peer := b.adopted(o)
	b.Call(func() { s.Pause(false) })
	send(t, peer, "last words")
	peer.CloseWrite()
	o.wantQuiet(t, b.Loop)
	b.Call(s.Resume)
	o.want(t, "received last words", "closed: "+ErrPeerClosed.Error())
}

// A peer that always takes something but never everything is given up in the end.
func TestRelayPeerThatTakesLittle(t *testing.T) {
	b := newRelayBench(t)
	b.Call(func() { b.stallLimit = time.Hour })
	o := newRecorder()
	s, peer := b.adopted(o)
	peer.SetReadBuffer(16 << 10)
	var first, last stall
	var before, left int
	b.Call(func() {
		unix.SetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10)
		s.Write(make([]byte, MaxUnsent-1))
		first, before = b.stalled[s], s.Backlog()
	})
	for left = before; left == before; {
		if _, err := io.ReadFull(peer, make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
		b.Call(func() { last, left = b.stalled[s], s.Backlog() })
	}
	if left == 0 || last.congested != first.congested || !last.stuck.After(first.stuck) {
		t.Fatalf("%d bytes are left, waiting since %v and stuck since %v, at first since %v", left, last.congested, last.stuck, first)
	}
	b.Call(func() {
		last.congested = last.congested.Add(-congestedLimit * time.Hour)
		b.stalled[s] = last
		b.checkStalled()
	})
	o.want(t, "closed: "+errWriteTimeout.Error())
}

// Timers that became due while the loop did not run fire after the bytes that arrived
// meanwhile were handled, however many sockets they are for.
func TestRelayTimersComeAfterBytes(t *testing.T) {
	b := newRelayBench(t)
	const sockets = 1000 // more than a loop handles in one round
	received := 0        // belongs to the loop
	o := newRecorder()
	o.take = func(_ *Socket, p []byte) int {
		received++
		return len(p)
	}
	peers := make([]net.Conn, sockets)
	for i := range peers {
		_, peers[i] = b.adopted(o)
	}
	for range 3 {
		<-b.Stop()
		// Nobody else is in the loop now.
		received = 0
		fired := make(chan int, 1)
		b.After(0, func() { fired <- received })
		for _, peer := range peers {
			send(t, peer, "line\n")
		}
		b.Start()
		select {
		case n := <-fired:
			if n != sockets {
				t.Errorf("a timer fired when the bytes of %d of %d sockets had been handled, want all", n, sockets)
			}
		case <-time.After(testWait):
			t.Fatal("the timer does not fire")
		}
	}
}

// A timer that becomes due while a loop is held up within a round, for example because
// the process is stopped, fires after the bytes that arrived meanwhile were handled.
func TestRelayTimersComeAfterBytesOfHeldRound(t *testing.T) {
	b := newRelayBench(t)
	o, blocking := newRecorder(), newRecorder()
	held, goOn := make(chan bool), make(chan bool)
	blocking.take = func(_ *Socket, p []byte) int {
		held <- true
		<-goOn
		return len(p)
	}
	_, peer := b.adopted(o)
	_, other := b.adopted(blocking)
	b.Call(func() { b.After(100*time.Millisecond, func() { o.note("timer") }) })
	send(t, other, "line\n")
	<-held
	send(t, peer, "answer")
	time.Sleep(150 * time.Millisecond) // the timer becomes due
	goOn <- true
	o.want(t, "received answer", "timer")
}
