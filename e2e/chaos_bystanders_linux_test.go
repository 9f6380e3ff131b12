//go:build linux && e2e

package e2e

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
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// bystanders are miners with right names at a pool that always works. Whatever is
// done to others, at that pool or elsewhere, they must not notice it: those that
// mine there lose nothing, and new ones are served as fast as they are without any
// faults.
type bystanders struct {
	t     *testing.T
	addr  string // of the daemon
	pool  *stratumtest.Pool
	fleet []*stratumtest.Fleet
	// controlAddr is that of a daemon that has a pool of its own and serves nothing
	// but new good miners.
	controlAddr string

	stop   context.CancelFunc
	ended  sync.WaitGroup
	rounds int

	mu      sync.Mutex // guards the following fields
	served  []newcomer
	control []newcomer // those at the control daemon, all of which were served
	failed  []string
	frozen  []stoppedSpan
	stopped int // how many calls of daemonStopped(true) have not ended
}

// stoppedSpan is a time in which the daemon was stopped. If end is zero, it still
// is.
type stoppedSpan struct{ begin, end time.Time }

// newcomer is how one new miner was served.
type newcomer struct {
	worker string
	began  time.Time
	took   time.Duration
	wait   time.Duration // took, less what the daemon was stopped
}

// The coins of the pool that always works: one has its IP, the other a name.
const steadyCoin, namedCoin = "steady", "named"

// Each of bystanderAccounts has a coin; most workers belong to the first.
var bystanderAccounts = map[string]string{"good": steadyCoin, "fair": namedCoin}

const (
	newcomerEvery = 100 * time.Millisecond
	newcomersMost = 8 // at a time
	newcomerStays = time.Second
	// newcomerPatience is how long a new miner waits before it gives up.
	newcomerPatience = 40 * time.Second
	// newcomerSlack is how much longer a new miner may wait than at the control
	// daemon. The machine may be busy at one moment, so it is compared with the
	// miners that came to the control within newcomerAbout of it.
	newcomerSlack = 2 * time.Second
	newcomerAbout = 2 * time.Second
)

// begin makes new miners connect until end.
func (b *bystanders) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.rounds++
	b.ended.Go(func() { b.comeAndGo(ctx, b.rounds) })
}

// end waits for the new miners that are still connecting.
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
		account, control := "good", n%2 == 1
		if n%6 == 4 {
			account = "fair"
		}
		b.ended.Go(func() {
			b.newcomer(fmt.Sprintf("%s.new%d-%d", account, round, n), control)
			<-places
		})
	}
}

// newcomer is a new miner, from its connection until a moment after its first job.
func (b *bystanders) newcomer(worker string, control bool) {
	addr := b.addr
	if control {
		addr = b.controlAddr
	}
	began := time.Now()
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: addr, Worker: worker, Configure: 0x1fffe000, Manual: true})
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
		b.failed = append(b.failed, fmt.Sprintf("%s (control: %v) came at %s, after %v: %v", worker, control, began.Format("15:04:05.000"), took.Round(time.Millisecond), err))
		return
	}
	visit := newcomer{worker, began, took, took}
	if control {
		b.control = append(b.control, visit)
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
		visit.wait -= max(0, to.Sub(from))
	}
	b.served = append(b.served, visit)
}

// daemonStopped notes that the daemon can serve nobody from now on, or can again.
// The former may be noted more than once.
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

// judge fails the test if a new miner was refused or closed, or waited much longer
// than those that came to the control daemon at about the same time.
func (b *bystanders) judge() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, text := range b.failed {
		if i < 10 {
			b.t.Errorf("new miner refused or closed: %s", text)
		}
	}
	b.t.Logf("new miners: %s", describe(b.served))
	b.t.Logf("at the control daemon: %s; %d were refused or closed at either", describe(b.control), len(b.failed))
	var longest newcomer
	var longer time.Duration
	for _, v := range b.served {
		from, to := v.began.Add(-newcomerAbout), v.began.Add(v.took+newcomerAbout)
		var control time.Duration
		for _, c := range b.control {
			if c.began.Before(to) && c.began.Add(c.took).After(from) {
				control = max(control, c.took)
			}
		}
		if more := v.wait - control; more > longer {
			longer, longest = more, v
		}
	}
	b.t.Logf("the longest wait was %v longer than at the control daemon at the same time (%s, came at %s)", longer.Round(time.Millisecond), longest.worker, longest.began.Format("15:04:05.000"))
	if longer > newcomerSlack {
		b.t.Errorf("a new miner waited %v longer than at the control daemon, which is too long", longer)
	}
}

// describe summarizes how new miners were served.
func describe(visits []newcomer) string {
	if len(visits) == 0 {
		return "none was served"
	}
	visits = slices.Clone(visits)
	slices.SortFunc(visits, func(a, b newcomer) int { return int(a.wait - b.wait) })
	at := func(of100 int) newcomer { return visits[(len(visits)-1)*of100/100] }
	return fmt.Sprintf("%d served, median %v, 99 of 100 within %v, slowest %v (%s, came at %s)", len(visits),
		at(50).wait.Round(100*time.Microsecond), at(99).wait.Round(100*time.Microsecond), at(100).wait.Round(100*time.Microsecond),
		at(100).worker, at(100).began.Format("15:04:05.000"))
}

// account checks that miners at the pool have noticed nothing at all.
func (b *bystanders) account() {
	b.t.Helper()
	var submitted, accepted uint64
	for _, f := range b.fleet {
		st := testkit.SettleFleet(b.t, f)
		submitted += st.Submitted
		accepted += st.Accepted
		late := st.RejectedByCode[21]
		if st.Rejected != late || st.Switches > 0 || st.ByPool[steadyCoin] != st.Miners {
			b.t.Errorf("miners at the pool that always works are not all undisturbed: %+v", st)
		}
	}
	st := b.pool.Stats()
	b.t.Logf("at the pool that always works: %d shares, %d accepted, none lost; it was asked for %d connections and refused %d authorizations", submitted, accepted,
		st.ConnectionsTotal, st.Refused)
	if st.Accepted != accepted || st.Submits != submitted {
		b.t.Errorf("miners sent %d shares to the pool that always works and %d were accepted, but the pool counted %d and %d", submitted, accepted, st.Submits, st.Accepted)
	}
	checkFaultsButTwice(b.t, b.pool)
}
