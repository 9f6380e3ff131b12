package relay

import (
	"sync"
	"time"
)

// Limits bounds the memory that a loop uses for each of its sockets.
type Limits struct {
	Kept int // how many bytes the owner may leave unconsumed
	Bulk int // how many bytes more than MaxUnsent may wait after WriteBulk
}

// Held counts the sockets and timers of a loop, for tests that look for leaks.
type Held struct {
	Sockets int
	Stalled int         // sockets whose peer does not accept the bytes that wait for it
	Timers  []time.Time // when each timer is due
}

// core is the part of a loop that is the same on all systems: its timers, and the mailbox by which
// other goroutines reach it.
type core struct {
	// ResetCarried resets the connection that a carried socket represents. It becomes the owner of the
	// socket's descriptor and must close it only after the reset: if the descriptor is closed earlier,
	// the connection may end without a reset. ResetCarried must be set before the loop runs if the loop
	// may have carried sockets.
	ResetCarried func(s *Socket, h Handle)

	wake func() // makes the loop read its mailbox; any goroutine may call it

	stopped chan struct{} // closed once run has returned

	limits     Limits
	stallLimit time.Duration // writeTimeout, unless SetWriteTimeout has changed it

	// mu guards the following fields.
	mu     sync.Mutex
	mail   []func()
	waking bool // wake was called, and the mailbox has not been read since

	// The following fields belong to the loop's goroutine.

	began  time.Time     // when the loop was created; time.Since(began) takes half as long as time.Now
	age    time.Duration // the time since began at this round of events; zero before the first
	spare  []func()      // memory for the next mail
	timers timerHeap
	alarm  *time.Timer
	armed  time.Time // when the alarm will fire; zero if it is not set

	stopping bool // Stop was called
}

// Start runs the loop on a new goroutine. The loop must not be running.
func (l *Loop) Start() {
	l.stopping = false
	l.stopped = make(chan struct{})
	go l.run()
}

// Stop asks the loop to stop after the current event, and returns a channel that is closed when the
// loop has stopped. The state stays as it is, so Start continues from there. Stop is the only way to
// stop a loop.
func (l *Loop) Stop() <-chan struct{} {
	l.Post(func() { l.stopping = true })
	return l.stopped
}

// SetWriteTimeout changes how long a peer may accept nothing. It is for tests, which shorten it.
// Only the loop's goroutine may call it.
func (c *core) SetWriteTimeout(d time.Duration) { c.stallLimit = d }

// Post makes the loop's goroutine call f. Functions are called in the order in which they were
// posted. Any goroutine may call Post, which does not block.
func (c *core) Post(f func()) {
	c.mu.Lock()
	c.mail = append(c.mail, f)
	wake := !c.waking
	c.waking = true
	c.mu.Unlock()
	if wake {
		c.wake()
	}
}

// Call makes the loop's goroutine call f and waits until f returns. It must not be called from the
// loop itself, nor while the loop is stopped.
func (c *core) Call(f func()) {
	done := make(chan struct{})
	c.Post(func() { f(); close(done) })
	<-done
}

// Now returns the time at which this round of events began. All that arrived before has been handled,
// or is being handled in this round. It stays the same for the whole round, even if the process is
// stopped meanwhile. The result may only be compared with other times of this process, because it does
// not follow changes of the system's clock. Only the loop's goroutine may call it.
func (c *core) Now() time.Time { return c.began.Add(c.Age()) }

// Age is Now as the time since the loop was created, which is faster. Only the loop's goroutine may
// call it.
func (c *core) Age() time.Duration {
	if c.age == 0 {
		c.BeginRound()
	}
	return c.age
}

// BeginRound reads the clock for a round of events. It is called by the loop, and by benchmarks that
// replace a running loop.
func (c *core) BeginRound() { c.age = time.Since(c.began) }

// runMail calls the functions that were posted.
func (c *core) runMail() {
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
		mail = nil // frees the memory that a burst has used
	}
	c.spare = mail
}
