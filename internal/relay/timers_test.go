package relay

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestRelayTimers(t *testing.T) {
	b := newRelayBench(t)
	var order []string
	done := make(chan struct{})
	b.Call(func() {
		note := func(name string) func() { return func() { order = append(order, name) } }
		b.After(600*time.Millisecond, func() { note("600")(); close(done) })
		b.After(500*time.Millisecond, note("500"))
		var late *Timer
		b.After(time.Millisecond, func() {
			note("1")()
			b.StopTimer(late)
			b.After(0, note("1+0"))
			b.After(4*time.Millisecond, note("1+4"))
		})
		late = b.After(400*time.Millisecond, note("stopped by another"))
		stopped := b.After(2*time.Millisecond, note("stopped"))
		b.StopTimer(stopped)
		b.StopTimer(stopped)
		b.StopTimer(nil)
		b.After(-time.Second, note("-"))
	})
	select {
	case <-done:
	case <-time.After(testWait):
		t.Fatal("timers do not fire")
	}
	b.Call(func() {
		if want := []string{"-", "1", "1+0", "1+4", "500", "600"}; !slices.Equal(order, want) {
			t.Errorf("the timers fired as %q, want %q", order, want)
		}
		if len(b.timers) != 0 {
			t.Errorf("%d timers are left", len(b.timers))
		}
		fired := b.After(0, func() {})
		b.BeginRound()
		b.runTimers()
		b.StopTimer(fired) // it no longer has an effect
	})
}

// Any number of timers fire in order, however they are stopped.
func TestRelayTimersRandom(t *testing.T) {
	b := newRelayBench(t)
	const n = 2000
	var fired []time.Time
	stopped, left := make(map[int]bool), 0
	done := make(chan struct{})
	b.Call(func() {
		timers := make([]*Timer, n)
		for i := range timers {
			timers[i] = b.After(rand.N(50*time.Millisecond), func() {
				if stopped[i] {
					t.Errorf("timer %d fired although it was stopped", i)
				}
				fired = append(fired, timers[i].at)
				if left--; left == 0 {
					close(done)
				}
			})
		}
		for range n / 2 {
			i := rand.N(n)
			b.StopTimer(timers[i])
			stopped[i] = true
		}
		left = n - len(stopped)
	})
	select {
	case <-done:
	case <-time.After(testWait):
		t.Fatal("not all timers fire")
	}
	b.Call(func() {
		if !slices.IsSortedFunc(fired, time.Time.Compare) {
			t.Error("timers fired out of order")
		}
	})
}

// The alarm of a timer that was stopped meanwhile must not be mistaken for one that
// is still to ring.
func TestRelayTimerAfterStoppedOne(t *testing.T) {
	rung := make(chan struct{}, 10)
	c := &core{began: time.Now(), wake: func() { rung <- struct{}{} }}
	wantRing := func() {
		t.Helper()
		select {
		case <-rung:
		case <-time.After(testWait):
			t.Fatal("the alarm does not ring")
		}
	}
	c.StopTimer(c.After(time.Millisecond, func() { t.Error("fired") }))
	wantRing()
	c.BeginRound()
	c.runTimers()
	fired := false
	c.After(time.Millisecond, func() { fired = true })
	wantRing()
	c.BeginRound()
	c.runTimers()
	if !fired {
		t.Error("the timer did not fire")
	}
}

func TestRelayPostFromManyGoroutines(t *testing.T) {
	b := newRelayBench(t)
	const senders, posts = 16, 500
	next := make([]int, senders) // belongs to the loop
	total := 0
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			for n := range posts {
				b.Post(func() {
					if next[i] != n {
						t.Errorf("sender %d: post %d came as number %d", i, n, next[i])
					}
					next[i]++
					total++
					if n%100 == 0 {
						b.Post(func() { total++ }) // from the loop itself
					}
				})
				if n%50 == 0 {
					b.Call(func() {})
				}
			}
		})
	}
	all.Wait()
	b.Call(func() {})
	b.Call(func() {
		if want := senders * (posts + posts/100); total != want {
			t.Errorf("got %d calls, want %d", total, want)
		}
	})
}

// A frozen loop does nothing, loses nothing, and goes on where it was.
func TestRelayFreezeAndStart(t *testing.T) {
	b := newRelayBench(t)
	o := newRecorder()
	o.take = func(_ *Socket, p []byte) int {
		o.note("%s", p)
		return bytes.LastIndexByte(p, '\n') + 1
	}
	s, peer := b.adopted(o)
	for round := range 5 {
		send(t, peer, "half ")
		o.want(t, "half ")
		b.Call(func() { b.After(time.Millisecond, func() { o.note("timer") }) })
		if round > 0 {
			o.want(t, "timer")
		}
		<-b.Stop()
		for len(o.events) > 0 {
			<-o.events // the timer's, if it was quick
		}
		// Nobody else is in the loop now, so its state may be read.
		if string(s.Unconsumed()) != "half " || s.closed {
			t.Fatalf("partial line %q, closed %v", s.Unconsumed(), s.closed)
		}
		send(t, peer, "whole\n")
		posted := false
		b.Post(func() { posted = true })
		b.After(5*time.Millisecond, func() { o.note("frozen timer") })
		if posted || len(o.events) > 0 {
			t.Fatalf("while frozen, a posted function ran: %v, and there were %d events", posted, len(o.events))
		}
		b.Start()
		b.Call(func() {
			if !posted {
				t.Error("a post was lost")
			}
		})
		want := map[string]bool{"frozen timer": true, "half whole\n": true}
		for len(want) > 0 {
			select {
			case e := <-o.events:
				if !want[e] && e != "timer" {
					t.Fatalf("unexpected event %q", e)
				}
				delete(want, e)
			case <-time.After(testWait):
				t.Fatalf("there are no %v after the start", want)
			}
		}
		b.Call(func() { s.Write([]byte("answer")) })
		wantRead(t, peer, "answer")
		for len(o.events) > 0 {
			<-o.events
		}
	}
}
