package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Two devices have the same worker name, and the pool closes the one that was
// there when the other comes. They take turns with pauses that grow; nobody
// else notices.
func TestPoolThatKeepsOneConnectionOfAWorker(t *testing.T) {
	t.Parallel()
	pool := startChoosyPool(t, "btc", func(p *choosyPool) {
		p.onAuthorize = func(k *choosyLink, worker string) conduct {
			for _, other := range p.all() {
				other.mu.Lock()
				if other != k && other.worker == worker {
					other.nc.Close()
				}
				other.mu.Unlock()
			}
			return conductServe
		}
	})
	sw := startSwitcher(t, coinsOf("btc", "alice", "bob", "carol"), nil, coinAt("session", pool.addr()))
	crew := goodCrew(t, sw.addr, 10, "alice", "bob", "carol")
	var doubles []*login
	for _, account := range []string{"alice", "bob", "carol"} {
		for range 2 {
			l := logIn(sw.addr, account+".same", "raw/1.0")
			defer l.close()
			doubles = append(doubles, l)
		}
	}
	before := pool.total.Load()
	for range 20 {
		wantPrompt(t, sw.addr, "bob.new", "btc")
		time.Sleep(200 * time.Millisecond)
	}
	n := pool.total.Load() - before - 20
	t.Logf("%d connections of %d doubled miners in 4 s", n, len(doubles))
	if n > 10*int64(len(doubles)) {
		t.Errorf("%d connections of %d miners in 4 s", n, len(doubles))
	}
	checkServed(t, crew, "btc", false)
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// A miner whose link is renewed at such a pool loses the old link before the
// new one is ready. It goes on, and is not counted as an unruly one.
func TestPoolThatKeepsOneConnectionAndAsksToReconnect(t *testing.T) {
	t.Parallel()
	pool := startChoosyPool(t, "btc", func(p *choosyPool) {
		p.onAuthorize = func(k *choosyLink, worker string) conduct {
			for _, other := range p.all() {
				other.mu.Lock()
				if other != k && other.worker == worker {
					other.nc.Close()
				}
				other.mu.Unlock()
			}
			time.Sleep(50 * time.Millisecond) // so that the end of the other comes first
			return conductServe
		}
	})
	sw := startSwitcher(t, coinsOf("btc", "alice", "bob", "carol"), nil, coinAt("session", pool.addr()))
	crew := goodCrew(t, sw.addr, 30, "alice", "bob", "carol")
	for _, k := range pool.all() {
		k.write(`{"id":null,"method":"client.reconnect","params":[]}`)
	}
	eventually(t, "all have new links", func() bool { return pool.total.Load() >= 60 && len(pool.served()) == 30 })
	waitAllAccepted(t, crew, 2)
	checkServed(t, crew, "btc", true)
	if n := pool.total.Load(); n > 100 {
		t.Errorf("%d connections for 60 links", n)
	}
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// A pool that answers mining.authorize just in time serves all its miners.
func TestPoolThatAnswersAtTheLastMoment(t *testing.T) {
	t.Parallel()
	pool := startChoosyPool(t, "btc", func(p *choosyPool) {
		p.onAuthorize = func(*choosyLink, string) conduct { time.Sleep(1800 * time.Millisecond); return conductServe }
	})
	accounts := manyAccounts("a", 10)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.addr()))
	sw.setTiming(func(tm *timing) { tm.poolHandshake = 2500 * time.Millisecond })
	crew := goodCrew(t, sw.addr, 100, accounts...)
	// Those that lose their links are served again.
	pool.dropAll()
	waitAllAccepted(t, crew, 2)
	checkServed(t, crew, "btc", true)
	if n := sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// An address that accepts connections and resets them is found to be out in
// three tries, by whomever, and new miners are at the backup at once.
func TestPoolThatResetsConnections(t *testing.T) {
	t.Parallel()
	reset := func(k *choosyLink) conduct {
		k.nc.(*net.TCPConn).SetLinger(0)
		return conductClose
	}
	pool := startChoosyPool(t, "btc", func(p *choosyPool) { p.onAccept = reset })
	backup := startChoosyPool(t, "backup", nil)
	accounts := manyAccounts("a", 5)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.addr(), backup.addr()))
	began := time.Now()
	for i := range 30 {
		wantPrompt(t, sw.addr, fmt.Sprintf("%s.%d", accounts[i%len(accounts)], i), "backup")
	}
	if n := sw.timesTakenOut(); n == 0 {
		t.Error("the address was not taken out")
	}
	probes := breakerFailures + int64(breakerProbes)*(2+int64(time.Since(began)/(breakerPauseFirst/2)))
	if n := pool.total.Load(); n > probes {
		t.Errorf("the address was dialled %d times by 30 miners, want at most %d", n, probes)
	}
}

