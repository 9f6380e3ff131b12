//go:build linux && !portable_relay

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The life of a socket, which its loop (relay_linux.go) tells of what happened.

func (s *socket) finishConnect(events uint32) {
	var err error
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		var code int
		if code, err = unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = unix.Errno(code)
		}
	}
	s.connecting = false
	if err != nil {
		s.close()
		s.owner.socketConnected(s, fmt.Errorf("connect: %w", err))
		return
	}
	s.flush()
	s.owner.socketConnected(s, nil)
}

func (s *socket) read() {
	l := s.loop
	kept := copy(l.buf, s.partial)
	if kept < len(s.partial) {
		s.lost(errLineTooLong)
		return
	}
	end := min(kept+readChunk, len(l.buf))
	n, errno := rawRead(int(s.fd), l.buf[kept:end])
	switch {
	case errno == unix.EAGAIN:
	case errno == unix.EINTR:
		s.readLater()
	case errno != 0:
		s.lost(errno)
	case n == 0:
		s.lost(errPeerClosed)
	default:
		s.deliver(kept + n)
		if kept+n == end || s.ending {
			s.readLater()
		}
	}
}

// readLater has the socket read when the others have had their turn.
func (s *socket) readLater() {
	if !s.closed && !s.waiting {
		s.waiting = true
		s.loop.unread = append(s.loop.unread, s)
	}
}

// deliver gives the first n bytes of the loop's buffer to the owner and keeps
// what it leaves.
func (s *socket) deliver(n int) {
	l := s.loop
	used := s.owner.socketReceived(s, l.buf[:n])
	if s.closed {
		return
	}
	if used == n {
		s.partial = nil
		return
	}
	s.partial = append(s.partial[:0], l.buf[used:n]...)
}

// hasMore says if the peer has sent what was not read yet.
func (s *socket) hasMore() bool {
	n, err := unix.IoctlGetInt(int(s.fd), unix.TIOCINQ)
	return err == nil && n > 0
}

// peek gives what the peer has sent and the owner has not taken yet, at most n
// bytes, and leaves it where it is.
func (s *socket) peek(n int) []byte {
	b := append(make([]byte, 0, n), s.partial[:min(n, len(s.partial))]...)
	if more, _, err := unix.Recvfrom(int(s.fd), b[len(b):n], unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil {
		b = b[:len(b)+more]
	}
	return b
}

// write sends b, or keeps what the peer does not take for later. b is not kept.
func (s *socket) write(b []byte) {
	if s.closed || s.broken || len(b) == 0 {
		return
	}
	if len(s.unsent) == 0 && !s.connecting {
		n, ok := s.send(b)
		if !ok {
			// Its end is reported by the read side, which may still hold
			// answers of the peer.
			s.broken = true
			return
		}
		if n == len(b) {
			return
		}
		b = b[n:]
	}
	if !s.takes(len(b)) {
		s.fail(errUnsentLimit)
		return
	}
	s.unsent = append(s.unsent, b...)
	if !s.connecting {
		s.loop.watchStall(s)
		s.watchOut()
	}
}

// send writes b until all of it is sent or the kernel takes no more: only then
// it will tell when it does.
func (s *socket) send(b []byte) (n int, ok bool) {
	for n < len(b) {
		sent, errno := rawWrite(int(s.fd), b[n:])
		switch errno {
		case 0:
			n += sent
		case unix.EINTR:
		case unix.EAGAIN:
			return n, true
		default:
			return n, false
		}
	}
	return n, true
}

// watchOut has epoll tell when the peer takes more.
func (s *socket) watchOut() {
	if s.watchesOut {
		return
	}
	s.watchesOut = true
	if err := s.loop.control(unix.EPOLL_CTL_MOD, s.fd, s.gen, writeEvents); err != nil {
		s.fail(err)
	}
}

func (s *socket) flush() {
	if len(s.unsent) == 0 {
		return
	}
	n, ok := s.send(s.unsent)
	switch {
	case !ok:
		s.broken = true
		s.unsent = nil
		return
	case n < len(s.unsent):
		s.loop.watchStall(s)
		if n > 0 {
			s.unsent = append([]byte(nil), s.unsent[n:]...)
			s.loop.stalled[s] = stall{s.loop.stalled[s].congested, time.Now()}
		}
		return
	}
	s.unsent, s.bulk = nil, false
	delete(s.loop.stalled, s)
	s.owner.socketDrained(s)
}

// congested says that the peer has not taken all that was written.
func (s *socket) congested() bool { return len(s.unsent) > 0 }

// pause stops reading. With hangup, the peer's closing is still reported,
// and unread bytes are then lost.
func (s *socket) pause(hangup bool) {
	if s.closed {
		return
	}
	s.paused, s.hangup = true, hangup
	if hangup && s.ending {
		s.fail(errPeerClosed)
	}
}

// resume reads again. Bytes that were kept are given to the owner soon, not
// during this call.
func (s *socket) resume() {
	if s.closed || !s.paused {
		return
	}
	s.paused = false
	if s.readable || s.ending {
		s.readable = false
		s.readLater()
	}
	if len(s.partial) > 0 {
		s.queue()
	}
}

// fail ends the connection soon, not during this call, as if the peer had.
func (s *socket) fail(err error) {
	s.failure = err
	s.queue()
}

func (s *socket) queue() {
	if !s.queued {
		s.queued = true
		s.loop.again = append(s.loop.again, s)
	}
}

// close ends the connection without a call to the owner.
func (s *socket) close() {
	if s.closed {
		return
	}
	s.release()
	unix.Close(int(s.fd))
}

// reset is close without the wait that would keep the local port in use for a
// minute (TIME_WAIT). The peer's system throws away what its program has not
// read yet.
func (s *socket) reset() {
	if !s.closed {
		unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		s.close()
	}
}

// release takes the descriptor out of the loop's books.
func (s *socket) release() {
	s.closed = true
	s.loop.sockets[s.fd] = nil
	delete(s.loop.stalled, s)
	s.partial, s.unsent = nil, nil
}

func (s *socket) lost(err error) {
	if s.connecting {
		s.close()
		s.owner.socketConnected(s, err)
		return
	}
	s.close()
	s.owner.socketClosed(s, err)
}
