package main

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// What is measured of the switcher only: moving all miners to another coin, and an
// upgrade.

const (
	upgradeRate = 5000 // shares per second during an upgrade
	dialEvery   = 10 * time.Millisecond
)

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
