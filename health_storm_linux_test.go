//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// cpuTime is what the daemon has used so far.
func (p *process) cpuTime() time.Duration {
	p.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// everySecond calls do n times a second, each in a goroutine of its own, until
// the function returned is called, which waits for all of them.
func everySecond(n int, do func(i int)) (stop func() (calls int)) {
	ended := make(chan struct{})
	var loop, all sync.WaitGroup
	calls := 0
	loop.Go(func() {
		began := time.Now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case now := <-tick.C:
				for due := int(now.Sub(began).Seconds() * float64(n)); calls < due; calls++ {
					i := calls
					all.Go(func() { do(i) })
				}
			}
		}
	})
	return func() int { close(ended); loop.Wait(); all.Wait(); return calls }
}

// A thousand connections a second of workers that the pool does not want, beside
// a thousand miners. New good ones wait at most a second longer than those that
// come at the same times to a control daemon beside it, which serves nobody else;
// no share is lost, and the daemon's work has an end.
func TestStormOfBadWorkers(t *testing.T) {
	const miners, shares, newcomers, bad = 1000, 500, 50, 1000
	storm := 2 * time.Second
	if *longTests {
		storm = time.Minute
	}
	for _, c := range []struct {
		name     string
		accounts int
		bad      conduct
	}{
		{"refuses and closes, many accounts", 50, conductRefuseClose},
		{"refuses and closes, one account", 1, conductRefuseClose},
		{"closes, many accounts", 50, conductClose},
		{"closes, one account", 1, conductClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			accounts := manyAccounts("a", c.accounts)
			coins := make(map[string]string)
			for _, a := range accounts {
				coins[a] = "btc"
			}
			start := func() *process {
				pool := startChoosyPool(t, "btc", func(p *choosyPool) {
					p.onAuthorize = func(k *choosyLink, worker string) conduct {
						if isBad(worker) {
							return c.bad
						}
						return conductServe
					}
				})
				backup := startChoosyPool(t, "backup", nil)
				config := fileConfig()
				config.StratumServerMap["btc"] = StratumServerInfo{URL: pool.addr(), BackupURLs: []string{backup.addr()}}
				return startProcess(t, config, coins)
			}
			p, control := start(), start()
			f, err := stratumtest.NewLeanFleet(stratumtest.LeanFleetOptions{N: miners, Addr: p.addr,
				WorkerName: func(i int) string { return fmt.Sprintf("%s.good%d", accounts[i%len(accounts)], i) }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.Close)
			eventually(t, "all mine", func() bool { return f.Stats().Mining == miners })
			f.SetRate(shares)

			// logins has new miners come for a while, and gives the longest wait.
			logins := func(d time.Duration, name string, p *process) time.Duration {
				var mu sync.Mutex
				var took []time.Duration
				stop := everySecond(newcomers, func(i int) {
					l := logIn(p.addr, fmt.Sprintf("%s.new%d", accounts[i%len(accounts)], i), "raw/1.0")
					l.close()
					mu.Lock()
					defer mu.Unlock()
					if took = append(took, l.took); l.pool != "btc" {
						t.Errorf("a new miner gets pool %q, answer %q", l.pool, l.answer)
					}
				})
				time.Sleep(d)
				stop()
				slices.Sort(took)
				t.Logf("%s: %d logins in %v: median %v, longest %v", name, len(took), d, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
				return took[len(took)-1]
			}
			var served, told atomic.Int64
			cpu, began := p.cpuTime(), time.Now()
			stop := everySecond(bad, func(i int) {
				l := logIn(p.addr, fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i%bad), "raw/1.0")
				l.close()
				switch {
				case l.accepted():
					served.Add(1)
				case l.answer == refusalAnswer(choosyRefusal):
					told.Add(1)
				}
			})
			var longest, quiet time.Duration
			var both sync.WaitGroup
			both.Go(func() { longest = logins(storm, "under the storm", p) })
			both.Go(func() { quiet = logins(storm, "at the control daemon", control) })
			both.Wait()
			n := stop()
			used := (p.cpuTime() - cpu).Seconds() / time.Since(began).Seconds()
			t.Logf("%d bad connections in %v, of which %d were told by the pool and %d were at the backup; the daemon used %.2f CPUs",
				n, time.Since(began).Round(time.Millisecond), told.Load(), served.Load(), used)
			if longest > quiet+time.Second {
				t.Errorf("a login took %v, at the control daemon %v", longest, quiet)
			}
			if c.bad == conductRefuseClose && told.Load() != int64(n) || c.bad == conductClose && served.Load() != int64(n) {
				t.Errorf("of %d bad workers %d were told by the pool and %d were at the backup", n, told.Load(), served.Load())
			}
			if used > 1 && !raceDetector {
				t.Errorf("the daemon used %.2f CPUs", used)
			}
			f.SetRate(0)
			eventually(t, "all shares are answered", func() bool { st := f.Stats(); return st.Accepted+st.Rejected == st.Submitted })
			if st := f.Stats(); st.Rejected > 0 || st.Disconnected > 0 || len(st.Faults) > 0 {
				t.Errorf("good miners: %+v", st)
			}
			if lines := p.logLines(`(.*taken out.*)`); len(lines) > 0 {
				t.Errorf("logged: %q", lines)
			}
		})
	}
}
