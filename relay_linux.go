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
//
// Sockets are watched edge-triggered: the kernel need not look again at each
// that was reported. In return each is read until the kernel has nothing left
// for it, which a read that is not filled and no hang-up tell.
type loop struct {
	relayCore

	epoll   *os.File
	epfd    int
	wakefd  int
	stopped chan struct{} // closed when run has returned

	// The loop's goroutine only:

	sockets     []*socket // by descriptor
	lastGen     uint32
	events      []unix.EpollEvent
	buf         []byte    // all reads go here
	again       []*socket // to be given their kept bytes again, or closed
	unread      []*socket // may have more to read, though no event will tell
	spareUnread []*socket // unread's other half
	stalled     map[*socket]stall
	stallT      *loopTimer
	stop        bool
}

// socket is one TCP connection. It belongs to one loop, and only that loop's
// goroutine may touch it. Whoever calls close, the owner or the loop after an
// error, does so once; both may do it.
type socket struct {
	loop  *loop
	owner socketOwner

	fd  int32
	gen uint32 // tells this socket's events from those of a former one with the same fd

	connecting bool
	closed     bool
	paused     bool
	hangup     bool // while paused, a hang-up of the peer is still reported
	broken     bool // a write failed; the read side will tell why
	queued     bool // in loop.again
	waiting    bool // in loop.unread
	readable   bool // bytes came while paused
	ending     bool // the peer has closed; what it sent before is still read
	watchesOut bool // epoll tells when the peer takes more
	bulk       bool // since writeBulk something has waited
	failure    error

	partial []byte // received, not consumed by the owner
	unsent  []byte // written by the owner, not taken by the peer
}

// stall is since when bytes have waited for a peer.
type stall struct {
	congested time.Time // since then some have
	stuck     time.Time // since then it has taken none
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
		stalled: make(map[*socket]stall),
	}
	l.wake = l.writeWake
	l.stallLimit = writeTimeout
	if err := l.control(unix.EPOLL_CTL_ADD, int32(wakefd), 0, unix.EPOLLIN|unix.EPOLLET); err != nil {
		l.epoll.Close()
		unix.Close(wakefd)
		return nil, err
	}
	return l, nil
}

func (l *loop) writeWake() {
	// Each write is an edge; the count is never read.
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
	l.runMail()
	l.runTimers()
	l.finishEvent()
	err = conn.Read(func(uintptr) bool {
		for !l.stop {
			n := epollPoll(l.epfd, l.events)
			if n == 0 && len(l.unread) == 0 {
				return false
			}
			l.readAt = 0
			for i := range l.events[:n] {
				l.handle(&l.events[i])
				if len(l.again) > 0 {
					l.finishEvent()
				}
			}
			l.readUnread()
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
		l.runMail()
		return
	}
	s := l.sockets[ev.Fd]
	if s == nil || s.gen != uint32(ev.Pad) {
		return // closed earlier in this batch
	}
	if s.connecting {
		s.finishConnect(ev.Events)
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
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.ending = true
	}
	switch {
	case s.paused && (s.ending && s.hangup || ev.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0):
		s.lost(errPeerClosed)
	case s.paused:
		s.readable = s.readable || ev.Events&unix.EPOLLIN != 0
	case s.ending || ev.Events&unix.EPOLLIN != 0:
		s.read()
	}
}

// readUnread reads once more from the sockets whose last read did not end at
// what the kernel had: after the others' turn, so that none holds up the rest.
func (l *loop) readUnread() {
	if len(l.unread) == 0 {
		return
	}
	sockets := l.unread
	l.unread = l.spareUnread[:0]
	for i, s := range sockets {
		sockets[i] = nil
		s.waiting = false
		switch {
		case s.closed:
		case s.paused:
			s.readable = true
		default:
			s.read()
		}
		if len(l.again) > 0 {
			l.finishEvent()
		}
	}
	l.spareUnread = sockets
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
	s, err := l.add(int(h), owner, readEvents)
	if err != nil {
		h.close()
	}
	return s, err
}

// readEvents is what a socket that is read from is watched for.
const readEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// writeEvents is added once there is something that waits for the peer.
const writeEvents = readEvents | unix.EPOLLOUT

func (l *loop) add(fd int, owner socketOwner, events uint32) (*socket, error) {
	for fd >= len(l.sockets) {
		l.sockets = append(l.sockets, nil)
	}
	l.lastGen++
	s := &socket{loop: l, owner: owner, fd: int32(fd), gen: l.lastGen, watchesOut: events == writeEvents}
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
	s, err := l.add(fd, owner, writeEvents)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.connecting = true
	return s, nil
}

func (l *loop) watchStall(s *socket) {
	if _, ok := l.stalled[s]; !ok {
		now := time.Now()
		l.stalled[s] = stall{now, now}
	}
	if l.stallT == nil {
		l.stallT = l.after(min(stallCheck, l.stallLimit), l.checkStalled)
	}
}

func (l *loop) checkStalled() {
	l.stallT = nil
	now := time.Now()
	for s, st := range l.stalled {
		if now.Sub(st.stuck) >= l.stallLimit || now.Sub(st.congested) >= congestedLimit*l.stallLimit {
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
	events := uint32(readEvents)
	if len(unsent) > 0 {
		events = writeEvents
	}
	s, err := l.add(fd, owner, events)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.partial, s.unsent, s.bulk = partial, unsent, len(unsent) > maxUnsent
	if len(unsent) > 0 {
		l.watchStall(s)
	}
	if len(partial) > 0 {
		s.queue()
	}
	return s, nil
}
