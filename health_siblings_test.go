package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Two devices have the same worker name, and the pool closes the connection of the
// one when the other connects. They take turns with growing pauses, and nobody else
// notices.
func TestPoolThatKeepsOneConnectionOfAWorker(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
			for _, other := range p.All() {
				other.Mu.Lock()
				if other != k && other.Worker == worker {
					other.Nc.Close()
				}
				other.Mu.Unlock()
			}
			return testkit.ConductServe
		}
	})
	sw := startSwitcher(t, coinsOf("btc", "alice", "bob", "carol"), nil, coinAt("session", pool.Addr()))
	crew := testkit.GoodCrew(t, sw.addr, 10, "alice", "bob", "carol")
	var doubles []*testkit.Login
	for _, account := range []string{"alice", "bob", "carol"} {
		for range 2 {
			l := testkit.LogIn(sw.addr, account+".same", "raw/1.0")
			defer l.Close()
			doubles = append(doubles, l)
		}
	}
	before, began := pool.Total.Load(), time.Now()
	for range 20 {
		testkit.WantPrompt(t, sw.addr, "bob.new", "btc")
		time.Sleep(200 * time.Millisecond)
	}
	n, took := pool.Total.Load()-before-20, time.Since(began)
	t.Logf("%d connections of %d doubled miners in %v", n, len(doubles), took.Round(time.Millisecond))
	// These are ten per miner, if the machine does not make it last longer than it should.
	if float64(n) > 10*float64(len(doubles))*max(1, took.Seconds()/5) {
		t.Errorf("there were %d connections of %d miners in %v, which is too many", n, len(doubles), took)
	}
	testkit.CheckServed(t, crew, "btc", false)
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// If the link of a miner is renewed at such a pool, the old link is lost before the
// new one is ready. The miner continues, and this is not held against it.
func TestPoolThatKeepsOneConnectionAndAsksToReconnect(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
			for _, other := range p.All() {
				other.Mu.Lock()
				if other != k && other.Worker == worker {
					other.Nc.Close()
				}
				other.Mu.Unlock()
			}
			time.Sleep(50 * time.Millisecond) // so that the end of the other link comes first
			return testkit.ConductServe
		}
	})
	sw := startSwitcher(t, coinsOf("btc", "alice", "bob", "carol"), nil, coinAt("session", pool.Addr()))
	crew := testkit.GoodCrew(t, sw.addr, 30, "alice", "bob", "carol")
	for _, k := range pool.All() {
		k.Write(`{"id":null,"method":"client.reconnect","params":[]}`)
	}
	eventually(t, "all have new links", func() bool { return pool.Total.Load() >= 60 && len(pool.Served()) == 30 })
	testkit.WaitAllAccepted(t, crew, 2)
	testkit.CheckServed(t, crew, "btc", true)
	if n := pool.Total.Load(); n > 100 {
		t.Errorf("there were %d connections for 60 links", n)
	}
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// A pool that answers mining.authorize just in time serves all its miners.
func TestPoolThatAnswersAtTheLastMoment(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(*testkit.ChoosyLink, string) testkit.Conduct {
			time.Sleep(2800 * time.Millisecond)
			return testkit.ConductServe
		}
	})
	accounts := testkit.ManyAccounts("a", 10)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr()))
	sw.setTiming(func(tm *timing) { tm.poolHandshake = 4500 * time.Millisecond })
	crew := testkit.GoodCrew(t, sw.addr, 100, accounts...)
	// Miners that lose their links are served again.
	pool.DropAll()
	testkit.WaitAllAccepted(t, crew, 2)
	testkit.CheckServed(t, crew, "btc", true)
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// An address that accepts connections and resets them is taken out after three
// tries, whoever makes them, and new miners get to the backup at once.
func TestPoolThatResetsConnections(t *testing.T) {
	t.Parallel()
	reset := func(k *testkit.ChoosyLink) testkit.Conduct {
		k.Nc.(*net.TCPConn).SetLinger(0)
		return testkit.ConductClose
	}
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) { p.OnAccept = reset })
	backup := testkit.StartChoosyPool(t, "backup", nil)
	accounts := testkit.ManyAccounts("a", 5)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr(), backup.Addr()))
	began := time.Now()
	for i := range 30 {
		testkit.WantPrompt(t, sw.addr, fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i), "backup")
	}
	if n := sw.timesTakenOut(); n == 0 {
		t.Error("the address was not taken out")
	}
	probes := breakerFailures + int64(breakerProbes)*(2+int64(time.Since(began)/(breakerPauseFirst/2)))
	if n := pool.Total.Load(); n > probes {
		t.Errorf("the address was dialled %d times by 30 miners, want at most %d", n, probes)
	}
}

