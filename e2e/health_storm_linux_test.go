//go:build linux && e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"golang.org/x/sys/unix"
)

// everySecond calls do n times a second, each in a goroutine of its own, until the
// returned function is called, which waits for all of them.
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

// machineCPU returns the processor time that all programs have used since the start of
// the machine.
func machineCPU(t *testing.T) (used time.Duration) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	testkit.Must(t, err)
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	if _, err := fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+nice+system+irq+softirq+steal) * 10 * time.Millisecond
}

// ownCPU returns the processor time of this process.
func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	testkit.Must(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A thousand connections a second of workers that the pool refuses come beside a
// thousand good miners. New good ones wait at most a second longer than those that
// connect at the same time to a control daemon, which serves nobody else. No share
// is lost, and the daemon's work is bounded.
//
// If other programs take more than half a processor, the storm may be too much for what
// is left of the machine. Then half of it and a quarter of it are tried.
func TestStormOfBadWorkers(t *testing.T) {
	const miners, shares, newcomers, most = 1000, 500, 50, 1000
	storm := 2 * time.Second
	if *daemontest.Long {
		storm = time.Minute
	}
	for _, c := range []struct {
		name     string
		accounts int
		bad      testkit.Conduct
	}{
		{"refuses and closes, many accounts", 50, testkit.ConductRefuseClose},
		{"refuses and closes, one account", 1, testkit.ConductRefuseClose},
		{"closes, many accounts", 50, testkit.ConductClose},
		{"closes, one account", 1, testkit.ConductClose},
	} {
		// try returns what was wrong, and how many CPUs other programs used.
		try := func(t *testing.T, bad int) (wrong []string, others float64) {
			var mu sync.Mutex
			isWrong := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, fmt.Sprintf(format, args...))
			}
			accounts := testkit.ManyAccounts("a", c.accounts)
			coins := make(map[string]string)
			for _, a := range accounts {
				coins[a] = "btc"
			}
			start := func() *daemontest.Daemon {
				pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
					p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
						if testkit.IsBad(worker) {
							return c.bad
						}
						return testkit.ConductServe
					}
				})
				backup := testkit.StartChoosyPool(t, "backup", nil)
				config := daemontest.FileConfig()
				config.StratumServerMap["btc"] = daemontest.PoolConfig{URL: pool.Addr(), BackupURLs: []string{backup.Addr()}}
				return daemontest.Start(t, config, coins)
			}
			p, control := start(), start()
			defer p.Kill()
			defer control.Kill()
			f, err := stratumtest.NewLeanFleet(stratumtest.LeanFleetOptions{N: miners, Addr: p.Addr,
				WorkerName: func(i int) string { return fmt.Sprintf("%s.good%d", accounts[i%len(accounts)], i) }})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			testkit.WaitUntil(t, "all mine", func() bool { return f.Stats().Mining == miners })
			f.SetRate(shares)

			// logins makes new miners connect for a while, and returns the longest
			// wait.
			logins := func(d time.Duration, name string, p *daemontest.Daemon) time.Duration {
				var mu sync.Mutex
				var took []time.Duration
				stop := everySecond(newcomers, func(i int) {
					l := testkit.LogIn(p.Addr, fmt.Sprintf("%s.new%d", accounts[i%len(accounts)], i), "raw/1.0")
					l.Close()
					mu.Lock()
					defer mu.Unlock()
					if took = append(took, l.Took); l.Pool != "btc" {
						isWrong("a new miner got to pool %q and was answered %q", l.Pool, l.Answer)
					}
				})
				time.Sleep(d)
				stop()
				slices.Sort(took)
				t.Logf("%s: %d logins in %v: median %v, longest %v", name, len(took), d, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
				return took[len(took)-1]
			}
			var served, told atomic.Int64
			own := func() time.Duration { return ownCPU(t) + p.CPUTime() + control.CPUTime() }
			cpu, began, others0 := p.CPUTime(), time.Now(), machineCPU(t)-own()
			stop := everySecond(bad, func(i int) {
				l := testkit.LogIn(p.Addr, fmt.Sprintf("%s.bad%d", accounts[i%len(accounts)], i%bad), "raw/1.0")
				l.Close()
				switch {
				case l.Accepted():
					served.Add(1)
				case l.Answer == testkit.RefusalAnswer(testkit.ChoosyRefusal):
					told.Add(1)
				}
			})
			var longest, quiet time.Duration
			var both sync.WaitGroup
			both.Go(func() { longest = logins(storm, "under the storm", p) })
			both.Go(func() { quiet = logins(storm, "at the control daemon", control) })
			both.Wait()
			n := stop()
			used := (p.CPUTime() - cpu).Seconds() / time.Since(began).Seconds()
			others = (machineCPU(t) - own() - others0).Seconds() / time.Since(began).Seconds()
			t.Logf("%d bad connections in %v, of which %d were refused by the pool and %d got to the backup; the daemon used %.2f CPUs, other programs %.2f",
				n, time.Since(began).Round(time.Millisecond), told.Load(), served.Load(), used, others)
			if longest > quiet+time.Second {
				isWrong("a login took %v, which is too much longer than the %v at the control daemon", longest, quiet)
			}
			if c.bad == testkit.ConductRefuseClose && told.Load() != int64(n) || c.bad == testkit.ConductClose && served.Load() != int64(n) {
				isWrong("of %d bad workers %d were refused by the pool and %d got to the backup", n, told.Load(), served.Load())
			}
			if used > 1 && !*daemontest.DaemonRace {
				isWrong("the daemon used %.2f CPUs, which is too much", used)
			}
			f.SetRate(0)
			testkit.WaitUntil(t, "all shares are answered", func() bool { st := f.Stats(); return st.Accepted+st.Rejected == st.Submitted })
			if st := f.Stats(); st.Rejected > 0 || st.Disconnected > 0 || len(st.Faults) > 0 {
				isWrong("good miners were not all undisturbed: %+v", st)
			}
			if lines := p.LogLines(`(.*taken out.*)`); len(lines) > 0 {
				isWrong("unexpected log lines: %q", lines)
			}
			return wrong, others
		}
		t.Run(c.name, func(t *testing.T) {
			for bad := most; ; bad /= 2 {
				wrong, others := try(t, bad)
				if len(wrong) > 0 && others > 0.5 && bad > most/4 {
					t.Logf("beside other programs, which used %.2f CPUs: %q", others, wrong)
					continue
				}
				for _, what := range wrong {
					t.Error(what)
				}
				return
			}
		})
	}
}
