package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxOwed bounds the unsent bytes for a peer that does not read. crypto/tls itself may
// write more of them, such as answers to key updates, so nothing is read from such a
// peer.
const maxOwed = 64 << 10

// conn is a peer's TCP connection and the child's end of the daemon's pair.
//
// During the handshake, the handshake's goroutine owns secured and early, and only it
// reads and writes tcp; the loop wakes it at each event. Afterwards the loop owns
// everything. Only the loop closes a connection, and not before the handshake has ended.
type conn struct {
	server *server
	loop   *loop
	id     uint64
	slot   int32
	gen    uint32
	tcp    int32
	pair   int32

	secured *tls.Conn
	early   []byte     // bytes of the peer that the daemon has read; they come before those of tcp
	half    *handshake // nil once the handshake is done

	toPair, toPeer []byte // bytes that each side has not accepted yet

	// The following are set by events, and cleared by a read that finds no bytes.
	peerBytes bool // tcp may have bytes
	pairBytes bool // pair may have bytes
	records   bool // secured may have bytes, from tcp or from its own buffer

	peerHup, pairHup bool // the side has hung up: no event will announce bytes, so it is read until its end
	peerEnd, pairEnd bool // the side was read until its end
	inDone, outDone  bool // the end was passed on to the daemon (inDone) or to the peer (outDone)
	notified         bool // close_notify was written
	watchesPair      bool // epoll reports when the pair is writable
	queued           bool // the connection is in loop.unread
	closed           bool
}

// errAgain is what crypto/tls gets when the peer has sent nothing more. The error
// is temporary, so crypto/tls can resume later where it stopped.
var errAgain net.Error = againError{}

type againError struct{}

