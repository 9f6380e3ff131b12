package stratumtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LeanPool and LeanFleet are the lean sides of a load test. Each is one thread that
// waits for all its connections and reads no more of a line than it needs, so that
// the load is limited by what is tested. Unlike Pool and Miner, they do not check
// the work of shares. They do check that every share is answered, in order, and
// that a pool gets only shares for its own jobs.

// leanPeer is the handler of a leanLoop's connection. A line is valid during the
// call, and does not include its end.
type leanPeer interface {
	conn() *leanConn
	line(line []byte)
	ended()
}

// leanConn is a connection of a leanLoop. It belongs to the loop's goroutine.
type leanConn struct {
	fd     int
	rest   []byte // an incomplete line
	unsent []byte // what the socket did not accept
}

func (c *leanConn) conn() *leanConn { return c }

// write sends what the socket accepts, and the rest when it accepts more. A broken
// connection is noticed by reading.
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

// leanLoop waits for connections and passes what they receive to their peers.
type leanLoop struct {
	epoll, listener, stop int
	accept                func(fd int) // of the listener, if there is one
	tick                  func(now time.Time)
	peers                 []leanPeer // by descriptor
	buffer                []byte
	wg                    sync.WaitGroup
	once                  sync.Once
}

// leanTick is how often a loop calls its tick.
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

// listen makes the loop call accept for each connection to a free port of
// 127.0.0.1, once that connection has sent something.
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

// add takes over a connection that does not belong to a loop yet.
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

// start begins to serve. Before that, the caller may use the loop.
func (l *leanLoop) start() { l.wg.Go(l.serve) }

// close ends the loop and all connections.
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
			panic(fmt.Sprintf("epoll_wait: %v", err)) // the loop's own mistake
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
			return // an edge will report more
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

// leanID returns the id at the beginning of a request or an answer, or nil if there
// is none.
func leanID(line []byte) []byte {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	i := bytes.IndexByte(rest, ',')
	if !ok || i < 0 {
		return nil
	}
	return rest[:i]
}

// leanParam returns a parameter of a line whose previous parameters are all plain
// texts, or nil if there is none.
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
