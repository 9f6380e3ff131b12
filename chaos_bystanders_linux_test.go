//go:build linux && !portable_relay

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// bystanders are miners with right names at a pool that is well all the time.
// Whatever is done to others, at that pool or elsewhere, they must not notice:
// those that mine there lose nothing, and new ones are served as soon as they
// are when all is well.
type bystanders struct {
	t     *testing.T
	addr  string // of the daemon
	pool  *stratumtest.Pool
	fleet []*stratumtest.Fleet

	stop   context.CancelFunc
	ended  sync.WaitGroup
	rounds int

	mu      sync.Mutex // guards the following fields
	waits   []time.Duration
	failed  []string
	frozen  []stoppedSpan
	stopped int // how often daemonStopped holds
	slowest newcomer
}

// stoppedSpan is a time in which the daemon was stopped. A zero end: it still is.
type stoppedSpan struct{ begin, end time.Time }

// newcomer is how one new miner was served.
type newcomer struct {
	worker string
	began  time.Time
	wait   time.Duration // less what the daemon was stopped
}

// The coins of the pool that is well: one has its IP, the other a name.
const steadyCoin, namedCoin = "steady", "named"

// bystanderAccounts have a coin each. Names have dead IPs, so new miners of the
// second come only when there are faults.
var bystanderAccounts = map[string]string{"good": steadyCoin, "fair": namedCoin}

const (
	newcomerEvery = 100 * time.Millisecond
	newcomersMost = 8 // at a time
	newcomerStays = time.Second
	// newcomerPatience is how long one waits before it gives up.
	newcomerPatience = 40 * time.Second
	// newcomerSlack is how much longer a new miner may wait while others have
	// trouble.
	newcomerSlack = 2 * time.Second
)

// begin has new miners come until end.
func (b *bystanders) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.rounds++
	b.ended.Go(func() { b.comeAndGo(ctx, b.rounds) })
}

// end waits for the new miners under way.
func (b *bystanders) end() {
	b.stop()
	b.ended.Wait()
}

func (b *bystanders) comeAndGo(ctx context.Context, round int) {
	tick := time.NewTicker(newcomerEvery)
	defer tick.Stop()
	places := make(chan struct{}, newcomersMost)
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case places <- struct{}{}:
		default:
			continue
		}
		account := "good"
		if round > 1 && n%3 == 2 {
			account = "fair"
		}
		b.ended.Go(func() {
			b.newcomer(fmt.Sprintf("%s.new%d-%d", account, round, n))
			<-places
		})
	}
}

// newcomer is a new miner, from its connection to the first job and a moment
// longer.
func (b *bystanders) newcomer(worker string) {
	began := time.Now()
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: b.addr, Worker: worker, Configure: 0x1fffe000, Manual: true})
	if err == nil {
		defer m.Close()
		ctx, cancel := context.WithTimeout(context.Background(), newcomerPatience)
		err = m.WaitFor(ctx, func(st stratumtest.MinerStats) bool {
			return st.Authorized && st.Jobs > 0 || st.AuthorizeError != "" || st.Disconnected
		})
		cancel()
	}
	took := time.Since(began)
	if err == nil {
		if st := m.Stats(); st.AuthorizeError == "" && !st.Disconnected {
			time.Sleep(rand.N(newcomerStays))
		}
		if st := m.Stats(); st.AuthorizeError != "" || st.Disconnected || len(st.Violations) > 0 || st.Reconnects > 0 {
			err = fmt.Errorf("%s %s %q", st.AuthorizeError, st.Err, st.Violations)
		} else if st.Pool != steadyCoin {
			err = errors.New("at pool " + st.Pool)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.failed = append(b.failed, fmt.Sprintf("%s came at %s, after %v: %v", worker, began.Format("15:04:05.000"), took.Round(time.Millisecond), err))
		return
	}
	for _, f := range b.frozen {
		end := f.end
		if end.IsZero() {
			end = time.Now()
		}
		from, to := began, began.Add(took)
		if f.begin.After(from) {
			from = f.begin
		}
		if end.Before(to) {
			to = end
		}
		took -= max(0, to.Sub(from))
	}
	b.waits = append(b.waits, took)
	if took > b.slowest.wait {
		b.slowest = newcomer{worker, began, took}
	}
}

// daemonStopped notes that the daemon can serve nobody from now on, or can
// again. The former may be said more than once.
func (b *bystanders) daemonStopped(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !on:
		if b.stopped--; b.stopped == 0 {
			b.frozen[len(b.frozen)-1].end = time.Now()
		}
	case b.stopped == 0:
		b.frozen = append(b.frozen, stoppedSpan{begin: time.Now()})
		fallthrough
	default:
		b.stopped++
	}
}

// take returns how the new miners since the last call were served. Those that
// were refused or closed fail the test.
func (b *bystanders) take(when string) (waits []time.Duration, slowest newcomer) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	waits, slowest = b.waits, b.slowest
	slices.Sort(waits)
	if len(waits) == 0 {
		b.t.Fatalf("new miners %s: none was served; %q", when, b.failed)
	}
	at := func(of100 int) time.Duration { return waits[(len(waits)-1)*of100/100].Round(100 * time.Microsecond) }
	b.t.Logf("new miners %s: %d served, median %v, 99 of 100 within %v, slowest %v (%s, came at %s); %d refused or closed", when,
		len(waits), at(50), at(99), at(100), slowest.worker, slowest.began.Format("15:04:05.000"), len(b.failed))
	for i, text := range b.failed {
		if i < 10 {
			b.t.Errorf("new miner %s: %s", when, text)
		}
	}
	b.waits, b.failed, b.slowest = nil, nil, newcomer{}
	return waits, slowest
}

// account wants those that mine at the pool to have noticed nothing at all.
func (b *bystanders) account() {
	b.t.Helper()
	var submitted, accepted uint64
	for _, f := range b.fleet {
		st := settleFleet(b.t, f)
		submitted += st.Submitted
		accepted += st.Accepted
		late := st.RejectedByCode[21]
		if st.Rejected != late || st.Switches > 0 || st.ByPool[steadyCoin] != st.Miners {
			b.t.Errorf("miners at the pool that is well: %+v", st)
		}
	}
	st := b.pool.Stats()
	b.t.Logf("at the pool that is well: %d shares, %d accepted, none lost; it was asked for %d connections and refused %d authorizations", submitted, accepted,
		st.ConnectionsTotal, st.Refused)
	if st.Accepted != accepted || st.Submits != submitted {
		b.t.Errorf("miners sent %d shares to the pool that is well, %d were accepted; it knows of %d and %d", submitted, accepted, st.Submits, st.Accepted)
	}
	checkFaultsButTwice(b.t, b.pool)
}
