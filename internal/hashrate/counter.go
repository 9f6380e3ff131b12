package hashrate

import (
	"math"
	"runtime"
	"sync/atomic"
)

// Counter counts the shares of a coin's pool address or of a sub-account. Any
// goroutine may use it. The zero value is ready.
//
// Each answer to a share of a usual difficulty changes one variable, because sessions
// on several processors count for the same pool.
type Counter struct {
	submitted  atomic.Uint64
	unanswered atomic.Uint64
	unknown    atomic.Uint64 // accepted shares of unknown difficulty

	// The other accepted shares. recent has the latest of those with a whole
	// difficulty below maxRecent: their number in its lowest recentBits, and their
	// work above these. When recent is half full, its content moves to accepted and
	// work. moving is odd meanwhile, so that nobody reads half of it.
	recent   atomic.Uint64
	moving   atomic.Uint64
	accepted atomic.Uint64
	work     atomicSum // in units of difficulty

	refusals atomic.Pointer[refusals] // nil until the first refusal
}

// refusals counts refused shares.
type refusals struct {
	shares [Refusals]atomic.Uint64
	lost   [Refusals]atomicSum
}

const (
	recentBits = 20
	maxRecent  = 1 << 24

	// recentHalfFull has the highest bit of both parts of Counter.recent. The other half
	// has room for half a million shares of any difficulty below maxRecent, which other
	// goroutines may count before the content is moved.
	recentHalfFull = 1<<(recentBits-1) | 1<<63
)

// Submit counts a share that is sent to a pool.
func (c *Counter) Submit() { c.submitted.Add(1) }

// Accept counts a share that a pool has accepted.
func (c *Counter) Accept(d Difficulty) {
	whole := int32(d)
	if Difficulty(whole) != d || whole <= 0 || whole >= maxRecent {
		c.acceptUnusual(d)
		return
	}
	if c.recent.Add(uint64(whole)<<recentBits|1)&recentHalfFull != 0 {
		c.moveRecent()
	}
}

// acceptUnusual is Accept for difficulties that recent has no room for.
func (c *Counter) acceptUnusual(d Difficulty) {
	if !d.Known() {
		c.unknown.Add(1)
		return
	}
	c.accepted.Add(1)
	c.work.add(float64(d))
}

// moveRecent makes recent zero, unless another goroutine is doing that.
func (c *Counter) moveRecent() {
	turn := c.moving.Load()
	if turn%2 != 0 || !c.moving.CompareAndSwap(turn, turn+1) {
		return
	}
	shares, work := splitRecent(c.recent.Swap(0))
	c.accepted.Add(shares)
	c.work.add(work)
	c.moving.Add(1)
}

func splitRecent(recent uint64) (shares uint64, work float64) {
	return recent & (1<<recentBits - 1), float64(recent >> recentBits)
}

// acceptedShares returns the number and the work of the accepted shares of known
// difficulty.
func (c *Counter) acceptedShares() (shares uint64, work float64) {
	for {
		turn := c.moving.Load()
		shares, work = splitRecent(c.recent.Load())
		shares, work = shares+c.accepted.Load(), work+c.work.load()
		if turn%2 == 0 && c.moving.Load() == turn {
			return shares, work
		}
		runtime.Gosched() // recent is being moved, which takes some nanoseconds
	}
}

// Refuse counts a share that a pool has refused.
func (c *Counter) Refuse(d Difficulty, r Refusal) {
	of := c.refusals.Load()
	if of == nil {
		c.refusals.CompareAndSwap(nil, new(refusals))
		of = c.refusals.Load()
	}
	of.shares[r].Add(1)
	if d.Known() {
		of.lost[r].add(float64(d))
	}
}

// Unanswered counts a share that no pool will accept or refuse.
func (c *Counter) Unanswered() { c.unanswered.Add(1) }

// Totals are the counts of a Counter at one moment. Work is in units of
// difficulty, which are 2^32 hashes.
type Totals struct {
	Submitted, Accepted uint64
	Unknown             uint64 // shares whose work or verdict is unknown
	Refused             [Refusals]uint64
	Work                float64           // of the accepted shares of known difficulty
	Lost                [Refusals]float64 // work of the refused shares
}

// Totals returns the present counts.
func (c *Counter) Totals() (t Totals) {
	unknown := c.unknown.Load()
	t.Accepted, t.Work = c.acceptedShares()
	t.Accepted += unknown
	t.Unknown = unknown + c.unanswered.Load()
	t.Submitted = c.submitted.Load()
	if of := c.refusals.Load(); of != nil {
		for r := range Refusals {
			t.Refused[r], t.Lost[r] = of.shares[r].Load(), of.lost[r].load()
		}
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
