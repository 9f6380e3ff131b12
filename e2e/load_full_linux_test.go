//go:build linux && e2e

package e2e

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

var (
	loadSessions = flag.Int("load-sessions", 0, "miners of the full load; 0: 2,000, with -long 9,000")
	loadShares   = flag.Float64("load-shares", 0, "shares a second that the full load aims at; 0: 2,000, with -long 20,000")
	loadSeconds  = flag.Int("load-seconds", 0, "how long the full load goes on; 0: 15, with -long 60")
)

func startLeanPool(t *testing.T, opts stratumtest.LeanPoolOptions) *stratumtest.LeanPool {
	t.Helper()
	pool, err := stratumtest.StartLeanPool(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestLoadFull has shares, jobs of 4 KB each second, and miners that connect and
// leave, all at once. No share is lost, and the daemon holds as much in the last
// third of the time as in the first.
//
// The limits are two more descriptors for each short session that may exist at a
// moment, and none when these have ended, and a tenth and 8 MB more private memory,
// because the collector lets garbage grow until it is as much as what is in use.
func TestLoadFull(t *testing.T) {
	t.Parallel()
	sessions, rate, seconds, visitors := 2000, 2000.0, 15, 500
	if *daemontest.Long {
		sessions, rate, seconds = 9000, 20000, 60
	}
	if *daemontest.DaemonRace {
		sessions, rate, visitors = 500, 500, 100
	}
	if *loadSessions > 0 {
		sessions = *loadSessions
	}
	if *loadShares > 0 {
		rate = *loadShares
	}
	if *loadSeconds > 0 {
		seconds = *loadSeconds
	}
	pool := startLeanPool(t, stratumtest.LeanPoolOptions{Name: "btc", JobSize: 4096, JobInterval: time.Second})
	c := daemontest.FileConfig()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: pool.Addr(), UserSuffix: "btc"}
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	fleet, err := stratumtest.NewLeanFleet(stratumtest.LeanFleetOptions{N: sessions, Addr: p.Addr, WorkerName: func(i int) string { return fmt.Sprintf("alice.%d", i) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	testkit.WaitUntil(t, "all mine", func() bool { return fleet.Stats().Mining == sessions })
	const shortAtATime = 200
	idle := p.Descriptors()
	short := testkit.StartShortSessions(p.Addr, shortAtATime, []testkit.Visit{
		{Name: "mines", Text: func(i int) string { return testkit.ShortAuthorize(testkit.ShortUser(i)) }, Mines: true},
		{Name: "leaves while it is authorized", Text: func(i int) string { return testkit.ShortAuthorize(testkit.ShortUser(i)) }},
		{Name: "subscribed only", Text: func(int) string { return testkit.ShortSubscribe }, Until: `"id":1,`},
		{Name: "silent", Text: func(int) string { return "" }},
	})
	fleet.SetRate(rate)
	cpu := processCPU(t, p.Cmd.Process.Pid)
	began := time.Now()

	third := [3]daemontest.Usage{}
	came, look := 0, began.Add(2*time.Second) // at the beginning, buffers and the heap grow to their size
	end := began.Add(time.Duration(seconds) * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for now := began; now.Before(end); now = <-tick.C {
		for busy := false; !busy && came < int(now.Sub(began).Seconds()*float64(visitors)); {
			select {
			case short.Next <- came:
				came++
			default: // all are connecting; try again later
				busy = true
			}
		}
		if now.After(look) {
			look = now.Add(500 * time.Millisecond)
			u, of := p.Usage(c.HTTPDebugListenAddr), &third[min(2, int(3*now.Sub(began)/end.Sub(began)))]
			of.Descriptors, of.Goroutines, of.Private = max(of.Descriptors, u.Descriptors), max(of.Goroutines, u.Goroutines), max(of.Private, u.Private)
		}
	}
	took := time.Since(began)
	cpu = processCPU(t, p.Cmd.Process.Pid) - cpu
	short.Finish(t)
	fleet.SetRate(0)
	testkit.WaitUntil(t, "all shares answered", func() bool { st := fleet.Stats(); return st.Accepted+st.Rejected == st.Submitted })
	st := fleet.Stats()
	shares := st.Submitted + uint64(short.Shares.Load())
	t.Logf("%d sessions, %.0f shares/s (aim %.0f, %d not tried), %.0f connects/s, for %v; %.0f jobs/s; daemon %.2f CPUs; slowest answer %v, 99 of 100 within %v",
		sessions, float64(shares)/took.Seconds(), rate, st.Missed, float64(short.Done.Load())/took.Seconds(), took.Round(time.Second),
		float64(st.Jobs)/took.Seconds(), cpu.Seconds()/took.Seconds(), fleet.Latency.Quantile(1), fleet.Latency.Quantile(0.99))
	t.Logf("first third: %v", third[0])
	t.Logf("last third:  %v", third[2])
	if ps := pool.Stats(); ps.Strays > 0 || ps.Accepted != shares || st.Submitted != st.Accepted || st.Disconnected > 0 || len(st.Faults) > 0 {
		t.Errorf("%d shares submitted, %d accepted, %d refused, and %d of short sessions; the pool took %d and did not know %d lines: %q; %d disconnected, %q",
			st.Submitted, st.Accepted, st.Rejected, short.Shares.Load(), ps.Accepted, ps.Strays, ps.SomeStrays, st.Disconnected, st.Faults)
	}
	// How much the simulated miners and the pool manage depends on the machine. A
	// tenth is still a load.
	if least := uint64(rate / 10 * took.Seconds()); shares < least {
		t.Errorf("only %d shares were submitted, less than a tenth of the intended load", shares)
	}
	if n := short.Done.Load(); n < int64(visitors)*int64(seconds)/10 {
		t.Errorf("only %d miners connected and left", n)
	}
	if least := uint64(sessions * seconds / 10); st.Jobs < least {
		t.Errorf("only %d jobs reached the miners, want at least %d", st.Jobs, least)
	}
	if first, last := third[0], third[2]; last.Descriptors > first.Descriptors+2*shortAtATime || last.Goroutines > first.Goroutines+3 ||
		last.Private > first.Private+first.Private/10+8<<10 {
		t.Error("what the daemon holds has grown")
	}
	testkit.WaitUntil(t, fmt.Sprintf("%d descriptors as in the beginning", idle), func() bool { return p.Descriptors() <= idle+2 })
	testkit.WaitUntil(t, fmt.Sprintf("%d connections to the pool", sessions), func() bool { return pool.Stats().Connections == sessions })
}
