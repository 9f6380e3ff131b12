package relay

import (
	"sync"
	"time"
)

// Limits bounds what a loop holds for each of its sockets.
type Limits struct {
	Kept int // bytes the owner leaves unconsumed
	Bulk int // bytes that may wait after WriteBulk, beyond MaxUnsent
}

// Held counts what a loop holds, for tests that look for leaks.
type Held struct {
	Sockets int
	Stalled int         // sockets whose peer does not take the bytes that wait for it
	Timers  []time.Time // when each timer that is set is due
}

// core is the part of a loop that is the same on all systems: its timers, and the mailbox by which
// other goroutines reach it.
type core struct {
	// ResetCarried has the connection that a carried socket stands for reset. It owns the socket's
	// descriptor from then on, and closes it when that is done: closed earlier, the connection may end
	// in order instead. It is set before the loop runs, if there are to be such sockets.
	ResetCarried func(s *Socket, h Handle)

	wake func() // makes the loop look at its mailbox; any goroutine may call it

	limits     Limits
	stallLimit time.Duration // writeTimeout, unless SetWriteTimeout has changed it

	// mu guards the following fields.
	mu     sync.Mutex
	mail   []func()
	waking bool // wake was called, and the mailbox has not been looked at since

	// The following fields belong to the loop's goroutine.

	began  time.Time     // what passed is counted from here: that takes half as long as reading the time
	passed time.Duration // until this round of events
	asked  bool          // passed is of this round
	spare  []func()      // the mailbox's other half
	timers timerHeap
	alarm  *time.Timer
	armed  time.Time // when the alarm is set to ring; zero if it is not set
}

// SetWriteTimeout changes how long a peer may take nothing. It is for tests, which shorten it.
// Loop goroutine only.
func (c *core) SetWriteTimeout(d time.Duration) { c.stallLimit = d }

// Post has f called on the loop's goroutine, in the order of the calls. Any goroutine may call it;
// it does not block.
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

// Call has f called on the loop's goroutine and waits until it returns. It must not be called from
// the loop itself, nor while the loop is stopped.
func (c *core) Call(f func()) {
	done := make(chan struct{})
	c.Post(func() { f(); close(done) })
	<-done
}

// Now is about when the events that are being handled arrived. It reads the clock once per round of
// events. It is for comparing with other times of this process only: it does not notice when
// somebody sets the clock. It must be called on the loop's goroutine.
func (c *core) Now() time.Time { return c.began.Add(c.Age()) }

// Age is Now as the time since the loop was made, which costs less. Loop goroutine only.
func (c *core) Age() time.Duration {
	if !c.asked {
		c.askAge()
	}
	return c.passed
}

func (c *core) askAge() { c.passed, c.asked = time.Since(c.began), true }

// BeginRound begins a round of events, for which Now reads the clock anew. The loop calls it; so do
// benchmarks that stand in for a loop that is not running.
func (c *core) BeginRound() { c.asked = false }

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
		mail = nil // gives the memory of a burst back
	}
	c.spare = mail
}
