package hashrate

import (
	"testing"
	"time"
)

// BenchmarkShare measures all that is done for a share and its answer, which
// allocates nothing.
func BenchmarkShare(b *testing.B) {
	var l Link
	var account, pool Counter
	m := NewMiner(0)
	l.SetDifficulty(4096, 0)
	l.Job(0)
	now := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		now++
		m.Submit(now)
		account.Submit()
		pool.Submit()
		d := l.Difficulty(l.Latest())
		m.Accept(d, now)
		account.Accept(d)
		pool.Accept(d)
	}
	if m.Totals().Accepted == 0 {
		b.Fatal("nothing was counted")
	}
}

// BenchmarkCounts measures what would be done without this package: two counters of
// shares, submitted and accepted.
func BenchmarkCounts(b *testing.B) {
	var account, pool Counter
	for b.Loop() {
		account.submitted.Add(1)
		pool.submitted.Add(1)
		account.accepted.Add(1)
		pool.accepted.Add(1)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"difficulty", func() { ParseDifficulty([]byte("434873.25")) }},
		{"target", func() { FromEthereumTarget([]byte("0x0112e0be826d694b2e62d01511f12a6061fbaec8bc02357593e70e52ba")) }},
		{"refusal", func() { RefusalOf([]byte(`[25,"Not subscribed",null]`), nil) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.do()
			}
		})
	}
}

// BenchmarkAdvance measures advancing one sub-account's averages, which is done
// every ten seconds.
func BenchmarkAdvance(b *testing.B) {
	var c Counter
	a := NewAverages(0, c.Totals())
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 10 * time.Second
		c.Accept(4096)
		a.Advance(now, c.Totals())
	}
}

func TestSharesAllocateNothing(t *testing.T) {
	var l Link
	var c Counter
	var a AgentMiners
	m := NewMiner(0)
	l.SetDifficulty(4096, 0)
	a.SetDifficulties(agentMessage(12, 1), anyMiner, &l, 0)
	averages := NewAverages(0, c.Totals())
	now := uint32(0)
	if n := testing.AllocsPerRun(100, func() {
		now += 7
		g := l.Job(now)
		m.Submit(now)
		c.Submit()
		d := l.Difficulty(g)
		m.Accept(d, now)
		c.Accept(d)
		m.Refuse(RefusalStale)
		c.Refuse(a.Difficulty(1, g, &l, UnitBitcoin), RefusalStale)
		averages.Advance(time.Duration(now)*time.Second, c.Totals())
		l.Sweep(now, false)
	}); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
