package stratumtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// FleetOptions describes a fleet.
type FleetOptions struct {
	N               int
	Addr            string
	WorkerName      func(i int) string // default "fleet.<i>"
	SharesPerSecond float64            // of all miners together; 0 means none
	Dialers         int                // how many miners connect at a time; default 32
	Miner           MinerOptions       // everything else, such as CheatHash
}

// Fleet is many miners with one clock for their shares. Each has a goroutine that
// reads. Close ends all goroutines.
type Fleet struct {
	opts   FleetOptions
	watch  watch
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	rate   atomic.Int64 // shares per 1000 s
	behind atomic.Int64

	// Latency is the time from each submit to its answer.
	Latency Latency

	mu     sync.Mutex // guards the following fields
	miners []*Miner
	errs   []error
}

// FleetStats adds up the miners' statistics.
type FleetStats struct {
	Miners         int // how many have connected
	DialErrors     int
	Authorized     int
	Refused        int
	Disconnected   int
	Submitted      uint64
	Accepted       uint64
	Rejected       uint64
	RejectedByCode map[int]uint64
	Unanswered     uint64
	OutOfOrder     uint64
	Doubled        uint64
	Unknown        uint64
	Jobs           uint64
	CleanJobs      uint64
	Switches       uint64
	ByPool         map[string]int // connected miners by the pool of their present job
	Violations     uint64
	SomeViolations []string // the first few
	Missed         int64    // shares that could not be submitted for lack of a job or a connection
}

// NewFleet starts the miners; it does not wait for them.
func NewFleet(opts FleetOptions) *Fleet {
	if opts.WorkerName == nil {
		opts.WorkerName = func(i int) string { return fmt.Sprintf("fleet.%d", i) }
	}
	if opts.Dialers <= 0 {
		opts.Dialers = 32
	}
	f := &Fleet{opts: opts}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.SetRate(opts.SharesPerSecond)
	var next atomic.Int64
	for range min(opts.Dialers, opts.N) {
		f.wg.Add(1)
		go f.dialLoop(&next)
	}
	f.wg.Add(1)
	go f.paceLoop()
	return f
}

// SetRate changes the shares per second of all miners together. After SetRate(0)
// has returned, connected miners submit no more shares by themselves, not even late
// ones.
func (f *Fleet) SetRate(sharesPerSecond float64) {
	f.rate.Store(int64(sharesPerSecond * 1000))
	f.each(func(m *Miner) { m.silent = sharesPerSecond == 0 })
}

// Close drops all miners and waits for their goroutines.
func (f *Fleet) Close() {
	f.cancel()
	f.wg.Wait()
	for _, m := range f.Miners() {
		m.Close()
	}
}

// Miners returns the miners that have connected so far.
func (f *Fleet) Miners() []*Miner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Miner(nil), f.miners...)
}

// DialErrors returns why miners could not connect.
func (f *Fleet) DialErrors() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.errs...)
}

// WaitAuthorized waits until all N miners are authorized. It returns early if a
// miner cannot be.
func (f *Fleet) WaitAuthorized(ctx context.Context) error {
	var authorized, failed int
	err := f.watch.wait(ctx, func() bool {
		authorized, failed = 0, len(f.DialErrors())
		f.each(func(m *Miner) {
			switch s := &m.stats; {
			case s.Authorized:
				authorized++
			case s.AuthorizeError != "" || s.Disconnected:
				failed++
			}
		})
		return authorized+failed >= f.opts.N
	})
	if err != nil || failed > 0 {
		return fmt.Errorf("fleet: %d of %d authorized, %d failed: %v", authorized, f.opts.N, failed, err)
	}
	return nil
}

// WaitPool waits until the present job of all connected miners is from one pool.
// last is when the last of them got its first job from it.
func (f *Fleet) WaitPool(ctx context.Context, pool string) (last time.Time, err error) {
	var there, all int
	err = f.watch.wait(ctx, func() bool {
		there, all = 0, 0
		last = time.Time{}
		f.each(func(m *Miner) {
			if m.stats.Disconnected {
				return
			}
			all++
			if m.stats.Pool == pool {
				there++
				if m.stats.PoolSince.After(last) {
					last = m.stats.PoolSince
				}
			}
		})
		return there == all
	})
	if err != nil {
		return last, fmt.Errorf("fleet: %d of %d miners have a job of %s: %w", there, all, pool, err)
	}
	return last, nil
}

