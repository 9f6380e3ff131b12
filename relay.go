package main

import (
	"container/heap"
	"errors"
	"sync"
	"time"
)

// The relay is a small set of event loops. Each socket belongs to one loop for
// its whole life, and everything about it happens on that loop's goroutine:
// reading, writing, its owner's reactions and its timers. So neither sockets
// nor the sessions that own them need locks.
//
// This file holds what the loops of all systems share; relay_linux.go has the
// loop on epoll, relay_other.go the one on goroutines.

const (
	// readChunk is the most that one read takes from a socket.
	readChunk = 64 << 10

	// maxUnsent bounds what may wait for a peer that does not take it. Owners
	// stop reading the other side as soon as something waits, so that this is
	// reached only by answers of the switcher itself.
	maxUnsent = 1 << 20

	// maxBulk is how much more may wait after writeBulk.
	maxBulk = maxRegistered

	// writeTimeout is how long a peer may take nothing of what waits for it.
	writeTimeout = 30 * time.Second

	// congestedLimit is how many write timeouts a peer may take something, but
	// never all. It bounds how long one that reads a byte now and then is kept.
	congestedLimit = 10

	// stallCheck is how often sockets with waiting bytes are looked at.
	stallCheck = 5 * time.Second
)

var (
	errPeerClosed   = errors.New("closed by the peer")
	errWriteTimeout = errors.New("the peer takes no data")
	errUnsentLimit  = errors.New("too much data waits for the peer")
	errLineTooLong  = errors.New("line too long")
)

// writeBulk is write for what is long and known beforehand, maxBulk at most.
func (s *socket) writeBulk(b []byte) {
	s.bulk = true
	s.write(b)
	s.bulk = len(s.unsent) > 0
}

// takes says that so many bytes more may wait for the peer.
func (s *socket) takes(n int) bool {
	if s.bulk {
		n -= maxBulk
	}
	return len(s.unsent)+n <= maxUnsent
}

// backlog is how many bytes wait for the peer.
func (s *socket) backlog() int { return len(s.unsent) }

// socketOwner is told what happens on its sockets. All calls come from the
// goroutine of the socket's loop.
type socketOwner interface {
	// socketConnected reports the outcome of a dial. After an error the
	// socket is closed already.
	socketConnected(s *socket, err error)

	// socketReceived gives all unconsumed bytes of the socket and returns how
	// many of them it consumed. The rest is kept and given again, with what
	// follows, at the next read or after resume. b is valid during the call.
	socketReceived(s *socket, b []byte) int

	// socketDrained says that all bytes that were waiting have been written.
	socketDrained(s *socket)

	// socketClosed says that the connection is gone. The socket is closed
	// already. It is not called for a close by the owner.
	socketClosed(s *socket, err error)
}

// loopTimer is a function to be called on the loop's goroutine at a time.
type loopTimer struct {
	at    time.Time
	index int // in the heap, -1 when not set
	f     func()
}

type timerHeap []*loopTimer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index = i; h[j].index = j }
func (h *timerHeap) Push(x any) {
	t := x.(*loopTimer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}

// relayCore is the part of a loop that is the same on all systems: the mailbox
// by which other goroutines reach it, and its timers.
type relayCore struct {
	wake func() // makes the loop look at its mailbox; any goroutine

	// Bytes that sessions took from either side. Loop only.
	fromMiners, fromPools uint64

	stallLimit time.Duration // writeTimeout; less in tests

	mu     sync.Mutex
	mail   []func()
	waking bool // wake was called and the mailbox not looked at since

	// The loop's goroutine only:

	readAt  int64    // what time returned, for one round of events; 0: not asked yet
	scratch []byte   // for lines that owners put together; not kept by write
	spare   []func() // the mailbox's other half
	timers  timerHeap
	alarm   *time.Timer
	armed   time.Time // what the alarm is set to; zero if it is not
}

// post has f called on the loop's goroutine, in the order of the calls. Any
// goroutine may call it; it does not block.
func (c *relayCore) post(f func()) {
	c.mu.Lock()
	c.mail = append(c.mail, f)
	wake := !c.waking
	c.waking = true
	c.mu.Unlock()
	if wake {
		c.wake()
	}
}

// call has f called on the loop's goroutine and waits for it. It must not be
// called from the loop itself, nor while the loop is stopped.
func (c *relayCore) call(f func()) {
	done := make(chan struct{})
	c.post(func() { f(); close(done) })
	<-done
}

// time is about when the events came that are being handled, in Unix
// nanoseconds. Loop only.
func (c *relayCore) time() int64 {
	if c.readAt == 0 {
		c.readAt = time.Now().UnixNano()
	}
	return c.readAt
}

// runMail calls what was posted.
func (c *relayCore) runMail() {
	c.mu.Lock()
	mail := c.mail
	c.mail = c.spare[:0]
	c.waking = false
	c.mu.Unlock()
	for i, f := range mail {
		mail[i] = nil
		f()
	}
	if cap(mail) > 4096 {
		mail = nil // after a burst, give the memory back
	}
	c.spare = mail
}

// after has f called on the loop's goroutine when d has passed. Loop only.
func (c *relayCore) after(d time.Duration, f func()) *loopTimer {
	t := &loopTimer{at: time.Now().Add(d), f: f}
	heap.Push(&c.timers, t)
	c.setAlarm()
	return t
}

// stopTimer cancels t if it is set. It takes nil. Loop only.
func (c *relayCore) stopTimer(t *loopTimer) {
	if t != nil && t.index >= 0 {
		heap.Remove(&c.timers, t.index)
	}
}

// runTimers calls what is due and sets the alarm for the next.
func (c *relayCore) runTimers() {
	if c.armed.IsZero() {
		return // no timer is set
	}
	now := time.Now()
	if !now.Before(c.armed) {
		c.armed = time.Time{}
	}
	for len(c.timers) > 0 && !now.Before(c.timers[0].at) {
		t := heap.Pop(&c.timers).(*loopTimer)
		t.f()
	}
	c.setAlarm()
}

// setAlarm sees that the loop wakes for its first timer. An alarm that rings
// too early, for a timer stopped meanwhile, is harmless.
func (c *relayCore) setAlarm() {
	if len(c.timers) == 0 {
		return
	}
	at := c.timers[0].at
	if !c.armed.IsZero() && !at.Before(c.armed) {
		return
	}
	c.armed = at
	if c.alarm == nil {
		c.alarm = time.AfterFunc(time.Until(at), c.wake)
	} else {
		c.alarm.Reset(time.Until(at))
	}
}
