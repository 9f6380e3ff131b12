package hashrate

import (
	"math"
	"sync"
	"testing"
	"time"
	"unsafe"
)

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		what       string
		size, most uintptr
	}{
		{"Miner", unsafe.Sizeof(Miner{}), 56},
		{"Averages", unsafe.Sizeof(Averages{}), 328},
		{"Chart", unsafe.Sizeof(Chart{}), 1184},
		{"Counter", unsafe.Sizeof(Counter{}), 64},
		{"refusals", unsafe.Sizeof(refusals{}), 80},
	} {
		if c.size > c.most {
			t.Errorf("%s takes %d bytes, want at most %d", c.what, c.size, c.most)
		}
	}
}

// Whoever reads a counter finds the work of exactly those shares that are counted, also while
// the latest shares are moved to the sums.
func TestCounterIsConsistentForReaders(t *testing.T) {
	const writers, shares = 4, 1 << 14
	const d = maxRecent - 1 // fills the work of recent most quickly
	var c Counter
	c.recent.Store((1<<43/d - 100) * (d<<recentBits | 1)) // soon half full
	before := c.Totals()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range shares {
				c.Accept(d)
			}
		})
	}
	last := before
	for last.Accepted < before.Accepted+writers*shares {
		now := c.Totals()
		if now.Work != float64(now.Accepted)*d {
			t.Fatalf("the work is %v, want %v for %d shares", now.Work, float64(now.Accepted)*d, now.Accepted)
		}
		if now.Accepted < last.Accepted {
			t.Fatalf("%d shares became %d", last.Accepted, now.Accepted)
		}
		last = now
	}
	all.Wait()
	if got := c.Totals(); got.Accepted != before.Accepted+writers*shares {
		t.Errorf("got %d shares, want %d", got.Accepted, before.Accepted+writers*shares)
	}
	if c.accepted.Load() == 0 {
		t.Error("nothing was moved, so the test has tested nothing")
	}
}

// Both parts of recent move in time, whether there are many shares or difficult ones.
func TestCounterMovesRecentShares(t *testing.T) {
	for _, c := range []struct {
		what       string
		difficulty Difficulty
		shares     int
	}{
		{"many shares", 1, 3 << (recentBits - 1)},
		{"the largest difficulty in recent", maxRecent - 1, 3 << (recentBits - 1)},
		{"the smallest beyond it", maxRecent, 10},
		{"a fraction", 0.5, 10},
		{"a large fraction", 434873.25, 10},
		{"the smallest of all", minDifficulty, 10},
		{"the largest of all", maxDifficulty, 10},
	} {
		var counter Counter
		for range c.shares {
			counter.Accept(c.difficulty)
		}
		want := Totals{Accepted: uint64(c.shares), Work: float64(c.shares) * float64(c.difficulty)}
		if got := counter.Totals(); got != want {
			t.Errorf("%s: got %+v, want %+v", c.what, got, want)
		}
	}
}

