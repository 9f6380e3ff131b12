package main

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// open makes failures until the breaker opens, and wants it to say so once.
func (b *breaker) open(t *testing.T) {
	t.Helper()
	for i := 1; i <= breakerFailures; i++ {
		probe, ok := b.allow()
		if probe || !ok {
			t.Fatalf("closed breaker after %d failures: probe=%v ok=%v", i-1, probe, ok)
		}
		if opened := b.failed(probe); opened != (i == breakerFailures) {
			t.Fatalf("failure %d: opened is %v", i, opened)
		}
	}
	wantBreaker(t, b, breakerOpen)
}

func wantBreaker(t *testing.T, b *breaker, want breakerState) {
	t.Helper()
	if got := b.state(); got != want {
		t.Fatalf("breaker is %s, want %s", got, want)
	}
}

// sleepUntilProbing wants the pause to be between least and most.
func (b *breaker) sleepUntilProbing(t *testing.T, least, most time.Duration) {
	t.Helper()
	wantBreaker(t, b, breakerOpen)
	began := time.Now()
	for b.state() == breakerOpen {
		if probe, ok := b.allow(); probe || ok {
			t.Fatal("an open breaker allows a dial")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < least-20*time.Millisecond || took > most+20*time.Millisecond {
		t.Errorf("pause of %v, want %v to %v", took, least, most)
	}
	wantBreaker(t, b, breakerProbing)
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(breaker)
		// Failures that are not in a row do not open it.
		for range 10 {
			b.failed(false)
			b.failed(false)
			if b.succeeded(false) {
				t.Fatal("a closed breaker was closed")
			}
		}
		b.open(t)
		b.sleepUntilProbing(t, breakerPauseFirst/2, 3*breakerPauseFirst/2)
		for i := range breakerProbes + 2 {
			if probe, ok := b.allow(); probe != (i < breakerProbes) || ok != probe {
				t.Fatalf("probe %d: probe=%v ok=%v", i, probe, ok)
			}
		}
		b.forget(true)
		if probe, ok := b.allow(); !probe || !ok {
			t.Fatal("a probe that was given up is not given to another")
		}
		b.forget(false) // of a dial from before
		if _, ok := b.allow(); ok {
			t.Fatal("a dial that was no probe gave one back")
		}
		if !b.succeeded(true) {
			t.Fatal("the first success does not say that it closed the breaker")
		}
		wantBreaker(t, b, breakerClosed)
		if b.succeeded(true) {
			t.Fatal("the second success says so too")
		}
		b.forget(true)
		for range 10 * breakerProbes {
			if probe, ok := b.allow(); probe || !ok {
				t.Fatalf("closed again: probe=%v ok=%v", probe, ok)
			}
		}
		if b.probes != 0 {
			t.Errorf("%d probes under way, none is", b.probes)
		}
	})
}

// Each failed probe makes the pause longer, up to a limit, and gives its place
// back.
func TestBreakerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(breaker)
		b.open(t)
		for pause := breakerPauseFirst; ; pause *= 2 {
			pause = min(pause, breakerPauseMost)
			b.sleepUntilProbing(t, pause/2, 3*pause/2)
			probes := 0
			for range 2 * breakerProbes {
				if probe, ok := b.allow(); probe && ok {
					probes++
				}
			}
			if probes != breakerProbes {
				t.Fatalf("%d probes after a pause of %v", probes, pause)
			}
			for range probes {
				if b.failed(true) {
					t.Error("a probe that failed is reported as if the breaker had been closed")
				}
			}
			if pause == breakerPauseMost {
				break
			}
		}
		// Three failures of one round count as one: the pause is not at its
		// most after two rounds. After a success it begins anew.
		b.sleepUntilProbing(t, breakerPauseMost/2, 3*breakerPauseMost/2)
		probe, _ := b.allow()
		b.succeeded(probe)
		b.open(t)
		b.sleepUntilProbing(t, breakerPauseFirst/2, 3*breakerPauseFirst/2)
	})
}

// A link that was begun before the breaker opened may still come up: that
// closes it for good, and the next outage is reported like the first.
func TestBreakerLateSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(breaker)
		b.open(t)
		if !b.succeeded(false) {
			t.Error("the success does not say that it closed the breaker")
		}
		wantBreaker(t, b, breakerClosed)
		b.open(t)
		b.sleepUntilProbing(t, breakerPauseFirst/2, 3*breakerPauseFirst/2)
		// Late failures of dials from before do not use up probes.
		for range 10 {
			b.failed(false)
		}
		wantBreaker(t, b, breakerOpen)
		b.sleepUntilProbing(t, breakerPauseFirst, 3*breakerPauseFirst)
	})
}

