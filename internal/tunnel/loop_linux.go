package tunnel

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/epoll"
)

const (
	// lingerTime is how long a peer may take to read the rest of what the daemon
	// wrote before it closed.
	lingerTime = 30 * time.Second

	// lingerCheck is how often lingerTime is checked.
	lingerCheck = 5 * time.Second

	// chunk is how many bytes one read takes at most. It is the size of a TLS record.
	chunk = 16 << 10
)

// loop owns the connections that were assigned to it. Its goroutine does everything for
// them except their handshakes, which have goroutines of their own.
//
// Its buffer serves all its connections. A connection that waits for bytes has
// no goroutine, and no buffer except the one of crypto/tls.
type loop struct {
	server *server
	epoll  *os.File // registered with Go's poller, so that no thread waits in epoll_wait
	epfd   int
	wakefd int

	mu     sync.Mutex
	mail   []func()
	waking bool

	// The following fields belong to the loop's goroutine.

	slots     []*conn // by the slot in an event
	free      []int32
	lastGen   uint32
	events    []unix.EpollEvent
	buf       []byte
	unread    []*conn             // connections that have more to do although no event will report it
	lingering map[*conn]time.Time // since when each connection lingers
	alarmed   bool                // a call of checkLingering is due
}

func newLoop(s *server) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		return nil, fmt.Errorf("epoll descriptor: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{
		server: s, epoll: os.NewFile(uintptr(epfd), "epoll"), epfd: epfd, wakefd: wakefd,
		events: make([]unix.EpollEvent, 128), buf: make([]byte, chunk), lingering: make(map[*conn]time.Time),
	}
	return l, l.control(unix.EPOLL_CTL_ADD, int32(wakefd), -1, 0, unix.EPOLLIN|unix.EPOLLET)
}

// control calls epoll_ctl for a descriptor. Its events will carry the slot and the mark,
// which consists of the connection's generation and the side.
func (l *loop) control(op int, fd, slot int32, mark, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: slot, Pad: int32(mark)}
	if err := unix.EpollCtl(l.epfd, op, int(fd), &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// post makes the loop's goroutine call f. It does not block.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.mail = append(l.mail, f)
	wake := !l.waking
	l.waking = true
	l.mu.Unlock()
	if wake {
		ring(l.wakefd) // each write causes an event, so the count is never read
	}
}

func (l *loop) runMail() {
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	l.waking = false
	l.mu.Unlock()
	for _, f := range mail {
		f()
	}
}

func (l *loop) run() {
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		panic("tunnel: epoll descriptor without poller: " + err.Error())
	}
	l.runMail()
	err = raw.Read(func(uintptr) bool {
		for round := 1; ; round++ {
			if round == epoll.WatchRounds {
				epoll.KeepWatch()
			}
			n := epoll.Poll(l.epfd, l.events)
			if n == 0 && len(l.unread) == 0 {
				return false
			}
			for i := range l.events[:n] {
				l.handle(&l.events[i])
			}
			if len(l.unread) > 0 {
				again := l.unread
				l.unread = nil
				for _, c := range again {
					c.queued = false
					c.pump()
				}
			}
		}
	})
	panic("tunnel: waiting for events: " + err.Error())
}

func (l *loop) handle(ev *unix.EpollEvent) {
	if ev.Fd < 0 {
		l.runMail()
		return
	}
	c := l.slots[ev.Fd]
	if mark := uint32(ev.Pad); c != nil && c.gen == mark&^sidePair {
		c.event(ev.Events, mark&sidePair != 0)
	}
}

// sidePair distinguishes the pair's events from the peer's in an event's mark.
const sidePair = 1

// add makes the loop receive the events of both sides of a connection.
func (l *loop) add(c *conn) error {
	if n := len(l.free); n > 0 {
		c.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c.slot = int32(len(l.slots))
		l.slots = append(l.slots, nil)
	}
	l.lastGen += 2
	c.gen = l.lastGen
	l.slots[c.slot] = c
	// EPOLLOUT costs nothing here, because TCP reports free space only after a write
	// that found none.
	if err := l.control(unix.EPOLL_CTL_ADD, c.tcp, c.slot, c.gen, peerEvents); err != nil {
		return err
	}
	return l.control(unix.EPOLL_CTL_ADD, c.pair, c.slot, c.gen|sidePair, pairEvents)
}

const (
	pairEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	peerEvents = pairEvents | unix.EPOLLOUT
)

func (l *loop) remove(c *conn) {
	if l.slots[c.slot] == c {
		l.slots[c.slot] = nil
		l.free = append(l.free, c.slot)
	}
	delete(l.lingering, c)
}

// linger records a connection that the daemon has closed and that still has bytes for the
// peer.
func (l *loop) linger(c *conn) {
	if _, ok := l.lingering[c]; ok {
		return
	}
	l.lingering[c] = time.Now()
	l.setAlarm()
}

func (l *loop) setAlarm() {
	if !l.alarmed {
		l.alarmed = true
		time.AfterFunc(lingerCheck, func() { l.post(l.checkLingering) })
	}
}

func (l *loop) checkLingering() {
	l.alarmed = false
	for c, since := range l.lingering {
		if time.Since(since) > lingerTime {
			c.end(Reset, "the peer takes no data")
		}
	}
	if len(l.lingering) > 0 {
		l.setAlarm()
	}
}