func TestCounterFromManyGoroutines(t *testing.T) {
	var c Counter
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				c.Submit()
				c.Accept(2)
				c.Refuse(3, RefusalStale)
				c.Accept(Unknown)
				c.Unanswered()
			}
		})
	}
	all.Wait()
	want := Totals{Submitted: 4000, Accepted: 8000, Unknown: 8000, Work: 8000}
	want.Refused[RefusalStale], want.Lost[RefusalStale] = 4000, 12000
	if got := c.Totals(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// What is unknown is not zero, neither for a miner nor over the windows that
// contain it.
func TestUnknownIsNotZero(t *testing.T) {
	m := NewMiner(0)
	if got := m.Average(60); got.Knowledge != FullyKnown || got.PerSecond != 0 {
		t.Errorf("a miner without shares has %v", got)
	}
	m.Unanswered()
	if got := m.Recent(60); got.Knowledge != NotKnown {
		t.Errorf("a miner of whose shares nothing is known has %v", got)
	}
	m.Accept(1024, 60)
	if got := m.Average(60); got.Knowledge != PartlyKnown || got.PerSecond == 0 {
		t.Errorf("a miner of which something is known has %v", got)
	}

	var c Counter
	a := NewAverages(0, c.Totals())
	c.Accept(Unknown)
	a.Advance(10*time.Second, c.Totals())
	for w := range Windows {
		if got := a.Rate(w); got.Knowledge != NotKnown {
			t.Errorf("%s: unexpected average %v", w, got)
		}
	}
	c.Accept(1024)
	a.Advance(20*time.Second, c.Totals())
	a.Advance(2*time.Minute, c.Totals())
	for w, want := range []Knowledge{FullyKnown, PartlyKnown, PartlyKnown, PartlyKnown} {
		if got := a.Rate(Window(w)); got.Knowledge != want {
			t.Errorf("%s, after two minutes: %v counts as %s, want %s", Window(w), got, got.Knowledge, want)
		}
	}
}

func TestLostInMinute(t *testing.T) {
	var c Counter
	a := NewAverages(0, c.Totals())
	for i := 1; i <= 30; i++ {
		c.Refuse(100, RefusalOther)
		a.Advance(time.Duration(i)*10*time.Second, c.Totals())
	}
	if got := a.LostInMinute(); got != 600 {
		t.Errorf("got %v of 600", got)
	}
	a.Advance(10*time.Minute, c.Totals())
	if got := a.LostInMinute(); got != 0 {
		t.Errorf("got %v after five minutes without any", got)
	}
}

// Whatever the times are, no bucket outside the ring is used.
func TestAveragesTakeAnyTime(t *testing.T) {
	var c Counter
	a := NewAverages(1000*time.Hour, c.Totals())
	chart := NewChart(1000*time.Hour, c.Totals())
	for _, now := range []time.Duration{0, 1000 * time.Hour, 1000 * time.Hour, 1000*time.Hour + 1, 5000 * time.Hour, 4000 * time.Hour, math.MaxInt64 / 2, math.MaxInt64/2 + time.Hour} {
		c.Accept(1000)
		a.Advance(now, c.Totals())
		chart.Advance(now, c.Totals())
		for w := range Windows {
			if got := a.Rate(w).PerSecond; !(got >= 0 && got < math.MaxFloat64) {
				t.Errorf("at %v, %s: got %v", now, w, got)
			}
		}
		chart.Points()
	}
	// Ten shares in an endless time are not much, and nothing is counted twice.
	if got := a.Rate(Day).PerSecond * Day.Length().Seconds() / (1 << 32); got > 8000 {
		t.Errorf("got work %v, want 8000", got)
	}
}

func FuzzStates(f *testing.F) {
	a := NewAverages(0, Totals{})
	f.Add(int64(0), int64(5), int64(7), a.State().Buckets, 1.5, uint32(7))
	f.Fuzz(func(t *testing.T, began, then, now int64, buckets []byte, work float64, age uint32) {
		now = max(0, now)
		past := time.Duration(then)
		st := AveragesState{time.Duration(began), past, &past, buckets}
		chart := ChartState{time.Duration(began), past, buckets}
		a, c := st.Averages(time.Duration(now), Totals{}), chart.Chart(time.Duration(now), Totals{})
		m := (&MinerState{Work: work, Recent: work, Age: age, Last: age}).Miner(7)
		if now < math.MaxInt64/4 {
			a.Advance(time.Duration(now)+time.Minute, Totals{Work: 1})
			c.Advance(time.Duration(now)+time.Minute, Totals{Work: 1})
		}
		c.Points()
		for w := range Windows {
			if got := a.Rate(w).PerSecond; !(got >= 0) {
				t.Fatalf("%s: %v", w, got)
			}
		}
		for _, got := range []Rate{m.Average(9), m.Recent(9)} {
			if !(got.PerSecond >= 0) {
				t.Fatalf("miner: %v", got)
			}
		}
	})
}
