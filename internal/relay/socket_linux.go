//go:build linux && !portable_relay

package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is one TCP connection, or one end of a socketpair whose bytes another process carries to a
// peer (see SetCarried). It belongs to one loop, and only that loop's goroutine may touch it. The
// owner closes it, or the loop closes it after an error. It may be closed twice.
type Socket struct {
	loop  *Loop
	owner Owner

	fd  int32
	gen uint32 // distinguishes this socket's events from those of an earlier socket with the same fd

	connecting bool
	closed     bool
	paused     bool
	hangup     bool // a hang-up of the peer is reported even while the socket is paused
	broken     bool // a write failed; the read side will report why
	queued     bool // the socket is in loop.again
	waiting    bool // the socket is in loop.unread
	readable   bool // bytes arrived while the socket was paused
	ending     bool // the peer has closed; bytes it sent before are still read
	watchesOut bool // epoll reports when the peer accepts more bytes
	bulk       bool // bytes from WriteBulk are still unsent
	carried    bool // see SetCarried
	failed     bool // the socket is in loop.failures

	kept *keptBytes // nil if there are none
}

// keptBytes are the bytes that a socket holds. Few sockets hold any at a time.
type keptBytes struct {
	partial []byte // received, but not consumed by the owner
	unsent  []byte // written by the owner, but not accepted by the peer
}

// keep replaces the bytes that the socket holds.
func (s *Socket) keep(partial, unsent []byte) {
	switch {
	case len(partial)+len(unsent) == 0:
		s.kept = nil
	case s.kept == nil:
		s.kept = &keptBytes{partial, unsent}
	default:
		s.kept.partial, s.kept.unsent = partial, unsent
	}
}

// stall records since when bytes have waited for a peer.
type stall struct {
	congested time.Time // since when some bytes have always waited
	stuck     time.Time // since when the peer has accepted none
}

// finishConnect reports the outcome of a dial to the owner.
func (s *Socket) finishConnect(events uint32) {
	var err error
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		var code int
		if code, err = unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = unix.Errno(code)
		}
	}
	s.connecting = false
	if err != nil {
		s.Close()
		s.owner.SocketConnected(s, fmt.Errorf("connect: %w", err))
		return
	}
	s.flush()
	s.owner.SocketConnected(s, nil)
}

// read reads once and passes the bytes to the owner, after those that the owner did not consume.
func (s *Socket) read() {
	l, kept := s.loop, 0
	if partial := s.Unconsumed(); len(partial) > 0 {
		if kept = copy(l.buf, partial); kept < len(partial) {
			s.lost(ErrLineTooLong)
			return
		}
	}
	end := min(kept+ReadChunk, len(l.buf))
	n, errno := rawRead(int(s.fd), l.buf[kept:end])
	switch {
	case errno == unix.EAGAIN:
	case errno == unix.EINTR:
		s.readLater()
	case errno != 0:
		s.lost(errno)
	case n == 0:
		s.lost(ErrPeerClosed)
	default:
		s.deliver(kept + n)
		if kept+n == end || s.ending {
			s.readLater()
		}
	}
}

// readLater makes the loop read from the socket again once the other sockets have had their turn.
func (s *Socket) readLater() {
	if !s.closed && !s.waiting {
		s.waiting = true
		s.loop.unread = append(s.loop.unread, s)
	}
}

// deliver passes the first n bytes of the loop's buffer to the owner and keeps those that the owner
// does not consume.
func (s *Socket) deliver(n int) {
	l := s.loop
	used := s.owner.SocketReceived(s, l.buf[:n])
	if s.closed {
		return
	}
	if used == n {
		if s.kept != nil {
			s.keep(nil, s.kept.unsent)
		}
		return
	}
	s.keep(append(s.Unconsumed()[:0], l.buf[used:n]...), s.Unsent())
}

// FD returns the socket's descriptor, which still belongs to the socket.
func (s *Socket) FD() int { return int(s.fd) }

// Unconsumed returns the bytes that were received but not consumed by the owner. They are valid until
// the loop continues.
func (s *Socket) Unconsumed() []byte {
	if s.kept == nil {
		return nil
	}
	return s.kept.partial
}

// Unsent returns the bytes that wait for the peer. They are valid until the loop continues.
func (s *Socket) Unsent() []byte {
	if s.kept == nil {
		return nil
	}
	return s.kept.unsent
}

// HasMore reports whether the kernel has bytes of the peer that the loop has not read yet.
func (s *Socket) HasMore() bool {
	n, err := unix.IoctlGetInt(int(s.fd), unix.TIOCINQ)
	return err == nil && n > 0
}

