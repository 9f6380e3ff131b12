//go:build linux && !portable_relay

package relay

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/epoll"
)

// Handle is a connection that no loop owns yet: a non-blocking descriptor with close-on-exec set.
type Handle int

func (h Handle) Close() { rawClose(int(h)) }

// Loop owns an epoll descriptor and the sockets in it.
//
// The epoll descriptor itself is registered with Go's poller. The goroutine waits for it as for any
// other descriptor, so no thread is ever blocked in epoll_wait, and switching between loop and
// scheduler costs no system call.
//
// Sockets are watched edge-triggered, which saves the kernel from checking each reported socket
// again. In return, the loop has to read each socket until the kernel has nothing left for it. That is
// so when a read does not fill the buffer, unless the peer has hung up.
type Loop struct {
	core

	epoll  *os.File
	epfd   int
	wakefd int

	// The following fields belong to the loop's goroutine.

	sockets     []*Socket // by descriptor
	lastGen     uint32
	events      []unix.EpollEvent
	buf         []byte            // all reads go here
	again       []*Socket         // sockets whose owner gets the kept bytes again, or that are about to be closed
	unread      []*Socket         // sockets that may have more to read although no event will report it
	spareUnread []*Socket         // memory for the next unread
	stalled     map[*Socket]stall // sockets with bytes that wait for the peer
	failures    map[*Socket]error // why sockets are about to be closed
	stallT      *Timer
}

// NewLoop returns a loop that is not running yet. Close frees it.
func NewLoop(limits Limits) (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// os.NewFile registers only non-blocking descriptors with Go's poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("epoll descriptor: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &Loop{
		epoll:    os.NewFile(uintptr(epfd), "epoll"),
		epfd:     epfd,
		wakefd:   wakefd,
		events:   make([]unix.EpollEvent, 256),
		buf:      make([]byte, limits.Kept+ReadChunk),
		stalled:  make(map[*Socket]stall),
		failures: make(map[*Socket]error),
	}
	l.wake = l.writeWake
	l.limits, l.stallLimit, l.began = limits, writeTimeout, time.Now()
	if err := l.control(unix.EPOLL_CTL_ADD, int32(wakefd), 0, unix.EPOLLIN|unix.EPOLLET); err != nil {
		l.epoll.Close()
		unix.Close(wakefd)
		return nil, err
	}
	return l, nil
}

func (l *Loop) writeWake() {
	// Each write causes an event, so the count is never read.
	one := [8]byte{0: 1}
	rawWrite(l.wakefd, one[:])
}

