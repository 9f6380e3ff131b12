//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// socketHandle is a connection that no loop owns yet: a non-blocking
// descriptor with close-on-exec set.
type socketHandle int

func (h socketHandle) close() { unix.Close(int(h)) }

// loop owns an epoll descriptor and the sockets in it.
//
// The epoll descriptor itself is parked in Go's poller: the goroutine waits
// for it like for any other descriptor, so no thread is ever blocked in
// epoll_wait, and switching between loop and scheduler costs no system call.
type loop struct {
	relayCore

	epoll   *os.File
	epfd    int
	wakefd  int
	stopped chan struct{} // closed when run has returned

	// The loop's goroutine only:

	sockets []*socket // by descriptor
	lastGen uint32
	events  []unix.EpollEvent
	buf     []byte    // all reads go here
	again   []*socket // to be given their kept bytes again, or closed
	stalled map[*socket]time.Time
	stallT  *loopTimer
	stop    bool
}

// socket is one TCP connection. It belongs to one loop, and only that loop's
// goroutine may touch it. Whoever calls close, the owner or the loop after an
// error, does so once; both may do it.
type socket struct {
	loop  *loop
	owner socketOwner

	fd     int32
	gen    uint32 // tells this socket's events from those of a former one with the same fd
	events uint32 // what epoll was told

	connecting bool
	closed     bool
	paused     bool
	hangup     bool // while paused, a hang-up of the peer is still reported
	broken     bool // a write failed; the read side will tell why
	queued     bool // in loop.again
	failure    error

	partial []byte // received, not consumed by the owner
	unsent  []byte // written by the owner, not taken by the peer
}

func newLoop() (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// Without O_NONBLOCK os.NewFile would not hand it to Go's poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("epoll descriptor: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{
		epoll:   os.NewFile(uintptr(epfd), "epoll"),
		epfd:    epfd,
		wakefd:  wakefd,
		events:  make([]unix.EpollEvent, 256),
		buf:     make([]byte, maxPoolLine+readChunk),
		stalled: make(map[*socket]time.Time),
	}
	l.wake = l.writeWake
	l.stallLimit = writeTimeout
	if err := l.control(unix.EPOLL_CTL_ADD, int32(wakefd), 0, unix.EPOLLIN); err != nil {
		l.epoll.Close()
		unix.Close(wakefd)
		return nil, err
	}
	return l, nil
}

func (l *loop) writeWake() {
	one := [8]byte{0: 1}
	unix.Write(l.wakefd, one[:])
}

func (l *loop) control(op int, fd int32, gen, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: fd, Pad: int32(gen)}
	if err := unix.EpollCtl(l.epfd, op, int(fd), &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// start runs the loop on a goroutine of its own.
func (l *loop) start() {
	l.stop = false
	l.stopped = make(chan struct{})
	go l.run()
}

// freeze stops the loop after the event it is at and waits for that. All state
// stays as it is, and start goes on with it.
func (l *loop) freeze() {
	l.post(func() { l.stop = true })
	<-l.stopped
}

// close frees the descriptors of a loop that is not running.
func (l *loop) close() {
	for _, s := range l.sockets {
		if s != nil {
			s.close()
		}
	}
	if l.alarm != nil {
		l.alarm.Stop()
	}
	// An alarm that rings at this moment may still write to the wake
	// descriptor; it stays open for the process's short remaining life.
	l.epoll.Close()
}

func (l *loop) run() {
	defer close(l.stopped)
	conn, err := l.epoll.SyscallConn()
	if err != nil {
		panic("relay: epoll descriptor without poller: " + err.Error())
	}
	// Go's poller is edge-triggered: "not ready" may only be said after an
	// epoll_wait that gave nothing.
	l.runMail()
	l.runTimers()
	l.finishEvent()
	err = conn.Read(func(uintptr) bool {
		for !l.stop {
			n := epollPoll(l.epfd, l.events)
			if n == 0 {
				return false
			}
			for i := range l.events[:n] {
				l.handle(&l.events[i])
				if len(l.again) > 0 {
					l.finishEvent()
				}
			}
			l.runTimers()
			if len(l.again) > 0 {
				l.finishEvent()
			}
		}
		return true
	})
	if err != nil {
		panic("relay: waiting for events: " + err.Error())
	}
}

func (l *loop) handle(ev *unix.EpollEvent) {
	if int(ev.Fd) == l.wakefd {
		var count [8]byte
		rawRead(l.wakefd, count[:])
		l.runMail()
		return
	}
	s := l.sockets[ev.Fd]
	if s == nil || s.gen != uint32(ev.Pad) {
		return // closed earlier in this batch
	}
	if s.connecting {
		s.finishConnect()
		if s.closed {
			return
		}
	}
	if ev.Events&unix.EPOLLOUT != 0 && len(s.unsent) > 0 {
		s.flush()
		if s.closed {
			return
		}
	}
	if s.paused {
		if ev.Events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 {
			s.lost(errPeerClosed)
		}
		return
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.read()
	}
}

// finishEvent gives kept bytes again to sockets that were resumed, and ends
// those that failed while their owner was at work.
func (l *loop) finishEvent() {
	for len(l.again) > 0 {
		s := l.again[0]
		l.again = l.again[1:]
		s.queued = false
		switch {
		case s.closed:
		case s.failure != nil:
			s.lost(s.failure)
		case !s.paused && len(s.partial) > 0:
			s.deliver(copy(l.buf, s.partial))
		}
	}
	l.again = nil
}

// adopt makes h a socket of this loop. bytes received and not yet consumed,
// or written and not yet taken, may come along.
func (l *loop) adopt(h socketHandle, owner socketOwner) (*socket, error) {
	s, err := l.add(int(h), owner, unix.EPOLLIN)
	if err != nil {
		h.close()
	}
	return s, err
}

func (l *loop) add(fd int, owner socketOwner, events uint32) (*socket, error) {
	for fd >= len(l.sockets) {
		l.sockets = append(l.sockets, nil)
	}
	l.lastGen++
	s := &socket{loop: l, owner: owner, fd: int32(fd), gen: l.lastGen, events: events}
	if err := l.control(unix.EPOLL_CTL_ADD, s.fd, s.gen, events); err != nil {
		return nil, err
	}
	l.sockets[fd] = s
	return s, nil
}

// dial begins to connect to addr. The owner hears of the outcome; what it
// writes before is sent when the connection stands.
func (l *loop) dial(addr netip.AddrPort, owner socketOwner) (*socket, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	setSocketOptions(fd)
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, fmt.Errorf("connect: %w", err)
	}
	s, err := l.add(fd, owner, unix.EPOLLIN|unix.EPOLLOUT)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.connecting = true
	return s, nil
}