// WaitFor waits until the statistics satisfy a condition, which is checked every 20
// ms.
func (f *Fleet) WaitFor(ctx context.Context, condition func(FleetStats) bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition(f.Stats()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("fleet: %w; it has %+v", ctx.Err(), f.Stats())
		}
	}
	return nil
}

// Moved returns when each miner got its first job from the pool where it is, or the
// zero time for miners at another pool.
func (f *Fleet) Moved(pool string) []time.Time {
	var times []time.Time
	f.each(func(m *Miner) {
		var t time.Time
		if m.stats.Pool == pool {
			t = m.stats.PoolSince
		}
		times = append(times, t)
	})
	return times
}

// Stats adds up all miners.
func (f *Fleet) Stats() FleetStats {
	t := FleetStats{RejectedByCode: map[int]uint64{}, ByPool: map[string]int{}, Missed: f.behind.Load(), DialErrors: len(f.DialErrors())}
	f.each(func(m *Miner) {
		s := &m.stats
		t.Miners++
		if s.Authorized {
			t.Authorized++
		}
		if s.AuthorizeError != "" {
			t.Refused++
		}
		if s.Disconnected {
			t.Disconnected++
		}
		t.Submitted += s.Submitted
		t.Accepted += s.Accepted
		t.Rejected += s.Rejected
		for code, n := range s.RejectedByCode {
			t.RejectedByCode[code] += n
		}
		t.Unanswered += uint64(max(0, s.unanswered))
		t.OutOfOrder += s.OutOfOrder
		t.Doubled += s.Doubled
		t.Unknown += s.Unknown
		t.Jobs += s.Jobs
		t.CleanJobs += s.CleanJobs
		t.Switches += s.Switches
		if !s.Disconnected {
			t.ByPool[s.Pool]++
		}
		t.Violations += uint64(len(s.Violations))
		for _, v := range s.Violations {
			if len(t.SomeViolations) < 20 {
				t.SomeViolations = append(t.SomeViolations, m.opts.Worker+": "+v)
			}
		}
	})
	return t
}

// each calls do with the miner locked.
func (f *Fleet) each(do func(*Miner)) {
	for _, m := range f.Miners() {
		m.mu.Lock()
		do(m)
		m.mu.Unlock()
	}
}

func (f *Fleet) dialLoop(next *atomic.Int64) {
	defer f.wg.Done()
	for {
		i := int(next.Add(1)) - 1
		if i >= f.opts.N {
			return
		}
		if f.ctx.Err() != nil {
			return
		}
		o := f.opts.Miner
		o.Addr, o.Worker, o.Manual = f.opts.Addr, f.opts.WorkerName(i), true
		o.latency, o.fleet = &f.Latency, &f.watch
		m, err := NewMiner(o)
		f.mu.Lock()
		if err != nil {
			f.errs = append(f.errs, err)
		} else {
			f.miners = append(f.miners, m)
		}
		f.mu.Unlock()
		f.watch.notify()
		if err == nil {
			f.settle(m)
		}
	}
}

// settle waits until a miner has done its handshake, so that at most Dialers miners
// are in it at a time.
func (f *Fleet) settle(m *Miner) {
	ctx, cancel := context.WithTimeout(f.ctx, 60*time.Second)
	defer cancel()
	m.WaitAuthorized(ctx) // what went wrong is in the miner's statistics
}

// paceLoop submits shares, miner after miner, by the clock.
func (f *Fleet) paceLoop() {
	defer f.wg.Done()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var miners []*Miner
	var at int
	var owed float64
	last := time.Now()
	for {
		select {
		case <-f.ctx.Done():
			return
		case now := <-tick.C:
			rate := float64(f.rate.Load()) / 1000
			owed += now.Sub(last).Seconds() * rate
			last = now
			// On a machine that is too slow, it must not grow endlessly.
			if most := max(1, rate/4); owed > most {
				f.behind.Add(int64(owed - most))
				owed = most
			}
		}
		for ; owed >= 1 && f.rate.Load() > 0; owed-- {
			if at >= len(miners) {
				at = 0
				if miners = f.Miners(); len(miners) == 0 {
					break
				}
			}
			m := miners[at]
			at++
			if m.gone() || m.submitPaced() != nil {
				f.behind.Add(1)
			}
		}
	}
}

func (m *Miner) gone() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}
