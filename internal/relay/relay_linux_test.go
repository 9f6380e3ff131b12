//go:build linux && !portable_relay

package relay

import (
	"io"
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