func (againError) Error() string   { return "no bytes yet" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

// wire is the TCP connection as crypto/tls sees it.
type wire conn

func (w *wire) Read(b []byte) (int, error) {
	c := (*conn)(w)
	if len(c.early) > 0 {
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	if c.half != nil {
		return c.half.read(b)
	}
	if !c.peerBytes {
		return 0, errAgain
	}
	n, errno := receive(c.tcp, b)
	switch {
	case errno == unix.EAGAIN:
		c.peerBytes = false
		return 0, errAgain
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	case n < len(b) && !c.peerHup:
		c.peerBytes = false // an event will announce the next byte
	}
	return n, nil
}

// Write never blocks after the handshake: bytes that the peer does not accept are
// kept, and nothing more is read from the pair until they are sent.
func (w *wire) Write(b []byte) (int, error) {
	c := (*conn)(w)
	if c.half != nil {
		return c.half.write(b)
	}
	n := 0
	if len(c.toPeer) == 0 {
		var errno syscall.Errno
		if n, errno = send(c.tcp, b); errno != 0 && errno != unix.EAGAIN {
			return 0, errno
		}
	}
	if n < len(b) {
		c.toPeer = append(c.toPeer, b[n:]...)
	}
	return len(b), nil
}

func (w *wire) Close() error                     { return nil } // the loop closes the descriptor
func (w *wire) LocalAddr() net.Addr              { return wireAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return wireAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

type wireAddr struct{}

func (wireAddr) Network() string { return "tcp" }
func (wireAddr) String() string  { return "peer" }

// event records what happened on a side, and moves bytes if the handshake is done.
func (c *conn) event(events uint32, pair bool) {
	const gone = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if pair {
		c.pairBytes = c.pairBytes || events&(unix.EPOLLIN|gone) != 0
		c.pairHup = c.pairHup || events&gone != 0
		if events&unix.EPOLLHUP != 0 {
			c.pairClosed()
		}
	} else {
		in := events&(unix.EPOLLIN|gone) != 0
		c.peerHup = c.peerHup || events&gone != 0
		if c.half == nil {
			c.peerBytes, c.records = c.peerBytes || in, c.records || in
			if events&unix.EPOLLERR != 0 {
				c.end(Reset, "connection reset")
				return
			}
		}
	}
	if c.half != nil {
		c.half.wake()
		return
	}
	c.pump()
}

// pairClosed records that the daemon has closed its end and reads nothing more. The bytes
// that the daemon wrote before are still sent to the peer.
func (c *conn) pairClosed() {
	if c.half != nil {
		c.half.abort(Closed)
	}
	c.toPair = nil
	c.inDone = true
}

// pump moves bytes in both directions until neither side has or accepts more. It stops
// after a few rounds, so that other connections do not wait for long, and continues later.
func (c *conn) pump() {
	if c.closed {
		return
	}
	defer func() {
		if fault := recover(); fault != nil {
			fmt.Fprintf(os.Stderr, "tunnel: connection %d: %v\n%s", c.id, fault, debug.Stack())
			c.end(Internal, "internal fault")
		}
	}()
	for range 4 {
		in := c.flushPair() && c.moveIn()
		out := !c.closed && c.flushPeer() && c.moveOut()
		if c.closed {
			return
		}
		if !in && !out {
			c.passEnds()
			return
		}
	}
	if !c.queued {
		c.queued = true
		c.loop.unread = append(c.loop.unread, c)
	}
}

// moveIn moves one record from the peer to the daemon. It reports whether there
// may be more.
func (c *conn) moveIn() bool {
	if !c.records || c.peerEnd || c.inDone || len(c.toPeer) > maxOwed {
		return false
	}
	n, err := c.secured.Read(c.loop.buf)
	if n > 0 {
		c.writePair(c.loop.buf[:n])
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, errAgain):
		c.records = false
		return false
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		c.peerEnd = true
		return false
	}
	c.failed(err)
	return false
}

// failed ends the connection after an error of crypto/tls or of the peer.
func (c *conn) failed(err error) {
	c.end(reasonOf(err), plainText(err.Error()))
}

func (c *conn) writePair(b []byte) {
	if c.inDone {
		return
	}
	n, errno := send(c.pair, b)
	if errno != 0 && errno != unix.EAGAIN {
		c.pairClosed()
		return
	}
	if n < len(b) {
		c.toPair = append([]byte(nil), b[n:]...)
		c.watchPair(true)
	}
}

// watchPair makes epoll report when the pair is writable. It is off otherwise,
// because the kernel would report it each time the daemon reads.
func (c *conn) watchPair(on bool) {
	if c.watchesPair == on {
		return
	}
	events := uint32(pairEvents)
	if on {
		events |= unix.EPOLLOUT
	}
	if err := c.loop.control(unix.EPOLL_CTL_MOD, c.pair, c.slot, c.gen|sidePair, events); err != nil {
		c.end(Internal, err.Error())
		return
	}
	c.watchesPair = on
}

// flushPair reports whether everything for the daemon is written.
func (c *conn) flushPair() bool {
	if len(c.toPair) == 0 {
		return true
	}
	n, errno := send(c.pair, c.toPair)
	switch {
	case errno == unix.EAGAIN:
		return false
	case errno != 0:
		c.pairClosed()
	case n < len(c.toPair):
		c.toPair = append([]byte(nil), c.toPair[n:]...)
		return false
	}
	c.toPair = nil
	c.watchPair(false)
	return !c.closed
}

// flushPeer reports whether everything for the peer is written.
func (c *conn) flushPeer() bool {
	if len(c.toPeer) == 0 {
		return true
	}
	n, errno := send(c.tcp, c.toPeer)
	switch {
	case errno == unix.EAGAIN:
		return false
	case errno != 0:
		c.failed(errno)
		return false
	case n < len(c.toPeer):
		c.toPeer = append([]byte(nil), c.toPeer[n:]...)
		return false
	}
	c.toPeer = nil
	return true
}

// moveOut moves some bytes from the daemon to the peer. It reports whether there
// may be more.
func (c *conn) moveOut() bool {
	if !c.pairBytes || c.pairEnd {
		return false
	}
	b := c.loop.buf
	n, errno := receive(c.pair, b)
	switch {
	case errno == unix.EAGAIN:
		c.pairBytes = false
		return false
	case errno != 0: // the daemon closed its end without reading everything
		c.pairClosed()
		c.pairEnd = true
		return false
	case n == 0:
		c.pairEnd = true
		return false
	case n < len(b) && !c.pairHup:
		c.pairBytes = false // an event will announce the next byte
	}
	if _, err := c.secured.Write(b[:n]); err != nil {
		c.failed(err)
		return false
	}
	return c.pairBytes
}

// passEnds passes on that a side has closed, once everything it sent is delivered.
func (c *conn) passEnds() {
	if c.peerEnd && len(c.toPair) == 0 && !c.inDone {
		shutdownWrite(c.pair)
		c.inDone = true
	}
	if c.pairEnd && !c.outDone {
		if !c.notified && len(c.toPeer) == 0 {
			c.notified = true
			_ = c.secured.CloseWrite()
		}
		if c.notified && len(c.toPeer) == 0 {
			if !c.inDone { // otherwise the close below informs the peer
				shutdownWrite(c.tcp)
			}
			c.outDone = true
			delete(c.loop.lingering, c)
		} else {
			c.loop.linger(c)
		}
	}
	if c.inDone && c.outDone {
		c.end(Closed, "")
	}
}

func (c *conn) resetByDaemon() {
	switch {
	case c.closed:
	case c.half != nil:
		c.half.abort(ResetByDaemon)
	default:
		c.end(ResetByDaemon, "")
	}
}

// end closes a connection whose handshake is done.
func (c *conn) end(reason Reason, text string) {
	if c.closed {
		return
	}
	c.release(&message{kind: kindEnded, id: c.id, ready: true, reason: reason, text: text})
}

// release informs the daemon and then closes the connection, so that the message usually
// arrives before the end of the stream.
func (c *conn) release(ended *message) {
	c.closed = true
	c.loop.remove(c)
	c.server.forget(c)
	c.server.sendToDaemon(ended)
	if ended.reason == ResetByDaemon {
		unix.SetsockoptLinger(int(c.tcp), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	closeFD(c.tcp)
	closeFD(c.pair)
	c.toPair, c.toPeer, c.secured = nil, nil, nil
	c.server.endIfEmpty()
}
