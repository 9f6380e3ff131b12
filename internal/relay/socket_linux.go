//go:build linux && !portable_relay

package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is one TCP connection, or one end of a socketpair whose other end somebody carries on to a
// peer (see SetCarried). It belongs to one loop, and only that loop's goroutine may touch it.
// The owner closes it, or the loop does after an error; closing it twice does no harm.
type Socket struct {
	loop  *Loop
	owner Owner

	fd  int32
	gen uint32 // tells this socket's events from those of an earlier socket with the same fd

	connecting bool
	closed     bool
	paused     bool
	hangup     bool // a hang-up of the peer is reported even while paused
	broken     bool // a write failed; the read side will report why
	queued     bool // it is in loop.again
	waiting    bool // it is in loop.unread
	readable   bool // bytes arrived while it was paused
	ending     bool // the peer has closed; bytes it sent before are still read
	watchesOut bool // epoll reports when the peer takes more
	bulk       bool // bytes from WriteBulk are still unsent
	carried    bool // see SetCarried
	failed     bool // it is in loop.failures

	kept *keptBytes // nil: none
}

// keptBytes are the bytes that a socket holds. Few sockets hold any at a time.
type keptBytes struct {
	partial []byte // received, but not consumed by the owner
	unsent  []byte // written by the owner, but not taken by the peer
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

// stall says since when bytes have been waiting for a peer.
type stall struct {
	congested time.Time // since then there have always been some
	stuck     time.Time // since then the peer has taken none
}

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

// readLater has the socket read once the others have had their turn.
func (s *Socket) readLater() {
	if !s.closed && !s.waiting {
		s.waiting = true
		s.loop.unread = append(s.loop.unread, s)
	}
}

// deliver gives the first n bytes of the loop's buffer to the owner and keeps what the owner does not
// consume.
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

// FD is the socket's descriptor, which still belongs to the socket.
func (s *Socket) FD() int { return int(s.fd) }

// Unconsumed are the bytes that were received but not consumed by the owner. They are valid until the
// loop carries on.
func (s *Socket) Unconsumed() []byte {
	if s.kept == nil {
		return nil
	}
	return s.kept.partial
}

// Unsent are the bytes that wait for the peer. They are valid until the loop carries on.
func (s *Socket) Unsent() []byte {
	if s.kept == nil {
		return nil
	}
	return s.kept.unsent
}

// HasMore reports whether the kernel has bytes from the peer that were not read yet.
func (s *Socket) HasMore() bool {
	n, err := unix.IoctlGetInt(int(s.fd), unix.TIOCINQ)
	return err == nil && n > 0
}

// Peek returns up to n bytes that the peer has sent and the owner has not consumed, and leaves them
// where they are.
func (s *Socket) Peek(n int) []byte {
	partial := s.Unconsumed()
	b := append(make([]byte, 0, n), partial[:min(n, len(partial))]...)
	if more, _, err := unix.Recvfrom(int(s.fd), b[len(b):n], unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil {
		b = b[:len(b)+more]
	}
	return b
}

// Write sends b; it copies what the peer does not take at once and sends that later. It does not keep b.
func (s *Socket) Write(b []byte) {
	if s.closed || s.broken || len(b) == 0 {
		return
	}
	if !s.Congested() && !s.connecting {
		n, ok := s.send(b)
		if !ok {
			// The read side reports the end, since it may still hold answers of the peer.
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

// send writes b until all of it is sent or the kernel takes no more. Only in the latter case does an
// event report when it takes more.
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

// watchOut has epoll report when the peer takes more.
func (s *Socket) watchOut() {
	if s.watchesOut {
		return
	}
	s.watchesOut = true
	if err := s.loop.control(unix.EPOLL_CTL_MOD, s.fd, s.gen, writeEvents); err != nil {
		s.fail(err)
	}
}

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
			s.loop.stalled[s] = stall{s.loop.stalled[s].congested, time.Now()}
		}
		return
	}
	s.keep(s.Unconsumed(), nil)
	s.bulk = false
	delete(s.loop.stalled, s)
	s.owner.SocketDrained(s)
}

// Congested reports whether the peer has not taken everything that was written.
func (s *Socket) Congested() bool { return len(s.Unsent()) > 0 }

// Pause stops reading. With hangup, the owner still hears if the peer closes the connection, and
// unread bytes are lost then.
func (s *Socket) Pause(hangup bool) {
	if s.closed {
		return
	}
	s.paused, s.hangup = true, hangup
	if hangup && s.ending {
		s.fail(ErrPeerClosed)
	}
}

// Resume reads again. The owner gets bytes that were kept soon, but not during this call.
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

func (s *Socket) queue() {
	if !s.queued {
		s.queued = true
		s.loop.again = append(s.loop.again, s)
	}
}

// Close ends the connection without a call to the owner. It may be called twice.
func (s *Socket) Close() {
	if s.closed {
		return
	}
	s.release()
	rawClose(int(s.fd))
}

// Reset is Close without TIME_WAIT, which would keep the local port in use for a minute. The peer's
// system discards bytes that its program has not read yet.
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

// Detach takes the descriptor away from the socket, which is closed from then on, with all bytes that
// it still held. Another process may be given the descriptor: unlike after Close, the connection stays.
// After an error the socket and its descriptor are closed.
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

// SetCarried marks a socket as one end of a socketpair. What is written there, and its end, somebody
// carries on to the peer, but a reset has to be asked for: Reset calls Loop.ResetCarried.
func (s *Socket) SetCarried() { s.carried = true }

// Carried reports whether the socket is one end of a socketpair that is carried on.
func (s *Socket) Carried() bool { return s.carried }

// Closed reports whether the socket is closed.
func (s *Socket) Closed() bool { return s.closed }

// release removes the socket from everything its loop keeps.
func (s *Socket) release() {
	s.closed = true
	s.loop.sockets[s.fd] = nil
	delete(s.loop.stalled, s)
	if s.failed {
		delete(s.loop.failures, s)
	}
	s.kept = nil
}

func (s *Socket) lost(err error) {
	if s.connecting {
		s.Close()
		s.owner.SocketConnected(s, err)
		return
	}
	s.Close()
	s.owner.SocketClosed(s, err)
}
