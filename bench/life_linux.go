package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	// stepLimit is how long the bench waits for miners in one step.
	stepLimit = 2 * time.Minute
	warmUp    = time.Second

	// The search for the throughput limit; see throughput. Rates are in shares per
	// second.
	limitLatency = 50 * time.Millisecond // p99 of a rate that is still within the limit
	limitStep    = 1.25                  // factor from one rate to the next
	limitSpan    = 1500 * time.Millisecond
	limitMost    = 400_000
	limitLeast   = 200

	upgradeRate = 5000 // shares per second during an upgrade
	dialEvery   = 10 * time.Millisecond
)

// life is one target from its start to its end, with its own pools and miners. All
// figures of a target in one round are measured in one life.
type life struct {
	options
	name   string
	size   int
	target *target
	pids   []int // of the target's processes
	pools  *poolsProcess
	fleet  *stratumtest.Fleet
	base   float64 // KB without sessions
	record func(figure string, value float64)
	remark func(format string, args ...any)
}

// live starts pools, target and miners, calls do to measure, and stops everything.
func live(ctx context.Context, o options, b binaries, name string, size int, record func(string, float64), remark func(string, ...any), do func(*life, context.Context) error) (err error) {
	dir, err := os.MkdirTemp("", "stratumSwitcher-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := &life{options: o, name: name, size: size, record: record, remark: remark}
	if l.pools, err = startPools(); err != nil {
		return err
	}
	defer l.pools.stop()
	if l.target, err = startTarget(ctx, name, dir, b, o, size, l.pools.addrs); err != nil {
		return err
	}
	if l.target.process != nil {
		defer l.target.stop()
	}
	// If a process has ended, the end of its log explains the error.
	defer func() {
		for _, p := range []*process{l.target.process, l.target.behind, l.pools.process} {
			if err != nil && p != nil && p.HasEnded() {
				err = p.failed(err)
			}
		}
	}()
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	if err := l.firstHandshake(); err != nil {
		return err
	}
	if l.proxied() {
		l.pids = l.target.family()
		if l.base, err = privateMemory(l.pids); err != nil {
			return err
		}
		record("mem_base", l.base)
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	defer l.fleet.Close()
	if err := do(l, ctx); err != nil {
		return err
	}
	return l.check()
}

// proxied reports whether there is a proxy whose processes are measured.
func (l *life) proxied() bool { return l.target.process != nil }

// all measures everything that is measured of a target in each round.
func (l *life) all(ctx context.Context) error {
	steps := []func(context.Context) error{l.shares, l.latency, l.throughput}
	if l.proxied() {
		steps = []func(context.Context) error{
			l.memory("mem_idle"), l.shares, l.latency, l.jobs, l.memory("mem_load"), l.throughput,
		}
	}
	if l.target.coins != "" {
		steps = append(steps, l.switches, l.upgrade)
	}
	if l.target.tls != nil {
		steps = append(steps, l.handshakes)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cpu returns the processor time that the target has used so far.
func (l *life) cpu() (time.Duration, error) { return cpuTime(l.pids) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// connect connects all miners and waits until they have a job.
func (l *life) connect(ctx context.Context) error {
	before, err := l.cpu()
	if err != nil {
		return err
	}
	l.fleet = stratumtest.NewFleet(stratumtest.FleetOptions{
		N: l.size, Addr: l.target.addr,
		WorkerName: func(i int) string { return fmt.Sprintf("alice.w%d", i) },
		Miner:      stratumtest.MinerOptions{CheatHash: true, TLS: l.target.tls},
	})
	err = l.connected(ctx, before)
	if err != nil {
		l.fleet.Close()
	}
	return err
}

func (l *life) connected(ctx context.Context, before time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	if err := l.fleet.WaitAuthorized(limited); err != nil {
		return err
	}
	if _, err := l.fleet.WaitPool(limited, coins[0]); err != nil {
		return err
	}
	if err := sleep(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	if !l.proxied() {
		return nil
	}
	after, err := l.cpu()
	if err != nil {
		return err
	}
	l.record("cpu_connect", micros(after-before)/float64(l.size))
	return nil
}

// memory returns a step that measures the private memory per session.
func (l *life) memory(figure string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := sleep(ctx, l.Settle); err != nil {
			return err
		}
		kb, err := privateMemory(l.pids)
		if err != nil {
			return err
		}
		l.record(figure, (kb-l.base)/float64(l.size))
		return nil
	}
}

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

// order changes the coin and waits until all miners have moved there and their former
// links are closed. first and last are how long the first and the last miner took.
func (l *life) order(ctx context.Context, coin string) (first, last time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	ordered := time.Now()
	if err := writeCoin(l.target.coins, coin); err != nil {
		return 0, 0, err
	}
	end, err := l.fleet.WaitPool(ctx, coin)
	if err != nil {
		return 0, 0, err
	}
	begin := end
	for _, at := range l.fleet.Moved(coin) {
		if !at.IsZero() && at.Before(begin) {
			begin = at
		}
	}
	return begin.Sub(ordered), end.Sub(ordered), l.pools.waitConnections(ctx, l.size)
}

// switches moves all miners from coin to coin. The first half of the switches is without
// shares and measures the cost. The second half is with shares and counts wrong answers.
func (l *life) switches(ctx context.Context) error {
	idle := (l.Switches + 1) / 2
	at := 0
	next := func() string { at++; return coins[at%len(coins)] }
	var firsts, lasts []float64
	before, err := l.cpu()
	if err != nil {
		return err
	}
	for range idle {
		first, last, err := l.order(ctx, next())
		if err != nil {
			return err
		}
		firsts, lasts = append(firsts, millis(first)), append(lasts, millis(last))
	}
	after, err := l.cpu()
	if err != nil {
		return err
	}
	if idle > 0 {
		l.record("move_first", middle(firsts))
		l.record("move_last", middle(lasts))
		l.record("cpu_switch", micros(after-before)/float64(idle*l.size))
	}
	if loaded := l.Switches - idle; loaded > 0 {
		if err := l.switchesUnderLoad(ctx, loaded, next); err != nil {
			return err
		}
	}
	if l.Switches%2 == 1 { // return to the first coin
		if _, _, err := l.order(ctx, next()); err != nil {
			return err
		}
	}
	if l.Switches == 0 {
		return nil
	}
	return l.memory("mem_switched")(ctx)
}

func (l *life) switchesUnderLoad(ctx context.Context, n int, next func() string) error {
	const switchSeconds = 6 // about what a switch takes with its drain
	before := l.fleet.Stats()
	l.fleet.SetRate(float64(l.LoadShares) / float64(n*switchSeconds))
	defer l.fleet.SetRate(0)
	for range n {
		if _, _, err := l.order(ctx, next()); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	err := l.fleet.WaitFor(limited, func(st stratumtest.FleetStats) bool {
		return st.Submitted >= before.Submitted+uint64(l.LoadShares)
	})
	if err != nil {
		return err
	}
	l.fleet.SetRate(0)
	if err := l.quiet(ctx); err != nil {
		return err
	}
	st := l.fleet.Stats()
	answered := st.Accepted + st.Rejected - before.Accepted - before.Rejected
	l.record("load_shares", float64(st.Submitted-before.Submitted))
	l.record("load_wrong", float64(st.Rejected-before.Rejected+st.Doubled-before.Doubled+st.Unknown-before.Unknown))
	l.record("load_never", float64(st.Submitted-before.Submitted-answered))
	return nil
}

var upgraded = regexp.MustCompile(`upgraded version=\S+ sessions=(\d+) lost=(\d+).* pause_ms=(\d+)|upgrade (?:refused|undone).*`)

// upgrade replaces the running program with itself, while miners submit shares and
// connections are dialled.
func (l *life) upgrade(ctx context.Context) error {
	before := l.fleet.Stats().Disconnected
	l.fleet.SetRate(upgradeRate)
	defer l.fleet.SetRate(0)
	if err := sleep(ctx, warmUp); err != nil {
		return err
	}
	dialing, stopDialing := context.WithCancel(ctx)
	defer stopDialing()
	var refused atomic.Int64
	dialled := make(chan struct{})
	go l.dialLoop(dialing, &refused, dialled)
	l.fleet.Latency.Reset()
	logged := l.target.Logged()
	if err := l.target.Cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	m, err := l.target.waitLog(ctx, logged, upgraded)
	if err != nil {
		return err
	}
	if m[1] == "" {
		return fmt.Errorf("upgrade: %s", m[0])
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	stopDialing()
	<-dialled
	l.fleet.SetRate(0)
	if err := l.quiet(ctx); err != nil {
		return err
	}
	pause, err := strconv.ParseFloat(m[3], 64)
	if err != nil {
		return err
	}
	l.record("upgrade_pause", pause)
	l.record("upgrade_longest", millis(l.fleet.Latency.Quantile(1)))
	l.record("upgrade_lost", float64(l.fleet.Stats().Disconnected-before))
	l.record("upgrade_refused", float64(refused.Load()))
	return nil
}

// dialLoop dials a connection every dialEvery and counts how often that fails.
func (l *life) dialLoop(ctx context.Context, refused *atomic.Int64, done chan<- struct{}) {
	defer close(done)
	for sleep(ctx, dialEvery) == nil {
		nc, err := net.DialTimeout("tcp", l.target.addr, 5*time.Second)
		if err != nil {
			refused.Add(1)
			continue
		}
		nc.Close()
	}
}

// check returns an error if miners lost their connections to a target that should not
// close any, and makes a remark of everything else that casts doubt on the figures.
func (l *life) check() error {
	st := l.fleet.Stats()
	if st.Disconnected > 0 && l.target.coins == "" {
		return fmt.Errorf("%d of %d miners were disconnected", st.Disconnected, l.size)
	}
	if st.Disconnected+int(st.Rejected+st.Unanswered+st.Doubled+st.Unknown+st.Violations) > 0 {
		l.remark("%d miners disconnected, %d shares rejected %v, %d unanswered, %d answered twice, %d unknown answers, %d violations %.3q",
			st.Disconnected, st.Rejected, st.RejectedByCode, st.Unanswered, st.Doubled, st.Unknown, st.Violations, st.SomeViolations)
	}
	reply, err := l.pools.ask(poolRequest{})
	if err != nil {
		return err
	}
	if len(reply.Faults) > 0 {
		l.remark("the pools found faults: %q", reply.Faults)
	}
	return nil
}
