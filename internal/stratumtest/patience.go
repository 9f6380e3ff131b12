package stratumtest

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// On a machine that is busy with other work, a test that gets a tenth of the processor
// needs ten times as long. Its limits would either be too short there, or so long that
// they prove nothing on a quiet machine. So they count only the time in which the process
// could run. A goroutine sleeps for patienceStep again and again. A sleep that takes much
// longer shows that the process, or the goroutine, had to wait for its turn, and counts as
// patienceMost.
const (
	patienceStep = 2 * time.Millisecond
	patienceMost = 3 * time.Millisecond
	// patienceLimit limits how many times longer a wait can become.
	patienceLimit = 12
)

// runClock measures for how long the process could run, while somebody waits.
type runClock struct {
	mu      sync.Mutex
	ran     time.Duration // since the process began, without times in which nobody waited
	waiting patientWaits
	running bool // whether the goroutine that counts exists
}

// patientWait is one wait with a limit.
type patientWait struct {
	until time.Duration // as ran
	last  time.Time     // end of the wait in any case, once it is the next to end
	end   context.CancelCauseFunc
	at    int // position in the heap, or -1
}

// patientWaits is a heap in which the wait that ends next is the first.
type patientWaits []*patientWait

func (h patientWaits) Len() int           { return len(h) }
func (h patientWaits) Less(i, j int) bool { return h[i].until < h[j].until }
func (h patientWaits) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *patientWaits) Push(w any) {
	w.(*patientWait).at = len(*h)
	*h = append(*h, w.(*patientWait))
}

func (h *patientWaits) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last], *h, w.at = nil, (*h)[:last], -1
	return w
}

var runs runClock

// patientContext ends with the error of a context whose deadline is exceeded.
type patientContext struct{ context.Context }

func (c patientContext) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	return context.Cause(c.Context)
}

// WithPatience is context.WithTimeout for tests: only time in which the process could run
// counts, so the context ends later on a busy machine.
func WithPatience(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(parent)
	stop := runs.wait(d, end)
	return patientContext{ctx}, func() { stop(); end(nil) }
}

// wait calls end when the process could run for d, unless stop is called before.
func (c *runClock) wait(d time.Duration, end context.CancelCauseFunc) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The step that is being counted may have begun before this wait.
	w := &patientWait{until: c.ran + d + patienceMost, last: time.Now().Add(patienceLimit * d), end: end}
	heap.Push(&c.waiting, w)
	if !c.running {
		c.running = true
		go c.run()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if w.at >= 0 {
			heap.Remove(&c.waiting, w.at)
		}
	}
}

// run counts until nobody waits any more.
func (c *runClock) run() {
	for last, waited := time.Now(), true; waited; {
		time.Sleep(patienceStep)
		now := time.Now()
		waited = c.step(min(now.Sub(last), patienceMost), now)
		last = now
	}
}

// step adds d to the time that counts, and reports whether anybody still waits.
func (c *runClock) step(d time.Duration, now time.Time) (waited bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran += d
	for len(c.waiting) > 0 {
		w := c.waiting[0]
		if c.ran < w.until && now.Before(w.last) {
			break
		}
		heap.Pop(&c.waiting)
		w.end(context.DeadlineExceeded)
	}
	c.running = len(c.waiting) > 0
	return c.running
}
