package main

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A pool accepts workers, gives a job and closes. It is not dialled endlessly: with
// a backup, the miners are there soon, and stay there.
func TestPoolThatClosesAfterTheJobLosesItsMinersToTheBackup(t *testing.T) {
	t.Parallel()
	for _, accounts := range [][]string{{"alice"}, testkit.ManyAccounts("a", 10)} {
		t.Run(fmt.Sprintf("accounts %d", len(accounts)), func(t *testing.T) {
			t.Parallel()
			pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
				p.OnAuthorize = func(*testkit.ChoosyLink, string) testkit.Conduct { return testkit.ConductJobClose }
			})
			backup := testkit.StartChoosyPool(t, "backup", nil)
			sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr(), backup.Addr()))
			const miners = 50
			crew := testkit.GoodCrew(t, sw.addr, miners, accounts...)
			eventually(t, "all mine at the backup", func() bool { return sw.sessionsAt()[backup.Addr()] == miners })
			before := pool.Total.Load()
			time.Sleep(3 * time.Second)
			// Now and then a miner tries the first pool again and is back at once.
			for _, m := range crew {
				waitPool(t, m, "backup")
			}
			testkit.CheckServed(t, crew, "", true)
			if n := pool.Total.Load(); before > 3*miners || n-before > miners {
				t.Errorf("there were %d connections to the pool until all were at the backup, and then %d more in 3 s", before, n-before)
			}
			t.Logf("%d connections until all were at the backup, then %d more in 3 s", before, pool.Total.Load()-before)
		})
	}
}

// Without a backup, each miner has ten tries with growing pauses. Then it is
// closed, so that its own failover can act. If all addresses are out, it waits no
// longer than noPool.
func TestPoolThatClosesAfterTheJobWithoutBackup(t *testing.T) {
	t.Parallel()
	t.Run("one miner", func(t *testing.T) {
		t.Parallel()
		pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
			p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct { return testkit.ConductJobClose }
		})
		sw := startSwitcher(t, coinsOf("btc", "alice"), nil, coinAt("session", pool.Addr()))
		sw.setTiming(impatient)
		l := testkit.LogIn(sw.addr, "alice.1", "raw/1.0")
		defer l.Close()
		if !l.Accepted() {
			t.Fatalf("the miner was answered %q", l.Answer)
		}
		eventually(t, "the miner is closed", func() bool { return sw.sessionCount() == 0 })
		if n := pool.Total.Load(); n != maxReconnects {
			t.Errorf("there were %d connections, want %d", n, maxReconnects)
		}
	})
	t.Run("fifty miners", func(t *testing.T) {
		t.Parallel()
		pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
			p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct { return testkit.ConductJobClose }
		})
		accounts := testkit.ManyAccounts("a", 10)
		sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr()))
		sw.setTiming(func(tm *timing) {
			impatient(tm)
			tm.poolHandshake, tm.noPool = 2*time.Second, 3*time.Second
		})
		const miners = 50
		var crew sync.WaitGroup
		for i := range miners {
			crew.Go(func() {
				l := testkit.LogIn(sw.addr, fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i), "raw/1.0")
				if l.Accepted() {
					io.Copy(io.Discard, l.Nc) // until the connection is closed
				} else if l.Answer != testkit.ConnectFailed {
					t.Errorf("a miner was answered %q", l.Answer)
				}
				l.Close()
			})
		}
		crew.Wait()
		if n := pool.Total.Load(); n > (1+maxReconnects)*miners {
			t.Errorf("there were %d connections of %d miners, which is too many", n, miners)
		}
		t.Logf("%d connections of %d miners", pool.Total.Load(), miners)
	})
}

