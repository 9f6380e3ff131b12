package testkit

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// StartMiners starts n miners of an account, and waits until each has had a share
// accepted.
func StartMiners(t testing.TB, addr, account string, n int) []*stratumtest.Miner {
	t.Helper()
	var miners []*stratumtest.Miner
	for i := range n {
		miners = append(miners, StartMiner(t, stratumtest.MinerOptions{
			Addr: addr, Worker: account + ".w" + strconv.Itoa(i), Rate: 20, Configure: 0x1fffe000,
		}))
	}
	WantAllAccepted(t, miners, 1)
	return miners
}

// WantAccepted is WantAllAccepted for one miner.
func WantAccepted(t testing.TB, m *stratumtest.Miner, n uint64) {
	t.Helper()
	WantAllAccepted(t, []*stratumtest.Miner{m}, n)
}

// WantAllAccepted waits until each miner has had n more shares accepted. A miner that is
// disconnected fails the test.
func WantAllAccepted(t testing.TB, miners []*stratumtest.Miner, n uint64) {
	t.Helper()
	before := make([]uint64, len(miners))
	for i, m := range miners {
		before[i] = m.Stats().Accepted
	}
	for i, m := range miners {
		err := m.WaitFor(LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before[i]+n || st.Disconnected })
		if st := m.Stats(); err != nil || st.Disconnected {
			t.Fatalf("miner %s: %v; %+v", m.Worker(), err, st)
		}
	}
}

// wantAllAt waits until all miners are at the pool.
func wantAllAt(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	for _, m := range miners {
		err := m.WaitFor(LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
		if err != nil {
			t.Fatalf("miner %s is not at pool %s: %+v", m.Worker(), pool, m.Stats())
		}
	}
}

// WantMining fails the test unless all miners continue to mine, at the named pool if one
// is given.
func WantMining(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	if pool != "" {
		wantAllAt(t, miners, pool)
	}
	WantAllAccepted(t, miners, 2)
	for _, m := range miners {
		CheckMiner(t, m)
	}
}

// WantMiningAfterLoss is WantMining for miners whose pool closed its connections. Shares
// that were unanswered then may be rejected.
func WantMiningAfterLoss(t testing.TB, miners []*stratumtest.Miner, pool string) {
	t.Helper()
	wantAllAt(t, miners, pool)
	WantAllAccepted(t, miners, 2)
	for _, m := range miners {
		if st := m.Stats(); len(st.Violations) > 0 || st.Rejected != st.RejectedByCode[20] || st.Doubled > 0 || st.Unknown > 0 {
			t.Errorf("miner %s was disturbed: %+v", m.Worker(), st)
		}
	}
}

// WantNewMiner fails the test unless a new miner is served.
func WantNewMiner(t testing.TB, addr, account string) {
	t.Helper()
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: addr, Worker: account + ".new", Rate: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	WantAccepted(t, m, 1)
	CheckMiner(t, m)
}

// WaitUntil is Eventually with a limit of LongWait.
func WaitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	eventually(t, what, LongWait, condition)
}

// LongWait is how long tests of the built daemon wait for something that should
// happen at once. A daemon with the race detector is slow on a busy machine.
const LongWait = 25 * time.Second

func LongWaitContext(t testing.TB) context.Context {
	t.Helper()
	return patientContext(t, LongWait)
}

// CheckFleet stops the fleet's shares. It fails the test if a miner lost its connection or
// a share, or got an answer twice or out of order.
func CheckFleet(t *testing.T, f *stratumtest.Fleet, miners int) {
	t.Helper()
	f.SetRate(0)
	if err := f.WaitFor(LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Error(err)
	}
	st := f.Stats()
	if st.Miners != miners || st.DialErrors > 0 || st.Disconnected > 0 || st.Rejected > 0 || st.Doubled > 0 || st.OutOfOrder > 0 ||
		st.Unknown > 0 || st.Violations > 0 || st.Accepted != st.Submitted {
		t.Errorf("the fleet was disturbed: %+v", st)
	}
	t.Logf("%d miners, %d shares, slowest answer %v", st.Miners, st.Accepted, f.Latency.Quantile(1))
}

// MineOn submits a share after each pause and reads all lines until stop is called. It
// calls failed at the first rejected share, and if the connection ends before stop is
// called.
func (l *Login) MineOn(pause time.Duration, failed func(string)) (stop func()) {
	var all sync.WaitGroup
	ended := make(chan struct{})
	job, lost := make(chan string, 1), false
	job <- l.Pool + "-0"
	all.Go(func() {
		for {
			line, err := l.R.ReadString('\n')
			select {
			case <-ended:
				return
			default:
			}
			if err != nil {
				failed("the connection was closed: " + err.Error())
				return
			}
			switch {
			case strings.Contains(line, `"mining.notify"`):
				_, rest, _ := strings.Cut(line, `"params":["`)
				id, _, _ := strings.Cut(rest, `"`)
				<-job
				job <- id
			case !strings.HasPrefix(line, `{"id":null`) && !strings.Contains(line, `"result":true`) && !lost:
				lost = true
				failed(strings.TrimSpace(line))
			}
		}
	})
	all.Go(func() {
		for i := 3; ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(pause):
			}
			id := <-job
			job <- id
			fmt.Fprintln(l.Nc, stratumtest.ShareLine(fmt.Sprint(i), id))
		}
	})
	return func() { close(ended); l.Close(); all.Wait() }
}

// FleetOf connects n miners of an account to addr and waits until all are authorized.
func FleetOf(t *testing.T, addr, account string, n int, rate float64, miner stratumtest.MinerOptions) *stratumtest.Fleet {
	t.Helper()
	f := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: n, Addr: addr, WorkerName: WorkerNames(account), SharesPerSecond: rate, Miner: miner,
	})
	t.Cleanup(f.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := f.WaitAuthorized(ctx); err != nil {
		t.Fatalf("miners of %s: %v; %v", account, err, f.DialErrors())
	}
	return f
}

// SettleFleet stops submitting shares and fails the test unless all shares are answered.
func SettleFleet(t *testing.T, f *stratumtest.Fleet) stratumtest.FleetStats {
	t.Helper()
	f.SetRate(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.WaitFor(ctx, func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Errorf("%d shares are unanswered, want none", f.Stats().Unanswered)
	}
	st := f.Stats()
	if st.Disconnected > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Violations > 0 || st.DialErrors > 0 {
		t.Errorf("%d miners were disconnected, %d answers came twice, %d belong to no request, violations %q", st.Disconnected, st.Doubled, st.Unknown, st.SomeViolations)
	}
	return st
}

// MetricsSum returns the sum of all series of a metric.
func MetricsSum(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(series, "{"); base == name {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum
}
