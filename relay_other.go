//go:build !linux || portable_relay

package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// The relay of systems without epoll: the same loops and sockets as in
// relay_linux.go, with a goroutine for each socket's reading and one for what
// its peer does not take. It is there so that the program builds and its tests
// run elsewhere; it is not made for thousands of miners.

// socketHandle is a connection that no loop owns yet.
type socketHandle struct{ conn net.Conn }

func (h socketHandle) close() { h.conn.Close() }

const dialTimeout = 30 * time.Second

// loop calls on one goroutine whatever happens on its sockets.
type loop struct {
	relayCore
	woken   chan struct{}
	stopped chan struct{}

	// The loop's goroutine only:

	sockets map[*socket]struct{}
	again   []*socket
	stop    bool
}

// socket is one TCP connection. Only its loop's goroutine may touch it, except
// for conn.
type socket struct {
	loop  *loop
	owner socketOwner
	conn  net.Conn // nil while connecting

	closed  bool
	paused  bool
	waiting bool // a reader waits for its bytes to be taken
	writing bool // a writer is at work on inFlight
	queued  bool
	bulk    bool // since writeBulk something has waited
	failure error

	taken   chan struct{} // lets the reader go on
	partial []byte
	unsent  []byte
}

func newLoop() (*loop, error) {
	l := &loop{woken: make(chan struct{}, 1), sockets: make(map[*socket]struct{})}
	l.stallLimit = writeTimeout
	l.wake = func() {
		select {
		case l.woken <- struct{}{}:
		default:
		}
	}
	return l, nil
}

func (l *loop) start() {
	l.stop = false
	l.stopped = make(chan struct{})
	go l.run()
}

func (l *loop) freeze() {
	l.post(func() { l.stop = true })
	<-l.stopped
}

func (l *loop) close() {
	for s := range l.sockets {
		s.close()
	}
	if l.alarm != nil {
		l.alarm.Stop()
	}
}

func (l *loop) run() {
	defer close(l.stopped)
	for !l.stop {
		l.readAt = 0
		l.runMail()
		l.runTimers()
		for len(l.again) > 0 {
			s := l.again[0]
			l.again = l.again[1:]
			s.queued = false
			switch {
			case s.closed:
			case s.failure != nil:
				s.lost(s.failure)
			case !s.paused && len(s.partial) > 0:
				s.deliver()
			}
			s.letRead()
		}
		if !l.stop {
			<-l.woken
		}
	}
}

func (l *loop) adopt(h socketHandle, owner socketOwner) (*socket, error) {
	s := l.add(owner)
	s.begin(h.conn)
	return s, nil
}

func (l *loop) add(owner socketOwner) *socket {
	s := &socket{loop: l, owner: owner, taken: make(chan struct{}, 1)}
	l.sockets[s] = struct{}{}
	return s
}

func (l *loop) dial(addr netip.AddrPort, owner socketOwner) (*socket, error) {
	s := l.add(owner)
	go s.dial(addr)
	return s, nil
}

func (s *socket) dial(addr netip.AddrPort) {
	conn, err := net.DialTimeout("tcp", addr.String(), dialTimeout)
	s.loop.post(func() {
		switch {
		case s.closed && err == nil:
			conn.Close()
		case s.closed:
		case err != nil:
			s.close()
			s.owner.socketConnected(s, err)
		default:
			s.begin(conn)
			s.startWriter()
			s.owner.socketConnected(s, nil)
		}
	})
}

func (s *socket) begin(conn net.Conn) {
	s.conn = conn
	go s.readAll(conn)
}

// readAll is the socket's reader. After each read it waits until the loop has
// taken the bytes and is not paused.
func (s *socket) readAll(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		s.loop.post(func() { s.readDone(buf[:n], err) })
		if _, open := <-s.taken; !open || err != nil {
			return
		}
	}
}

func (s *socket) readDone(b []byte, err error) {
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
			err = errPeerClosed
		}
		s.lost(err)
		return
	}
	s.letRead()
}

func (s *socket) letRead() {
	if s.waiting && !s.paused && !s.closed {
		s.waiting = false
		s.taken <- struct{}{}
	}
}

func (s *socket) deliver() {
	b := s.partial
	used := s.owner.socketReceived(s, b)
	if !s.closed {
		s.partial = append([]byte(nil), b[used:]...)
	}
}

func (s *socket) write(b []byte) {
	if s.closed || len(b) == 0 {
		return
	}
	if !s.takes(len(b)) {
		s.fail(errUnsentLimit)
		return
	}
	s.unsent = append(s.unsent, b...)
	if s.conn != nil {
		s.startWriter()
	}
}

// startWriter hands what is unsent to a goroutine, unless one is at work.
func (s *socket) startWriter() {
	if !s.writing && len(s.unsent) > 0 {
		s.writing = true
		go s.writeOut(s.conn, s.unsent, s.loop.stallLimit)
	}
}

func (s *socket) writeOut(conn net.Conn, b []byte, limit time.Duration) {
	conn.SetWriteDeadline(time.Now().Add(limit))
	n, err := conn.Write(b)
	s.loop.post(func() {
		s.writing = false
		s.unsent = append([]byte(nil), s.unsent[n:]...)
		if s.closed { // it was left open for these bytes
			if err != nil || len(s.unsent) == 0 {
				conn.Close()
			} else {
				s.startWriter()
			}
			return
		}
		switch {
		case isTimeout(err):
			s.fail(errWriteTimeout)
		case err != nil:
			s.unsent = nil // the reader will tell why
		case len(s.unsent) > 0:
			s.startWriter()
		default:
			s.bulk = false
			s.owner.socketDrained(s)
		}
	})
}

// hasMore is not known here: the reader is a goroutine that is at most one
// chunk behind.
func (s *socket) hasMore() bool { return false }

// peek gives what has been read and the owner has not taken yet, at most n
// bytes.
func (s *socket) peek(n int) []byte { return s.partial[:min(n, len(s.partial))] }

// congested says that more waits than a peer in good health leaves.
func (s *socket) congested() bool { return len(s.unsent) > readChunk }

func (s *socket) pause(bool) { s.paused = true }

func (s *socket) resume() {
	if s.closed || !s.paused {
		return
	}
	s.paused = false
	s.queue()
}

func (s *socket) fail(err error) {
	s.failure = err
	s.queue()
}

func (s *socket) queue() {
	if !s.queued {
		s.queued = true
		s.loop.again = append(s.loop.again, s)
		s.loop.wake()
	}
}

func (s *socket) close() {
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

// reset is close without the wait that would keep the local port in use for a
// minute (TIME_WAIT).
func (s *socket) reset() {
	if conn, ok := s.conn.(*net.TCPConn); ok && !s.closed && !s.writing {
		conn.SetLinger(0)
	}
	s.close()
}

func (s *socket) lost(err error) {
	s.close()
	s.owner.socketClosed(s, err)
}

func setListenerOptions(uintptr) {}

// minerListener is the listening socket.
type minerListener struct {
	ln   *net.TCPListener
	addr net.Addr
}

func newMinerListener(ln *net.TCPListener) (*minerListener, error) {
	return &minerListener{ln: ln, addr: ln.Addr()}, nil
}

func (ln *minerListener) accept() (socketHandle, netip.AddrPort, error) {
	conn, err := ln.ln.AcceptTCP()
	if err != nil {
		return socketHandle{}, netip.AddrPort{}, err
	}
	return socketHandle{conn}, conn.RemoteAddr().(*net.TCPAddr).AddrPort(), nil
}

func (ln *minerListener) close() { ln.ln.Close() }
