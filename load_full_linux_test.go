//go:build linux && !portable_relay

package main

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
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

// TestLoadFull: shares, jobs of 4 KB each second, and miners that come and go,
// all at once. No share is lost, and what the daemon holds in the last third of
// the time is what it held in the first.
//
// The limits: two descriptors more for each short session that may be there at
// a moment or not, and none when they are gone; a tenth and 8 MB more of private
// memory, since the collector lets garbage grow until it is as much as what is
// in use.
func TestLoadFull(t *testing.T) {
	t.Parallel()
	sessions, rate, seconds, visitors := 2000, 2000.0, 15, 500
	if *longTests {
		sessions, rate, seconds = 9000, 20000, 60
	}
	if raceDetector {
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
	c := fileConfig()
	c.StratumServerMap["btc"] = StratumServerInfo{URL: pool.Addr(), UserSuffix: "btc"}
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, unusedAddr(t)
	p := startProcess(t, c, map[string]string{"*": "btc"})
	fleet, err := stratumtest.NewLeanFleet(stratumtest.LeanFleetOptions{N: sessions, Addr: p.addr, WorkerName: func(i int) string { return fmt.Sprintf("alice.%d", i) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	eventually(t, "all mine", func() bool { return fleet.Stats().Mining == sessions })
	const shortAtATime = 200
	idle := p.descriptors()
	short := startShortSessions(p.addr, shortAtATime, []visit{
		{name: "mines", text: func(i int) string { return shortAuthorize(shortUser(i)) }, mines: true},
		{name: "leaves while it is authorized", text: func(i int) string { return shortAuthorize(shortUser(i)) }},
		{name: "subscribed only", text: func(int) string { return shortSubscribe }, until: `"id":1,`},
		{name: "silent", text: func(int) string { return "" }},
	})
	fleet.SetRate(rate)
	cpu := processCPU(t, p.cmd.Process.Pid)
	began := time.Now()

	third := [3]usage{}
	came, look := 0, began.Add(2*time.Second) // buffers and the heap come to their size in the beginning
	end := began.Add(time.Duration(seconds) * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for now := began; now.Before(end); now = <-tick.C {
		for busy := false; !busy && came < int(now.Sub(began).Seconds()*float64(visitors)); {
			select {
			case short.next <- came:
				came++
			default: // all are under way: later
				busy = true
			}
		}
		if now.After(look) {
			look = now.Add(500 * time.Millisecond)
			u, of := p.usage(c.HTTPDebugListenAddr), &third[min(2, int(3*now.Sub(began)/end.Sub(began)))]
			of.descriptors, of.goroutines, of.private = max(of.descriptors, u.descriptors), max(of.goroutines, u.goroutines), max(of.private, u.private)
		}
	}
	took := time.Since(began)
	cpu = processCPU(t, p.cmd.Process.Pid) - cpu
	short.finish(t)
	fleet.SetRate(0)
	eventually(t, "all shares answered", func() bool { st := fleet.Stats(); return st.Accepted+st.Rejected == st.Submitted })
	st := fleet.Stats()
	shares := st.Submitted + uint64(short.shares.Load())
	t.Logf("%d sessions, %.0f shares/s (aim %.0f, %d not tried), %.0f connects/s, for %v; %.0f jobs/s; daemon %.2f CPUs; slowest answer %v, 99 of 100 within %v",
		sessions, float64(shares)/took.Seconds(), rate, st.Missed, float64(short.done.Load())/took.Seconds(), took.Round(time.Second),
		float64(st.Jobs)/took.Seconds(), cpu.Seconds()/took.Seconds(), fleet.Latency.Quantile(1), fleet.Latency.Quantile(0.99))
	t.Logf("first third: %v", third[0])
	t.Logf("last third:  %v", third[2])
	if ps := pool.Stats(); ps.Strays > 0 || ps.Accepted != shares || st.Submitted != st.Accepted || st.Disconnected > 0 || len(st.Faults) > 0 {
		t.Errorf("%d shares submitted, %d accepted, %d refused, and %d of short sessions; the pool took %d, %d lines strange to it: %q; %d disconnected, %q",
			st.Submitted, st.Accepted, st.Rejected, short.shares.Load(), ps.Accepted, ps.Strays, ps.SomeStrays, st.Disconnected, st.Faults)
	}
	// How much the simulated miners and pool manage is the machine's matter; a
	// tenth is a load all the same.
	if least := uint64(rate / 10 * took.Seconds()); shares < least {
		t.Errorf("only %d shares, less than a tenth of the load aimed at", shares)
	}
	if n := short.done.Load(); n < int64(visitors)*int64(seconds)/10 {
		t.Errorf("only %d came and went", n)
	}
	if least := uint64(sessions * seconds / 10); st.Jobs < least {
		t.Errorf("only %d jobs reached the miners, want %d at least", st.Jobs, least)
	}
	if first, last := third[0], third[2]; last.descriptors > first.descriptors+2*shortAtATime || last.goroutines > first.goroutines+3 ||
		last.private > first.private+first.private/10+8<<10 {
		t.Error("what the daemon holds has grown")
	}
	eventually(t, fmt.Sprintf("%d descriptors as in the beginning", idle), func() bool { return p.descriptors() <= idle+2 })
	eventually(t, fmt.Sprintf("%d connections to the pool", sessions), func() bool { return pool.Stats().Connections == sessions })
}