// A coin with many sub-accounts, at a pool that needs long for each handshake, does
// not delay another coin's new miners, and its own do not fail.
func TestSlowPoolHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	const accounts, delay = 150, 800 * time.Millisecond
	slow := testkit.StartChoosyPool(t, "slow", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(*testkit.ChoosyLink, string) testkit.Conduct { time.Sleep(delay); return testkit.ConductServe }
	})
	quick := testkit.StartChoosyPool(t, "quick", nil)
	names := testkit.ManyAccounts("s", accounts)
	coins := coinsOf("slow", names...)
	coins.coins["alice"] = "quick"
	sw := startSwitcher(t, coins, nil, func(c *Config) {
		// In total this is 150 / 32 handshakes of 0.8 s, which is 4 s.
		c.MaxPoolDials = 32
		c.StratumServerMap["slow"] = StratumServerInfo{URL: slow.Addr()}
		c.StratumServerMap["quick"] = StratumServerInfo{URL: quick.Addr()}
	})
	// However busy the machine is, the slow pool has a queue while the others log in.
	var mu sync.Mutex
	var served []*testkit.Login
	var all sync.WaitGroup
	started := 0
	fill := func() {
		mu.Lock()
		defer mu.Unlock()
		for ; started < len(served)+accounts; started++ {
			worker := fmt.Sprintf("%s.%d", names[started%accounts], started)
			all.Go(func() {
				l := testkit.LogIn(sw.addr, worker, "raw/1.0")
				mu.Lock()
				served = append(served, l)
				mu.Unlock()
			})
		}
	}
	fill()
	eventually(t, "the slow pool's miners wait", func() bool { return sw.sessionsIn(phaseRouting) > accounts/2 })
	for logins := 0; logins < 10 || logins < 40 && sw.sessionsIn(phaseRouting) > 0; logins++ {
		if logins < 10 {
			fill()
		}
		testkit.WantPrompt(t, sw.addr, "alice.1", "quick")
		time.Sleep(50 * time.Millisecond)
	}
	all.Wait()
	for _, l := range served {
		if !l.Accepted() {
			t.Errorf("a miner of the slow pool was answered %q after %v", l.Answer, l.Took)
		}
		l.Close()
	}
}

// Six workers get no more jobs while thirty do. Only their links are renewed. The
// old links are used until then, no share is lost, and the address is not taken
// out.
func TestLinksWithoutJobsAreRenewedAlone(t *testing.T) {
	t.Parallel()
	const miners, silent = 36, 6
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
			if testkit.IsBad(worker) && p.Asked(worker) == 1 {
				return testkit.ConductMute
			}
			return testkit.ConductServe
		}
	})
	pool.GiveJobs(t, 100*time.Millisecond)
	accounts := testkit.ManyAccounts("a", 6)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, func(c *Config) {
		coinAt("session", pool.Addr())(c)
		c.PoolIdleSeconds = 3 // a busy machine delays jobs
		c.DrainSeconds = 1
	})
	var crew []*stratumtest.Miner
	for i := range miners {
		kind := "good"
		if i < silent {
			kind = "bad"
		}
		crew = append(crew, testkit.GoodMiner(t, sw.addr, fmt.Sprintf("%s.%s%d", accounts[i%len(accounts)], kind, i)))
	}
	testkit.WaitAllAccepted(t, crew, 1)
	waitUntil(t, "the silent links are renewed", func() bool {
		for _, m := range crew[:silent] {
			if pool.Asked(m.Worker()) < 2 {
				return false
			}
		}
		return true
	})
	jobs := make([]uint64, len(crew))
	for i, m := range crew {
		jobs[i] = m.Stats().Jobs
	}
	for i, m := range crew {
		if err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.Jobs > jobs[i]+5 }); err != nil {
			t.Errorf("miner %s: %v", m.Worker(), err)
		}
	}
	testkit.CheckServed(t, crew, "btc", false)
	if n := pool.Total.Load(); n != miners+silent {
		t.Errorf("there were %d connections, want %d", n, miners+silent)
	}
	if n, lost := sw.timesTakenOut(), sw.linksLost.Load(); n > 0 || lost > 0 {
		t.Errorf("the address was taken out %d times and %d links were lost, want none", n, lost)
	}
}

// The pool never gives some workers another job, whatever link they have. Their
// links are renewed now and then, and keep serving because the pool accepts their
// shares.
func TestLinksThatNeverGetJobsAreNobodyElsesTrouble(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
			if testkit.IsBad(worker) {
				return testkit.ConductMute
			}
			return testkit.ConductServe
		}
	})
	pool.GiveJobs(t, 100*time.Millisecond)
	accounts := testkit.ManyAccounts("a", 6)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, func(c *Config) {
		coinAt("session", pool.Addr())(c)
		c.PoolIdleSeconds = 3 // a busy machine delays jobs
		c.DrainSeconds = 1
	})
	good := testkit.GoodCrew(t, sw.addr, 30, accounts...)
	var bad []*stratumtest.Miner
	for i, a := range accounts {
		bad = append(bad, testkit.GoodMiner(t, sw.addr, fmt.Sprintf("%s.bad%d", a, i)))
	}
	waitUntil(t, "the silent links are renewed twice", func() bool {
		for _, m := range bad {
			if pool.Asked(m.Worker()) < 3 {
				return false
			}
		}
		return true
	})
	testkit.WantPrompt(t, sw.addr, "a0.new", "btc")
	testkit.CheckServed(t, append(good, bad...), "btc", false)
	for _, m := range good {
		if n := pool.Asked(m.Worker()); n != 1 {
			t.Errorf("%s has had %d links", m.Worker(), n)
		}
	}
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}
