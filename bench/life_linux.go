package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	// stepLimit is how long the bench waits for miners in one step.
	stepLimit = 2 * time.Minute
	// warmUp is how long miners submit shares before anything is measured.
	warmUp = time.Second
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