// Many sessions at once: never more probes than allowed, exactly one is told
// that it closed the breaker, and none is left over.
func TestBreakerRace(t *testing.T) {
	for range 50 {
		b := new(breaker)
		b.open(t)
		b.mu.Lock()
		b.until = time.Now()
		b.mu.Unlock()
		var probing, most, closed atomic.Int64
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range 64 {
			all.Go(func() {
				<-begin
				for round := range 20 {
					probe, ok := b.allow()
					if !ok {
						continue
					}
					if probe {
						n := probing.Add(1)
						for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
						}
						probing.Add(-1)
					}
					if (i+round)%3 == 0 {
						b.forget(probe)
					} else if b.succeeded(probe) {
						closed.Add(1)
					}
				}
			})
		}
		close(begin)
		all.Wait()
		if most.Load() > breakerProbes || closed.Load() != 1 || b.probes != 0 || b.state() != breakerClosed {
			t.Fatalf("at most %d probes, closed %d times, %d probes left, %s", most.Load(), closed.Load(), b.probes, b.state())
		}
	}
}

func TestPoolPicksAddressesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{}
		for _, text := range []string{"10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"} {
			a, err := newPoolAddress(text)
			if err != nil {
				t.Fatal(err)
			}
			p.addresses = append(p.addresses, a)
		}
		want := func(index int, wantProbe bool) {
			t.Helper()
			a, probe, ok := p.pick()
			if index < 0 {
				if ok {
					t.Fatalf("picked %s, want none", a.text)
				}
				return
			}
			if !ok || a != p.addresses[index] || probe != wantProbe {
				t.Fatalf("picked %+v probe=%v ok=%v, want %s probe=%v", a, probe, ok, p.addresses[index].text, wantProbe)
			}
		}
		want(0, false)
		want(0, false)
		p.addresses[0].breaker.open(t)
		want(1, false)
		p.addresses[1].breaker.open(t)
		want(2, false)
		p.addresses[2].breaker.open(t)
		want(-1, false)
		time.Sleep(2 * breakerPauseFirst) // all may be probed, the first one first
		for i := range p.addresses {
			for range breakerProbes {
				want(i, true)
			}
		}
		want(-1, false)
		// The last one is back: nobody waits for the others.
		p.addresses[2].breaker.succeeded(true)
		p.addresses[0].breaker.forget(true)
		want(2, false)
		p.addresses[0].breaker.succeeded(true)
		want(0, false)
	})
}

// The gate's rate: so many handshakes begin in a second, sub-accounts in turn,
// and tickets given back do not let more in.
func TestDialGateRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, large, small = 100, 300, 5
		g := newDialGate(1000, rate)
		began := time.Now()
		var mu sync.Mutex
		granted := make(map[string][]time.Duration)
		var all sync.WaitGroup
		begin := func(a *subAccount) {
			done := make(chan struct{})
			note := func() {
				mu.Lock()
				granted[a.name] = append(granted[a.name], time.Since(began))
				mu.Unlock()
				close(done)
			}
			ticket, held := g.acquire(a, note)
			if held {
				note()
			}
			all.Go(func() {
				<-done
				g.release(ticket)
			})
		}
		farm, user := &subAccount{name: "farm"}, &subAccount{name: "user"}
		for range large {
			begin(farm)
		}
		for range small {
			begin(user)
		}
		all.Wait()
		took := time.Since(began)
		if want := time.Duration(large+small) * time.Second / rate; took < want-100*time.Millisecond || took > want+time.Second {
			t.Errorf("%d tickets in %v at %d a second", large+small, took, rate)
		}
		if last := granted["user"][small-1]; last > 300*time.Millisecond {
			t.Errorf("the small sub-account has its last ticket after %v", last)
		}
		perSecond := 0
		for _, at := range granted["farm"] {
			if at < time.Second {
				perSecond++
			}
		}
		if perSecond > rate+int(rate*rateBurst)+1 {
			t.Errorf("%d tickets in the first second", perSecond)
		}
		wantIdleGate(t, g, 1000)
	})
}