func (s *socket) finishConnect() {
	code, err := unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
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
	case errno == unix.EAGAIN || errno == unix.EINTR:
	case errno != 0:
		s.lost(errno)
	case n == 0:
		s.lost(errPeerClosed)
	default:
		s.deliver(kept + n)
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

// write sends b, or keeps what the peer does not take for later. b is not kept.
func (s *socket) write(b []byte) {
	if s.closed || s.broken || len(b) == 0 {
		return
	}
	if len(s.unsent) == 0 && !s.connecting {
		n, errno := rawWrite(int(s.fd), b)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
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
	if len(s.unsent)+len(b) > maxUnsent {
		s.fail(errUnsentLimit)
		return
	}
	s.unsent = append(s.unsent, b...)
	if !s.connecting {
		s.loop.watchStall(s)
		s.update()
	}
}

func (s *socket) flush() {
	if len(s.unsent) == 0 {
		s.update()
		return
	}
	n, errno := rawWrite(int(s.fd), s.unsent)
	if errno != 0 {
		if errno != unix.EAGAIN && errno != unix.EINTR {
			s.broken = true
			s.unsent = nil
			s.update()
			return
		}
		n = 0
	}
	if n < len(s.unsent) {
		if n > 0 {
			s.unsent = append([]byte(nil), s.unsent[n:]...)
			delete(s.loop.stalled, s)
		}
		s.loop.watchStall(s)
		s.update()
		return
	}
	s.unsent = nil
	delete(s.loop.stalled, s)
	s.update()
	s.owner.socketDrained(s)
}

// congested says that the peer has not taken all that was written.
func (s *socket) congested() bool { return len(s.unsent) > 0 }

// pause stops reading. With hangup, the peer's closing is still reported,
// and unread bytes are then lost.
func (s *socket) pause(hangup bool) {
	if !s.closed {
		s.paused, s.hangup = true, hangup
		s.update()
	}
}

// resume reads again. Bytes that were kept are given to the owner soon, not
// during this call.
func (s *socket) resume() {
	if s.closed || !s.paused {
		return
	}
	s.paused = false
	s.update()
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

// update tells epoll what is of interest, if that changed.
func (s *socket) update() {
	if s.closed {
		return
	}
	var events uint32
	switch {
	case !s.paused:
		events = unix.EPOLLIN
	case s.hangup:
		events = unix.EPOLLRDHUP
	}
	if s.connecting || len(s.unsent) > 0 && !s.broken {
		events |= unix.EPOLLOUT
	}
	if events != s.events {
		s.events = events
		if err := s.loop.control(unix.EPOLL_CTL_MOD, s.fd, s.gen, events); err != nil {
			s.fail(err)
		}
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

func (l *loop) watchStall(s *socket) {
	if _, ok := l.stalled[s]; !ok {
		l.stalled[s] = time.Now()
	}
	if l.stallT == nil {
		l.stallT = l.after(min(stallCheck, l.stallLimit), l.checkStalled)
	}
}

func (l *loop) checkStalled() {
	l.stallT = nil
	for s, since := range l.stalled {
		if time.Since(since) >= l.stallLimit {
			s.fail(errWriteTimeout)
		}
	}
	if len(l.stalled) > 0 {
		l.stallT = l.after(min(stallCheck, l.stallLimit), l.checkStalled)
	}
}

// restore is adopt for a descriptor that comes from a former process, with the
// bytes that process had received and not passed on, or not yet sent. The
// loop must not be running.
func (l *loop) restore(fd int, owner socketOwner, partial, unsent []byte) (*socket, error) {
	events := uint32(unix.EPOLLIN)
	if len(unsent) > 0 {
		events |= unix.EPOLLOUT
	}
	s, err := l.add(fd, owner, events)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.partial, s.unsent = partial, unsent
	if len(unsent) > 0 {
		l.watchStall(s)
	}
	if len(partial) > 0 {
		s.queue()
	}
	return s, nil
}