// The first address is down for a while, and the backup refuses all workers. Miners
// that have mined wait for the first, and new ones get the backup's answer.
func TestBackupThatRefusesEveryone(t *testing.T) {
	t.Parallel()
	pool := startPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true})
	backup := testkit.StartChoosyPool(t, "backup", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(*testkit.ChoosyLink, string) testkit.Conduct { return testkit.ConductRefuseClose }
	})
	accounts := testkit.ManyAccounts("a", 5)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr(), backup.Addr()))
	crew := testkit.GoodCrew(t, sw.addr, 20, accounts...)
	pool.Close()
	for i := range 3 {
		l := testkit.LogIn(sw.addr, fmt.Sprintf("a%d.new", i), "raw/1.0")
		l.Close()
		if l.Answer != testkit.RefusalAnswer(testkit.ChoosyRefusal) {
			t.Errorf("a new miner was answered %q", l.Answer)
		}
	}
	time.Sleep(3 * time.Second)
	if n := backup.Total.Load(); n > 30*20 {
		t.Errorf("there were %d connections to the backup in 3 s", n)
	}
	if err := pool.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are back", func() bool { return sw.sessionsAt()[pool.Addr()] == len(crew) })
	testkit.WaitAllAccepted(t, crew, 2)
	for _, m := range crew {
		if st := m.Stats(); st.Disconnected || st.AuthorizeError != "" {
			t.Errorf("unexpected statistics of miner %s: %+v", m.Worker(), st)
		}
	}
	if n := sw.timesTakenOut(); n == 0 {
		t.Error("the address that is down was not taken out")
	}
}

// Two coins share an address. Its pool picks the extranonce, which is right for
// only one of them. The miners of that coin are not disturbed by the other's.
func TestCoinsOfOneAddressDifferInExtranonce(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) { p.Own = true })
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "fits", "bob": "differs"}), nil, func(c *Config) {
		c.StratumServerMap["fits"] = StratumServerInfo{URL: pool.Addr(), ExtraNonce: "pool"}
		c.StratumServerMap["differs"] = StratumServerInfo{URL: pool.Addr(), ExtraNonce: "session"}
	})
	sw.setTiming(func(tm *timing) { tm.poolHandshake = time.Second })
	crew := testkit.GoodCrew(t, sw.addr, 20, "alice")
	stop := badCrowd(t, sw.addr, 10, 20*time.Millisecond, workerNames("bob"), "raw/1.0")
	for i := range 10 {
		if i == 5 {
			pool.DropAll()
		}
		testkit.WantPrompt(t, sw.addr, "alice.new", "btc")
		time.Sleep(100 * time.Millisecond)
	}
	wantOnly(t, stop(), testkit.ConnectFailed)
	testkit.WaitAllAccepted(t, crew, 2)
	testkit.CheckServedAnew(t, crew, "btc")
	if n := pool.Total.Load(); n > 200 {
		t.Errorf("there were %d connections", n)
	}
}

// There are one account, a pool that hangs at mining.authorize, and a backup. All
// miners of the account are at the backup when the handshake's time is over.
func TestPoolThatHangsForAllWithBackup(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAuthorize = func(*testkit.ChoosyLink, string) testkit.Conduct { return testkit.ConductHang }
	})
	backup := testkit.StartChoosyPool(t, "backup", nil)
	sw := startSwitcher(t, coinsOf("btc", "alice"), nil, coinAt("session", pool.Addr(), backup.Addr()))
	sw.setTiming(func(tm *timing) { tm.poolHandshake = 3 * time.Second })
	const miners = 20
	logins := make(chan *testkit.Login, miners)
	delay := testkit.MeasureDelay(t)
	for i := range miners {
		go func() { logins <- testkit.LogIn(sw.addr, fmt.Sprintf("alice.%d", i), "raw/1.0") }()
	}
	var served []*testkit.Login
	for range miners {
		l := <-logins
		defer l.Close()
		served = append(served, l)
	}
	limit := 4*time.Second + delay()
	for _, l := range served {
		if l.Pool != "backup" || l.Took > limit {
			t.Errorf("a miner got to pool %q after %v, with answer %q", l.Pool, l.Took.Round(time.Millisecond), l.Answer)
		}
	}
	// From then on it is known that the pool hangs.
	testkit.WantPrompt(t, sw.addr, "alice.new", "backup")
	if n := sw.timesTakenOut(); n != 1 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// The pool only has an IPv6 address.
func TestPoolWithIPv6Only(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	pool := testkit.ServeChoosyPool(t, ln, "btc", nil)
	sw := startSwitcher(t, coinsOf("btc", "alice"), nil, coinAt("session", pool.Addr()))
	crew := testkit.GoodCrew(t, sw.addr, 10, "alice")
	pool.DropAll()
	testkit.WaitAllAccepted(t, crew, 5)
	testkit.CheckServed(t, crew, "btc", true)
}

// A pool drops everybody again and again, each time after they were served for a
// moment and had shares accepted. It keeps its miners.
func TestPoolThatFlaps(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", nil)
	accounts := testkit.ManyAccounts("a", 5)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr()))
	crew := testkit.GoodCrew(t, sw.addr, 20, accounts...)
	for range 6 {
		pool.DropAll()
		testkit.WaitAllAccepted(t, crew, 1)
		testkit.WantPrompt(t, sw.addr, "a0.new", "btc")
	}
	testkit.CheckServed(t, crew, "btc", true)
}