// Peek returns a copy of up to n bytes that the peer has sent and the owner has not consumed.
func (s *Socket) Peek(n int) []byte {
	partial := s.Unconsumed()
	b := append(make([]byte, 0, n), partial[:min(n, len(partial))]...)
	if more, _, err := unix.Recvfrom(int(s.fd), b[len(b):n], unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil {
		b = b[:len(b)+more]
	}
	return b
}

// Write sends b. If the peer does not accept all of it at once, Write copies the rest, and the loop
// sends it later. It does not keep b.
func (s *Socket) Write(b []byte) {
	if s.closed || s.broken || len(b) == 0 {
		return
	}
	if !s.Congested() && !s.connecting {
		n, ok := s.send(b)
		if !ok {
			// The read side reports the end, because it may still have answers of the peer.
			s.broken = true
			return
		}
		if n == len(b) {
			return
		}
		b = b[n:]
	}
	if !s.hasRoom(len(b)) {
		s.fail(errUnsentLimit)
		return
	}
	s.keep(s.Unconsumed(), append(s.Unsent(), b...))
	if !s.connecting {
		s.loop.watchStall(s)
		s.watchOut()
	}
}

// send writes b until all of it is sent or the kernel accepts no more. Only in the latter case will an
// event report that the kernel accepts more.
func (s *Socket) send(b []byte) (n int, ok bool) {
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

// watchOut makes epoll report when the peer accepts more bytes.
func (s *Socket) watchOut() {
	if s.watchesOut {
		return
	}
	s.watchesOut = true
	if err := s.loop.control(unix.EPOLL_CTL_MOD, s.fd, s.gen, writeEvents); err != nil {
		s.fail(err)
	}
}

// flush sends the bytes that wait for the peer, as far as the kernel accepts them.
func (s *Socket) flush() {
	unsent := s.Unsent()
	if len(unsent) == 0 {
		return
	}
	n, ok := s.send(unsent)
	switch {
	case !ok:
		s.broken = true
		s.keep(s.Unconsumed(), nil)
		return
	case n < len(unsent):
		s.loop.watchStall(s)
		if n > 0 {
			s.keep(s.Unconsumed(), append([]byte(nil), unsent[n:]...))
			s.loop.stalled[s] = stall{s.loop.stalled[s].congested, s.loop.Now()}
		}
		return
	}
	s.keep(s.Unconsumed(), nil)
	s.bulk = false
	delete(s.loop.stalled, s)
	s.owner.SocketDrained(s)
}

// Congested reports whether bytes wait because the peer has not accepted everything.
func (s *Socket) Congested() bool { return len(s.Unsent()) > 0 }

// Pause stops reading. If hangup is set, the owner is still called when the peer closes the
// connection, and bytes that are unread then are lost.
func (s *Socket) Pause(hangup bool) {
	if s.closed {
		return
	}
	s.paused, s.hangup = true, hangup
	if hangup && s.ending {
		s.fail(ErrPeerClosed)
	}
}

// Resume continues reading. The owner gets the kept bytes soon, but not during this call.
func (s *Socket) Resume() {
	if s.closed || !s.paused {
		return
	}
	s.paused = false
	if s.readable || s.ending {
		s.readable = false
		s.readLater()
	}
	if len(s.Unconsumed()) > 0 {
		s.queue()
	}
}

// fail ends the connection soon, but not during this call, as if the peer had ended it.
func (s *Socket) fail(err error) {
	s.failed = true
	s.loop.failures[s] = err
	s.queue()
}

// queue makes the loop's finishEvent handle the socket.
func (s *Socket) queue() {
	if !s.queued {
		s.queued = true
		s.loop.again = append(s.loop.again, s)
	}
}

// Close ends the connection without calling the owner. It may be called twice.
func (s *Socket) Close() {
	if s.closed {
		return
	}
	s.release()
	rawClose(int(s.fd))
}

// Reset is Close without the state TIME_WAIT, which would keep the local port in use for a minute. The
// peer's system discards bytes that its program has not read yet.
func (s *Socket) Reset() {
	switch {
	case s.closed:
	case s.carried:
		if h, err := s.Detach(); err == nil {
			s.loop.ResetCarried(s, h)
		}
	default:
		rawSetOption(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, unix.Linger{Onoff: 1})
		s.Close()
	}
}

// Detach closes the socket without closing its descriptor, and returns the descriptor. Unlike after
// Close, the connection stays, so the descriptor may be passed to another process. Bytes that the
// socket still held are lost. After an error the socket and its descriptor are closed.
func (s *Socket) Detach() (Handle, error) {
	if s.closed {
		return -1, unix.EBADF
	}
	// Closing the descriptor would not end the events, because another process may hold it too.
	if err := s.loop.control(unix.EPOLL_CTL_DEL, s.fd, s.gen, 0); err != nil {
		s.Close()
		return -1, err
	}
	s.release()
	return Handle(s.fd), nil
}

// SetCarried marks a socket as one end of a socketpair. Another process carries the bytes written
// there, and their end, to the peer. It does not carry a reset, so Reset calls Loop.ResetCarried.
func (s *Socket) SetCarried() { s.carried = true }

// Carried reports whether SetCarried was called for the socket.
func (s *Socket) Carried() bool { return s.carried }

// Closed reports whether the socket is closed.
func (s *Socket) Closed() bool { return s.closed }

// release marks the socket as closed and removes it from its loop.
func (s *Socket) release() {
	s.closed = true
	s.loop.sockets[s.fd] = nil
	delete(s.loop.stalled, s)
	if s.failed {
		delete(s.loop.failures, s)
	}
	s.kept = nil
}

// lost closes the socket and tells the owner why.
func (s *Socket) lost(err error) {
	if s.connecting {
		s.Close()
		s.owner.SocketConnected(s, err)
		return
	}
	s.Close()
	s.owner.SocketClosed(s, err)
}
