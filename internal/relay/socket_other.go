//go:build !linux || portable_relay

package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

const dialTimeout = 30 * time.Second

// Handle is a connection that no loop owns yet.
type Handle struct{ conn net.Conn }

func (h Handle) Close() { h.conn.Close() }

// Socket is one TCP connection. Only its loop's goroutine may touch it, except for conn.
type Socket struct {
	loop  *Loop
	owner Owner
	conn  net.Conn // nil while connecting

	closed  bool
	paused  bool
	waiting bool // the reader waits until its bytes are consumed
	writing bool // a writer is running
	queued  bool // the socket is in loop.again
	bulk    bool // bytes from WriteBulk are still unsent
	failure error

	taken   chan struct{} // lets the reader continue
	partial []byte
	unsent  []byte
}

// Carried always returns false here, because only Linux has carried sockets.
func (s *Socket) Carried() bool { return false }

func (s *Socket) dial(addr netip.AddrPort) {
	conn, err := net.DialTimeout("tcp", addr.String(), dialTimeout)
	s.loop.Post(func() {
		switch {
		case s.closed && err == nil:
			conn.Close()
		case s.closed:
		case err != nil:
			s.Close()
			s.owner.SocketConnected(s, err)
		default:
			s.begin(conn)
			s.startWriter()
			s.owner.SocketConnected(s, nil)
		}
	})
}

func (s *Socket) begin(conn net.Conn) {
	s.conn = conn
	go s.readAll(conn)
}

// readAll is the socket's reader. After each read it waits until the loop has received the bytes and
// the socket is not paused.
func (s *Socket) readAll(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		s.loop.Post(func() { s.readDone(buf[:n], err) })
		if _, open := <-s.taken; !open || err != nil {
			return
		}
	}
}

func (s *Socket) readDone(b []byte, err error) {
	if s.closed {
		return
	}
	s.waiting = true
	s.partial = append(s.partial, b...)
	if len(b) > 0 && !s.paused {
		s.deliver()
	}
	if err != nil && !s.closed {
		if errors.Is(err, io.EOF) {
			err = ErrPeerClosed
		}
		s.lost(err)
		return
	}
	s.letRead()
}

// letRead lets the reader read again unless the socket is paused.
func (s *Socket) letRead() {
	if s.waiting && !s.paused && !s.closed {
		s.waiting = false
		s.taken <- struct{}{}
	}
}

// deliver passes all unconsumed bytes to the owner and keeps those that the owner does not consume.
func (s *Socket) deliver() {
	b := s.partial
	used := s.owner.SocketReceived(s, b)
	if !s.closed {
		s.partial = append([]byte(nil), b[used:]...)
	}
}

// Write queues b for the socket's writer. It does not keep b.
func (s *Socket) Write(b []byte) {
	if s.closed || len(b) == 0 {
		return
	}
	if !s.hasRoom(len(b)) {
		s.fail(errUnsentLimit)
		return
	}
	s.unsent = append(s.unsent, b...)
	if s.conn != nil {
		s.startWriter()
	}
}

// startWriter starts a goroutine that writes the unsent bytes, unless one is running.
func (s *Socket) startWriter() {
	if !s.writing && len(s.unsent) > 0 {
		s.writing = true
		go s.writeOut(s.conn, s.unsent, s.loop.stallLimit)
	}
}

func (s *Socket) writeOut(conn net.Conn, b []byte, limit time.Duration) {
	conn.SetWriteDeadline(time.Now().Add(limit))
	n, err := conn.Write(b)
	s.loop.Post(func() {
		s.writing = false
		s.unsent = append([]byte(nil), s.unsent[n:]...)
		if s.closed { // Close left the connection open for these bytes
			if err != nil || len(s.unsent) == 0 {
				conn.Close()
			} else {
				s.startWriter()
			}
			return
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.fail(errWriteTimeout)
		case err != nil:
			s.unsent = nil // the reader reports the reason
		case len(s.unsent) > 0:
			s.startWriter()
		default:
			s.bulk = false
			s.owner.SocketDrained(s)
		}
	})
}

// HasMore always returns false, because this relay does not ask the kernel. Its reader is at most one
// read behind.
func (s *Socket) HasMore() bool { return false }

// Peek returns up to n bytes that have been read and the owner has not consumed.
func (s *Socket) Peek(n int) []byte { return s.partial[:min(n, len(s.partial))] }

// Unconsumed returns the bytes that were received but not consumed by the owner.
func (s *Socket) Unconsumed() []byte { return s.partial }

// Unsent returns the bytes that wait for the peer.
func (s *Socket) Unsent() []byte { return s.unsent }

// Congested reports whether so many bytes wait that the peer does not seem to read them.
func (s *Socket) Congested() bool { return len(s.unsent) > ReadChunk }

// Pause stops reading as soon as the current read has ended.
func (s *Socket) Pause(bool) { s.paused = true }

// Resume continues reading. The owner gets the kept bytes soon, but not during this call.
func (s *Socket) Resume() {
	if s.closed || !s.paused {
		return
	}
	s.paused = false
	s.queue()
}

// fail ends the connection soon, but not during this call, as if the peer had ended it.
func (s *Socket) fail(err error) {
	s.failure = err
	s.queue()
}

func (s *Socket) queue() {
	if !s.queued {
		s.queued = true
		s.loop.again = append(s.loop.again, s)
		s.loop.wake()
	}
}

// Close ends the connection without calling the owner. Bytes that a writer is sending are still sent.
func (s *Socket) Close() {
	if s.closed {
		return
	}
	s.closed = true
	close(s.taken)
	delete(s.loop.sockets, s)
	if s.conn != nil && !s.writing {
		s.conn.Close()
	}
	s.partial = nil
	if !s.writing {
		s.unsent = nil
	}
}

// Reset is Close without the state TIME_WAIT, which would keep the local port in use for a minute.
func (s *Socket) Reset() {
	if conn, ok := s.conn.(*net.TCPConn); ok && !s.closed && !s.writing {
		conn.SetLinger(0)
	}
	s.Close()
}

func (s *Socket) lost(err error) {
	s.Close()
	s.owner.SocketClosed(s, err)
}
