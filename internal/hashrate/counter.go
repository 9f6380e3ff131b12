package hashrate

import (
	"math"
	"sync/atomic"
)

// Counter counts the shares of a coin's pool address or of a sub-account. Any
// goroutine may use it. The zero value is ready.
type Counter struct {
	submitted atomic.Uint64
	accepted  atomic.Uint64
	unknown   atomic.Uint64 // shares whose work or verdict is unknown
	refused   [Refusals]atomic.Uint64
	work      atomicSum // of the accepted shares, in units of difficulty
	lost      [Refusals]atomicSum
}

// Submit counts a share that is sent to a pool.
func (c *Counter) Submit() { c.submitted.Add(1) }

// Accept counts a share that a pool has accepted.
func (c *Counter) Accept(d Difficulty) {
	c.accepted.Add(1)
	if !d.Known() {
		c.unknown.Add(1)
		return
	}
	c.work.add(float64(d))
}

// Refuse counts a share that a pool has refused.
func (c *Counter) Refuse(d Difficulty, r Refusal) {
	c.refused[r].Add(1)
	if d.Known() {
		c.lost[r].add(float64(d))
	}
}

// Unanswered counts a share that no pool will accept or refuse.
func (c *Counter) Unanswered() { c.unknown.Add(1) }

// Totals are the counts of a Counter at one moment. Work is in units of
// difficulty, which are 2^32 hashes.
type Totals struct {
	Submitted, Accepted, Unknown uint64
	Refused                      [Refusals]uint64
	Work                         float64           // of the accepted shares of known difficulty
	Lost                         [Refusals]float64 // work of the refused shares
}

// Totals returns the present counts.
func (c *Counter) Totals() Totals {
	t := Totals{Submitted: c.submitted.Load(), Accepted: c.accepted.Load(), Unknown: c.unknown.Load(), Work: c.work.load()}
	for r := range Refusals {
		t.Refused[r], t.Lost[r] = c.refused[r].Load(), c.lost[r].load()
	}
	return t
}

// Plus returns the sums of t and o.
func (t Totals) Plus(o Totals) Totals {
	t.Submitted += o.Submitted
	t.Accepted += o.Accepted
	t.Unknown += o.Unknown
	t.Work += o.Work
	for r := range Refusals {
		t.Refused[r] += o.Refused[r]
		t.Lost[r] += o.Lost[r]
	}
	return t
}

// RefusedShares returns how many shares were refused, for any reason.
func (t Totals) RefusedShares() (n uint64) {
	for _, refused := range t.Refused {
		n += refused
	}
	return n
}

// LostWork returns the work of all refused shares.
func (t Totals) LostWork() (work float64) {
	for _, lost := range t.Lost {
		work += lost
	}
	return work
}

// atomicSum is a float64 to which any goroutine may add.
type atomicSum struct{ bits atomic.Uint64 }

func (s *atomicSum) load() float64 { return math.Float64frombits(s.bits.Load()) }

func (s *atomicSum) add(v float64) {
	for {
		old := s.bits.Load()
		if s.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}