// The first address is dead for a while, and the backup refuses all workers:
// miners that have mined wait for the first, and new ones are told what the
// backup says.
func TestBackupThatRefusesEveryone(t *testing.T) {
	t.Parallel()
	pool := startPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true})
	backup := startChoosyPool(t, "backup", func(p *choosyPool) {
		p.onAuthorize = func(*choosyLink, string) conduct { return conductRefuseClose }
	})
	accounts := manyAccounts("a", 5)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.Addr(), backup.addr()))
	crew := goodCrew(t, sw.addr, 20, accounts...)
	pool.Close()
	for i := range 3 {
		l := logIn(sw.addr, fmt.Sprintf("a%d.new", i), "raw/1.0")
		l.close()
		if l.answer != refusalAnswer(choosyRefusal) {
			t.Errorf("a new miner is told %q", l.answer)
		}
	}
	time.Sleep(3 * time.Second)
	if n := backup.total.Load(); n > 30*20 {
		t.Errorf("%d connections to the backup in 3 s", n)
	}
	if err := pool.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are back", func() bool { return sw.sessionsAt()[pool.Addr()] == len(crew) })
	waitAllAccepted(t, crew, 2)
	for _, m := range crew {
		if st := m.Stats(); st.Disconnected || st.AuthorizeError != "" {
			t.Errorf("%s: %+v", m.Worker(), st)
		}
	}
	if n := sw.timesTakenOut(); n == 0 {
		t.Error("the dead address was not taken out")
	}
}

// Two coins share an address. The pool picks the extranonce, which suits only
// one of them: that one's miners are not disturbed by the other's.
func TestCoinsOfOneAddressDifferInExtranonce(t *testing.T) {
	t.Parallel()
	pool := startChoosyPool(t, "btc", func(p *choosyPool) { p.own = true })
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "fits", "bob": "differs"}), nil, func(c *Config) {
		c.StratumServerMap["fits"] = StratumServerInfo{URL: pool.addr(), ExtraNonce: "pool"}
		c.StratumServerMap["differs"] = StratumServerInfo{URL: pool.addr(), ExtraNonce: "session"}
	})
	sw.setTiming(func(tm *timing) { tm.poolHandshake = time.Second })
	crew := goodCrew(t, sw.addr, 20, "alice")
	stop := badCrowd(t, sw.addr, 10, 20*time.Millisecond, workerNames("bob"), "raw/1.0")
	for i := range 10 {
		if i == 5 {
			pool.dropAll()
		}
		wantPrompt(t, sw.addr, "alice.new", "btc")
		time.Sleep(100 * time.Millisecond)
	}
	wantOnly(t, stop(), connectFailed)
	waitAllAccepted(t, crew, 2)
	checkServed(t, crew, "btc", true)
	if n := pool.total.Load(); n > 200 {
		t.Errorf("%d connections", n)
	}
}

// One account, a pool that hangs at mining.authorize, and a backup: all its
// miners are at the backup when the handshake's time is over.
func TestPoolThatHangsForAllWithBackup(t *testing.T) {
	t.Parallel()
	pool := startChoosyPool(t, "btc", func(p *choosyPool) {
		p.onAuthorize = func(*choosyLink, string) conduct { return conductHang }
	})
	backup := startChoosyPool(t, "backup", nil)
	sw := startSwitcher(t, coinsOf("btc", "alice"), nil, coinAt("session", pool.addr(), backup.addr()))
	sw.setTiming(func(tm *timing) { tm.poolHandshake = 1500 * time.Millisecond })
	const miners = 20
	logins := make(chan *login, miners)
	for i := range miners {
		go func() { logins <- logIn(sw.addr, fmt.Sprintf("alice.%d", i), "raw/1.0") }()
	}
	for range miners {
		l := <-logins
		defer l.close()
		if l.pool != "backup" || l.took > 2500*time.Millisecond {
			t.Errorf("pool %q after %v, answer %q", l.pool, l.took.Round(time.Millisecond), l.answer)
		}
	}
	// From then on it is known.
	wantPrompt(t, sw.addr, "alice.new", "backup")
	if n := sw.timesTakenOut(); n != 1 {
		t.Errorf("the address was taken out %d times", n)
	}
}

// A pool with an IPv6 address only.
func TestPoolWithIPv6Only(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	pool := serveChoosyPool(t, ln, "btc", nil)
	sw := startSwitcher(t, coinsOf("btc", "alice"), nil, coinAt("session", pool.addr()))
	crew := goodCrew(t, sw.addr, 10, "alice")
	pool.dropAll()
	waitAllAccepted(t, crew, 5)
	checkServed(t, crew, "btc", true)
}

// A pool that drops everybody again and again, each time after they have been
// served for a moment and had shares accepted, keeps its miners.
func TestPoolThatFlaps(t *testing.T) {
	t.Parallel()
	pool := startChoosyPool(t, "btc", nil)
	accounts := manyAccounts("a", 5)
	sw := startSwitcher(t, coinsOf("btc", accounts...), nil, coinAt("session", pool.addr()))
	crew := goodCrew(t, sw.addr, 20, accounts...)
	for range 6 {
		pool.dropAll()
		waitAllAccepted(t, crew, 1)
		wantPrompt(t, sw.addr, "a0.new", "btc")
	}
	checkServed(t, crew, "btc", true)
}
