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
	SharesPerSecond float64            // total of all miners; 0 means none
	Dialers         int                // maximum of concurrent handshakes; default 32
	Miner           MinerOptions       // all other options, such as CheatHash
}

// Fleet is a group of miners whose shares are paced by one clock. Each miner has a
// goroutine that reads. Close stops all goroutines.
type Fleet struct {
	opts   FleetOptions
	watch  watch
	ctx    context.Context // cancelled by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	rate   atomic.Int64 // shares per 1000 s
	behind atomic.Int64 // shares missed so far

	// Latency is the time from each submit to its answer.
	Latency Latency

	mu     sync.Mutex // guards the following fields
	miners []*Miner
	errs   []error
}

// FleetStats adds up the miners' statistics.
type FleetStats struct {
	Miners         int // miners that have connected
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
	ByPool         map[string]int // connected miners by the pool of their current job
	Violations     uint64
	SomeViolations []string // the first few
	Missed         int64    // shares not submitted, because a job, a connection or time was lacking
}

// NewFleet starts the miners and does not wait for them to connect.
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

// SetRate sets the total number of shares per second. Once SetRate(0) has returned,
// connected miners submit no shares on their own, not even late ones.
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

// DialErrors returns the errors of the miners that could not connect.
func (f *Fleet) DialErrors() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.errs...)
}

// WaitAuthorized waits until each of the N miners is authorized or has failed. It returns
// an error if any miner has failed.
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
		return fmt.Errorf("fleet: %d of %d miners are authorized and %d failed: %v", authorized, f.opts.N, failed, err)
	}
	return nil
}

// WaitPool waits until the current job of every connected miner is from the named pool.
// It returns the time at which the last of them got its first job from that pool.
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

// WaitFor waits until the statistics satisfy a condition, which is checked every
// 20 ms.
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

// Moved returns for each miner the time of its first job from the named pool since its
// latest switch. The time is zero for a miner that is at another pool.
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

// Stats returns the totals of all miners.
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

// each calls do for every miner, with that miner locked.
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

// settle waits until a miner has finished its handshake, so that at most Dialers
// handshakes run at a time.
func (f *Fleet) settle(m *Miner) {
	ctx, cancel := context.WithTimeout(f.ctx, 60*time.Second)
	defer cancel()
	m.WaitAuthorized(ctx) // the miner's statistics record any failure
}

// paceLoop submits shares at the configured rate and takes the miners in turn.
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
			// The backlog is limited, because a slow machine would never catch up.
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