// control calls epoll_ctl for a descriptor. gen is returned with its events.
func (l *Loop) control(op int, fd int32, gen, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: fd, Pad: int32(gen)}
	if err := unix.EpollCtl(l.epfd, op, int(fd), &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Close closes the sockets and frees the descriptors of a loop that is not running.
func (l *Loop) Close() {
	for _, s := range l.sockets {
		if s != nil {
			s.Close()
		}
	}
	if l.alarm != nil {
		l.alarm.Stop()
	}
	// The alarm may be firing at this moment and then writes to the wake descriptor, so that
	// descriptor stays open. The process ends soon anyway.
	l.epoll.Close()
}

func (l *Loop) run() {
	defer close(l.stopped)
	conn, err := l.epoll.SyscallConn()
	if err != nil {
		panic("relay: epoll descriptor without poller: " + err.Error())
	}
	l.BeginRound()
	l.runMail()
	l.finishEvent()
	behind := 1 // rounds since the timers last ran; one at the start, so that they run soon
	err = conn.Read(func(uintptr) bool {
		for round := 1; !l.stopping; round++ {
			if round == epoll.WatchRounds {
				epoll.KeepWatch()
			}
			n := epoll.Poll(l.epfd, l.events)
			if n == 0 && len(l.unread) == 0 && behind == 0 {
				return false
			}
			l.BeginRound()
			for i := range l.events[:n] {
				l.handle(&l.events[i])
				if len(l.again) > 0 {
					l.finishEvent()
				}
			}
			l.readUnread()
			// A process that was stopped finds overdue timers together with the bytes that
			// arrived meanwhile. The bytes are handled first, because most timers limit how
			// long to wait for some. The number of rounds is bounded, so that peers that never
			// stop sending cannot hold up the timers; all sockets have had a turn by then.
			if (n == len(l.events) || len(l.unread) > 0) && behind <= len(l.sockets)/len(l.events) {
				behind++
				continue
			}
			behind = 0
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

func (l *Loop) handle(ev *unix.EpollEvent) {
	if int(ev.Fd) == l.wakefd {
		l.runMail()
		return
	}
	s := l.sockets[ev.Fd]
	if s == nil || s.gen != uint32(ev.Pad) {
		return // the socket was closed earlier in this batch
	}
	if s.connecting {
		s.finishConnect(ev.Events)
		if s.closed {
			return
		}
	}
	if ev.Events&unix.EPOLLOUT != 0 && s.Congested() {
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
		s.lost(ErrPeerClosed)
	case s.paused:
		s.readable = s.readable || ev.Events&unix.EPOLLIN != 0
	case s.ending || ev.Events&unix.EPOLLIN != 0:
		s.read()
	}
}

// readUnread reads once more from the sockets whose last read may have left bytes in the kernel. It
// is called after all other sockets had their turn, so that no socket delays the others.
func (l *Loop) readUnread() {
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

// finishEvent passes kept bytes again to the owners of sockets that were resumed, and closes the
// sockets that failed during a call of an owner.
func (l *Loop) finishEvent() {
	for len(l.again) > 0 {
		s := l.again[0]
		l.again = l.again[1:]
		s.queued = false
		switch {
		case s.closed:
		case s.failed:
			s.lost(l.failures[s])
		case !s.paused && len(s.Unconsumed()) > 0:
			s.deliver(copy(l.buf, s.Unconsumed()))
		}
	}
	l.again = nil
}

// Adopt makes h a socket of this loop. After an error h is closed. Only the loop's goroutine may call
// it.
func (l *Loop) Adopt(h Handle, owner Owner) (*Socket, error) {
	s, err := l.add(int(h), owner, readEvents)
	if err != nil {
		h.Close()
	}
	return s, err
}

// readEvents are the events of a socket that is connected and for whose peer no bytes have ever waited.
const readEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// writeEvents are the events of all other sockets.
const writeEvents = readEvents | unix.EPOLLOUT

func (l *Loop) add(fd int, owner Owner, events uint32) (*Socket, error) {
	for fd >= len(l.sockets) {
		l.sockets = append(l.sockets, nil)
	}
	l.lastGen++
	s := &Socket{loop: l, owner: owner, fd: int32(fd), gen: l.lastGen, watchesOut: events == writeEvents}
	if err := l.control(unix.EPOLL_CTL_ADD, s.fd, s.gen, events); err != nil {
		return nil, err
	}
	l.sockets[fd] = s
	return s, nil
}

// Dial begins to connect to addr. Unless it returns an error, it calls the owner with the outcome
// later. Bytes that the owner writes before that are sent once the connection is established. Only
// the loop's goroutine may call Dial.
func (l *Loop) Dial(addr netip.AddrPort, owner Owner) (*Socket, error) {
	family := unix.AF_INET6
	if addr.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	SetSocketOptions(fd)
	if errno := rawConnect(fd, addr); errno != 0 && errno != unix.EINPROGRESS {
		rawClose(fd)
		return nil, fmt.Errorf("connect: %w", errno)
	}
	s, err := l.add(fd, owner, writeEvents)
	if err != nil {
		rawClose(fd)
		return nil, err
	}
	s.connecting = true
	return s, nil
}

// watchStall records that bytes wait for the socket's peer.
func (l *Loop) watchStall(s *Socket) {
	if _, ok := l.stalled[s]; !ok {
		now := l.Now()
		l.stalled[s] = stall{now, now}
	}
	if l.stallT == nil {
		l.stallT = l.After(min(stallCheck, l.stallLimit), l.checkStalled)
	}
}

// checkStalled closes the sockets whose bytes have waited for too long.
func (l *Loop) checkStalled() {
	l.stallT = nil
	now := l.Now()
	for s, st := range l.stalled {
		if now.Sub(st.stuck) >= l.stallLimit || now.Sub(st.congested) >= congestedLimit*l.stallLimit {
			s.fail(errWriteTimeout)
		}
	}
	if len(l.stalled) > 0 {
		l.stallT = l.After(min(stallCheck, l.stallLimit), l.checkStalled)
	}
}

// Held counts what the loop holds. Only the loop's goroutine may call it.
func (l *Loop) Held() Held {
	h := Held{Stalled: len(l.stalled), Timers: l.timers.times()}
	for _, s := range l.sockets {
		if s != nil {
			h.Sockets++
		}
	}
	return h
}

// Restore is Adopt for a descriptor of a former process. partial are the bytes that the former process
// had received and not consumed, and unsent those that it had not sent yet. After an error fd is
// closed. The loop must not be running.
func (l *Loop) Restore(fd int, owner Owner, partial, unsent []byte) (*Socket, error) {
	events := uint32(readEvents)
	if len(unsent) > 0 {
		events = writeEvents
	}
	s, err := l.add(fd, owner, events)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.keep(partial, unsent)
	s.bulk = len(unsent) > MaxUnsent
	if len(unsent) > 0 {
		l.watchStall(s)
	}
	if len(partial) > 0 {
		s.queue()
	}
	return s, nil
}
