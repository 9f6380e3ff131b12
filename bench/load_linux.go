package main

import (
	"context"
	"errors"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// What is measured while miners submit shares at a rate or all get a job: the cost of
// each, latency, and the highest rate that a target can serve.

const (
	// The search for the throughput limit; see throughput. Rates are in shares per
	// second.
	limitLatency = 50 * time.Millisecond // p99 of a rate that is still within the limit
	limitStep    = 1.25                  // factor from one rate to the next
	limitSpan    = 1500 * time.Millisecond
	limitMost    = 400_000
	limitLeast   = 200
)

// load is the result of submitting shares for a while.
type load struct {
	answered float64 // per second
	cpu      float64 // µs per share
}

// run submits shares at a rate for the times warm and span. Only span is measured.
func (l *life) run(ctx context.Context, rate float64, warm, span time.Duration) (load, error) {
	l.fleet.SetRate(rate)
	defer l.fleet.SetRate(0)
	if err := sleep(ctx, warm); err != nil {
		return load{}, err
	}
	l.fleet.Latency.Reset()
	before, err := l.cpu()
	if err != nil {
		return load{}, err
	}
	answered, began := answers(l.fleet), time.Now()
	if err := sleep(ctx, span); err != nil {
		return load{}, err
	}
	after, err := l.cpu()
	if err != nil {
		return load{}, err
	}
	n, took := float64(answers(l.fleet)-answered), time.Since(began)
	if n == 0 {
		return load{}, errors.New("no share was answered")
	}
	return load{answered: n / took.Seconds(), cpu: micros(after-before) / n}, nil
}

func answers(f *stratumtest.Fleet) uint64 {
	st := f.Stats()
	return st.Accepted + st.Rejected
}

// quiet waits until all shares are answered and the miners submit no more. Miners that
// have fallen behind their rate submit the missing shares first.
func (l *life) quiet(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for before := uint64(0); ; {
		st := l.fleet.Stats()
		if st.Submitted == before && st.Unanswered == 0 {
			return nil
		}
		before = st.Submitted
		if err := sleep(limited, 200*time.Millisecond); err != nil {
			return ctx.Err() // check reports the shares that stay unanswered
		}
	}
}

func (l *life) shares(ctx context.Context) error {
	got, err := l.run(ctx, l.Rate, warmUp, l.Span)
	if err != nil {
		return err
	}
	l.record("share_rate", got.answered)
	if l.proxied() {
		l.record("cpu_share", got.cpu)
	}
	if got.answered < 0.95*l.Rate || got.answered > 1.05*l.Rate {
		l.remark("%.0f of %.0f shares/s were answered: the machine is too slow for that rate or too busy", got.answered, l.Rate)
	}
	return l.quiet(ctx)
}

func (l *life) latency(ctx context.Context) error {
	if _, err := l.run(ctx, l.LatencyRate, warmUp, l.Span); err != nil {
		return err
	}
	h := &l.fleet.Latency
	l.record("lat_mean", millis(h.Mean()))
	l.record("lat_p50", millis(h.Quantile(0.5)))
	l.record("lat_p99", millis(h.Quantile(0.99)))
	l.record("lat_p999", millis(h.Quantile(0.999)))
	return l.quiet(ctx)
}

// jobs sends some jobs. It sends each when all miners have the previous one.
func (l *life) jobs(ctx context.Context) error {
	// There are enough jobs for the 10 ms steps of the processor time not to matter.
	n := min(200, max(12, 100_000/l.size))
	if l.Quick {
		n = min(60, max(6, 30_000/l.size))
	}
	limited, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	before, err := l.cpu()
	if err != nil {
		return err
	}
	for range n {
		want := l.fleet.Stats().Jobs + uint64(l.size)
		if err := l.pools.newJob(coins[0]); err != nil {
			return err
		}
		if err := l.fleet.WaitFor(limited, func(st stratumtest.FleetStats) bool { return st.Jobs >= want }); err != nil {
			return err
		}
	}
	if err := sleep(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	after, err := l.cpu()
	if err != nil {
		return err
	}
	l.record("cpu_job", micros(after-before)/float64(n*l.size))
	return nil
}

// throughput raises the rate of shares until fewer than 95 % are answered in time or
// p99 exceeds limitLatency. If the first rate is too high, it lowers the rate instead.
func (l *life) throughput(ctx context.Context) error {
	span := min(limitSpan, l.Span)
	best, lowered := 0.0, false
	for rate := l.Rate; rate <= limitMost && rate >= limitLeast; {
		got, err := l.run(ctx, rate, span/3, span)
		if err != nil {
			return err
		}
		held := got.answered >= 0.95*rate && l.fleet.Latency.Quantile(0.99) <= limitLatency
		if err := l.quiet(ctx); err != nil {
			return err
		}
		if held {
			best = max(best, got.answered)
			if lowered {
				break
			}
			rate *= limitStep
			continue
		}
		if best > 0 {
			break
		}
		lowered = true
		rate /= limitStep
	}
	l.record("limit", best)
	return nil
}
