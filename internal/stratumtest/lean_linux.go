package stratumtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LeanPool and LeanFleet are the two sides of a load test. Each serves all its
// connections in one thread and parses only the parts of a line that it needs, so that
// the program under test is the bottleneck. Unlike Pool and Miner, they do not check
// proof of work. They do check that shares are answered in order, and that a pool
// receives only shares for its own jobs.

// leanPeer handles a connection of a leanLoop. The argument of line excludes the line
// end and is valid only during the call.
type leanPeer interface {
	conn() *leanConn
	line(line []byte)
	ended()
}

// leanConn is a connection of a leanLoop. It belongs to the loop's goroutine.
type leanConn struct {
	fd     int
	rest   []byte // an incomplete line
	unsent []byte // bytes that the socket did not accept yet
}

func (c *leanConn) conn() *leanConn { return c }

// write sends the bytes that the socket accepts now, and the rest when it accepts more.
// It ignores a broken connection, because the next read reports it.
func (c *leanConn) write(b []byte) {
	if len(c.unsent) == 0 {
		n, err := unix.Write(c.fd, b)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			return
		}
		b = b[max(n, 0):]
	}
	c.unsent = append(c.unsent, b...)
}

func (c *leanConn) flush() {
	b := c.unsent
	c.unsent = nil
	c.write(b)
}

// leanLoop serves connections in one goroutine and passes each received line to the
// connection's peer.
type leanLoop struct {
	epoll, listener, stop int
	accept                func(fd int) // called for each accepted connection if the loop listens
	tick                  func(now time.Time)
	peers                 []leanPeer // by descriptor
	buffer                []byte
	wg                    sync.WaitGroup
	once                  sync.Once
}

// leanTick is the interval at which a loop calls its tick.
const leanTick = time.Millisecond

func newLeanLoop() (*leanLoop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &leanLoop{epoll: epoll, listener: -1, buffer: make([]byte, 256<<10)}
	if l.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = l.watch(l.stop, unix.EPOLLIN)
	}
	if err != nil {
		unix.Close(epoll)
		return nil, err
	}
	return l, nil
}

// listen opens a free port of 127.0.0.1. The loop calls accept for each connection to it
// once that connection has sent something.
func (l *leanLoop) listen(accept func(fd int)) (netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	l.listener, l.accept = fd, accept
	for _, step := range []func() error{
		func() error { return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}) },
		func() error { return unix.Listen(fd, 4096) },
		func() error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5) },
		func() error { return l.watch(fd, unix.EPOLLIN) },
	} {
		if err := step(); err != nil {
			return netip.AddrPort{}, err
		}
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	in4, ok := at.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("listener has address %v", at)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)), nil
}

func (l *leanLoop) watch(fd int, events uint32) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// add makes the loop own a connection. It must not belong to another loop.
func (l *leanLoop) add(p leanPeer) error {
	fd := p.conn().fd
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := l.watch(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET); err != nil {
		return err
	}
	if missing := fd + 1 - len(l.peers); missing > 0 {
		l.peers = append(l.peers, make([]leanPeer, missing)...)
	}
	l.peers[fd] = p
	return nil
}

// start runs the loop in a goroutine, which owns the loop from then on.
func (l *leanLoop) start() { l.wg.Go(l.serve) }

// close stops the loop and closes all connections.
func (l *leanLoop) close() {
	l.once.Do(func() {
		unix.Write(l.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		l.wg.Wait()
		for fd, p := range l.peers {
			if p != nil {
				unix.Close(fd)
			}
		}
		for _, fd := range []int{l.listener, l.epoll, l.stop} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	})
}

func (l *leanLoop) serve() {
	events := make([]unix.EpollEvent, 1024)
	wait := -1
	if l.tick != nil {
		wait = int(leanTick / time.Millisecond)
	}
	ticked := time.Now()
	for {
		n, err := unix.EpollWait(l.epoll, events, wait)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("epoll_wait: %v", err)) // this can only be a bug in the loop
		}
		for i := range events[:max(n, 0)] {
			switch fd := int(events[i].Fd); fd {
			case l.stop:
				return
			case l.listener:
				l.acceptAll()
			default:
				l.serveConn(fd, events[i].Events)
			}
		}
		if l.tick != nil {
			if now := time.Now(); now.Sub(ticked) >= leanTick {
				ticked = now
				l.tick(now)
			}
		}
	}
}

func (l *leanLoop) acceptAll() {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		l.accept(fd)
	}
}

func (l *leanLoop) serveConn(fd int, events uint32) {
	p := l.peers[fd]
	if p == nil {
		return
	}
	c := p.conn()
	if events&unix.EPOLLOUT != 0 && len(c.unsent) > 0 {
		c.flush()
	}
	for hangup := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0; ; {
		n, err := unix.Read(fd, l.buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case n <= 0:
			l.peers[fd] = nil
			unix.Close(fd)
			p.ended()
			return
		}
		c.split(p, l.buffer[:n])
		if n < len(l.buffer) && !hangup {
			return // epoll will report further bytes
		}
	}
}

// split passes all complete lines to the peer.
func (c *leanConn) split(p leanPeer, b []byte) {
	if len(c.rest) > 0 {
		b = append(c.rest, b...)
		c.rest = nil
	}
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		p.line(b[:i])
		b = b[i+1:]
	}
	if len(b) > 0 {
		c.rest = bytes.Clone(b)
	}
}

// leanID returns the ID of a request or an answer that begins with one, and otherwise
// nil.
func leanID(line []byte) []byte {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	i := bytes.IndexByte(rest, ',')
	if !ok || i < 0 {
		return nil
	}
	return rest[:i]
}

// leanParam returns the n-th parameter of a line, or nil if there is none. All parameters
// up to it must be strings without escapes.
func leanParam(line []byte, n int) []byte {
	_, rest, ok := bytes.Cut(line, []byte(`"params":["`))
	for ; ok && n > 0; n-- {
		_, rest, ok = bytes.Cut(rest, []byte(`","`))
	}
	i := bytes.IndexByte(rest, '"')
	if !ok || i < 0 {
		return nil
	}
	return rest[:i]
}
