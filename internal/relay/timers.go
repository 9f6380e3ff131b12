package relay

import (
	"container/heap"
	"time"
)

// Timer is a function that the loop calls at a given time on its goroutine.
type Timer struct {
	at    time.Time
	index int // in the heap; -1 if the timer is not set
	f     func()
}

type timerHeap []*Timer

// times returns when the timers are due, in no particular order.
func (h timerHeap) times() []time.Time {
	var times []time.Time
	for _, t := range h {
		times = append(times, t.at)
	}
	return times
}

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index = i; h[j].index = j }
func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
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

// After makes the loop's goroutine call f after d. Only the loop's goroutine may call it.
func (c *core) After(d time.Duration, f func()) *Timer {
	t := &Timer{at: time.Now().Add(d), f: f}
	heap.Push(&c.timers, t)
	c.setAlarm()
	return t
}

// StopTimer cancels t if it is set. It is a no-op if t is nil. Only the loop's goroutine may call it.
func (c *core) StopTimer(t *Timer) {
	if t != nil && t.index >= 0 {
		heap.Remove(&c.timers, t.index)
	}
}

// runTimers calls the functions that were due when this round of events began, and sets the alarm for
// the next one. What became due during the round has to wait, because the bytes that it waits for may
// have arrived during the round, too.
func (c *core) runTimers() {
	if c.armed.IsZero() {
		return // no timer is set
	}
	now := c.Now()
	if !now.Before(c.armed) {
		c.armed = time.Time{}
	}
	for len(c.timers) > 0 && !now.Before(c.timers[0].at) {
		t := heap.Pop(&c.timers).(*Timer)
		t.f()
	}
	c.setAlarm()
}

// setAlarm makes sure that the loop wakes up for its first timer. It does no harm if the alarm fires
// too early, for a timer that has been stopped.
func (c *core) setAlarm() {
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
