package main

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A pool drops all its links at once, is taken out for that, and never answers some other
// miners. Each of these holds a place for a probe as long as a handshake may last. The
// miners that were served come back all the same, whether their links were stable or not,
// and also if the pool turned them away at first. It makes no difference whether the
// others have failed there before, are new, or mined another coin until now.
func TestMinersThatLostTheirLinksComeBackWhileOthersHang(t *testing.T) {
	t.Parallel()
	for _, others := range []string{"known", "new", "switched"} {
		for _, stable := range []bool{false, true} {
			for _, away := range []bool{false, true} {
				if stable && !away {
					continue // the loss of stable links does not take an address out
				}
				t.Run(fmt.Sprintf("others %s, links stable %v, turned away %v", others, stable, away), func(t *testing.T) {
					t.Parallel()
					sc := newReturningScene(t, others, "")
					sc.serve(stable)
					sc.drop(away)
					sc.hang()
					sc.wantAllBack()
				})
			}
		}
	}
}

// The same if the pool closes the connections of the others at once. New ones come again
// and again, under ever new names and with different user agents.
func TestMinersThatLostTheirLinksComeBackWhileOthersAreClosedOn(t *testing.T) {
	t.Parallel()
	for _, closesAt := range []string{"mining.subscribe", "mining.authorize"} {
		t.Run("others new, closed at "+closesAt, func(t *testing.T) {
			t.Parallel()
			sc := newReturningScene(t, "new", closesAt)
			sc.serve(false)
			sc.drop(false)
			sc.storm()
			sc.wantAllBack()
		})
	}
	t.Run("others switched", func(t *testing.T) {
		t.Parallel()
		sc := newReturningScene(t, "switched", "mining.authorize")
		sc.serve(false)
		sc.drop(false)
		sc.hang()
		sc.wantAllBack()
	})
}

// returningScene is a pool that serves some miners and never answers others, or closes
// their connections. The others are "known" there because they failed before, or "new", or
// "switched" to its coin.
type returningScene struct {
	t         *testing.T
	sw        *testSwitcher
	pool      *testkit.ChoosyPool
	away      atomic.Bool // the pool closes all new connections
	closesAt  string      // the request at which the pool closes the others, which it does not answer if this is empty
	others    string
	good, bad []string // accounts
	goneAt    time.Time
}

func newReturningScene(t *testing.T, others, closesAt string) *returningScene {
	sc := &returningScene{t: t, others: others, closesAt: closesAt, good: testkit.ManyAccounts("a", 10), bad: testkit.ManyAccounts("b", 60)}
	sc.pool = testkit.StartChoosyPool(t, "btc", func(p *testkit.ChoosyPool) {
		p.OnAccept = func(*testkit.ChoosyLink) testkit.Conduct {
			if sc.away.Load() {
				return testkit.ConductClose
			}
			return testkit.ConductServe
		}
		p.OnSubscribe = func(_ *testkit.ChoosyLink, userAgent string) testkit.Conduct {
			if closesAt == "mining.subscribe" && strings.HasPrefix(userAgent, "bad/") {
				return testkit.ConductClose
			}
			return testkit.ConductServe
		}
		p.OnAuthorize = func(_ *testkit.ChoosyLink, worker string) testkit.Conduct {
			switch {
			case !testkit.IsBad(worker):
				return testkit.ConductServe
			case closesAt == "":
				return testkit.ConductHang
			}
			return testkit.ConductClose
		}
	})
	other := testkit.StartChoosyPool(t, "bcc", nil)
	coins := coinsOf("btc", sc.good...)
	for _, a := range sc.bad {
		coins.coins[a] = "btc"
		if others == "switched" {
			coins.coins[a] = "bcc"
		}
	}
	sc.sw = startSwitcher(t, coins, nil, func(c *Config) {
		coinAt("session", sc.pool.Addr())(c)
		c.StratumServerMap["bcc"] = StratumServerInfo{URL: other.Addr(), UserSuffix: "bcc"}
	})
	// The miners may not wait for two that hang one after the other.
	sc.sw.setTiming(func(tm *timing) {
		tm.poolHandshake, tm.noPool = 8*time.Second, 10*time.Second
		tm.reconnectMost, tm.switchRetryFirst = time.Second, 100*time.Millisecond
	})
	if others == "switched" {
		sc.connectOthers()
		eventually(t, "the others mine the other coin", func() bool { return len(other.Served()) == len(sc.bad) })
	}
	return sc
}

// serve connects the good miners. Only accepted shares make their links stable.
func (sc *returningScene) serve(stable bool) {
	if stable {
		testkit.WaitAllAccepted(sc.t, testkit.GoodCrew(sc.t, sc.sw.addr, len(sc.good), sc.good...), 1)
		return
	}
	for _, a := range sc.good {
		l := testkit.LogIn(sc.sw.addr, a+".good", "raw/1.0")
		sc.t.Cleanup(l.Close)
		if !l.Accepted() {
			sc.t.Fatalf("a miner was answered %q", l.Answer)
		}
	}
}

// drop makes the pool end all links that are mined on, until its address is taken out.
func (sc *returningScene) drop(away bool) {
	sc.away.Store(away)
	sc.pool.DropServed()
	sc.goneAt = time.Now()
	eventually(sc.t, "the address is taken out", func() bool { return sc.sw.timesTakenOut() > 0 })
	sc.away.Store(false)
}

// hang makes the others ask for the pool.
func (sc *returningScene) hang() {
	switch sc.others {
	case "switched":
		for _, a := range sc.bad {
			sc.sw.coins.set(a, "btc")
		}
		return
	case "known":
		h := sc.sw.health
		e := h.endpoint(netip.MustParseAddrPort(sc.pool.Addr()))
		h.mu.Lock()
		longAgo := h.now().Add(-30 * time.Second)
		for _, a := range sc.bad {
			h.remember(recordWorker, e, a+".bad", longAgo, longAgo)
		}
		h.mu.Unlock()
	}
	sc.connectOthers()
}

// storm makes the others connect again and again, under ever new names.
func (sc *returningScene) storm() {
	var names atomic.Int64
	var stops []func() map[string]int
	for i, a := range sc.bad {
		stops = append(stops, badCrowd(sc.t, sc.sw.addr, 1, 50*time.Millisecond, func(int) string { return fmt.Sprintf("%s.bad%d", a, names.Add(1)) }, fmt.Sprintf("bad/%d", i)))
	}
	// They end together, because each may still wait for its answer.
	sc.t.Cleanup(func() {
		var all sync.WaitGroup
		for _, stop := range stops {
			all.Go(func() { stop() })
		}
		all.Wait()
	})
}

func (sc *returningScene) connectOthers() {
	for _, a := range sc.bad {
		r := dialSubscribed(sc.t, sc.sw.addr)
		sc.t.Cleanup(r.Close)
		r.SendLine(fmt.Sprintf(`{"id":2,"method":"mining.authorize","params":["%s.bad","x"]}`, a))
	}
}

// wantAllBack waits until the pool serves all good miners again. They have not been closed
// meanwhile, because that takes longer.
func (sc *returningScene) wantAllBack() {
	sc.t.Helper()
	eventually(sc.t, "the pool serves the miners again", func() bool { return len(sc.pool.Served()) == len(sc.good) })
	sc.t.Logf("all were back %v after the loss", time.Since(sc.goneAt).Round(time.Millisecond))
}
