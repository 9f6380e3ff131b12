package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// withKinds sets in the configuration which pools pick the extranonce.
func withKinds(own ...*stratumtest.Pool) func(*Config) {
	return func(c *Config) {
		for _, p := range own {
			server := c.StratumServerMap[p.Name()]
			server.ExtraNonce = extranonceOfPool
			c.StratumServerMap[p.Name()] = server
		}
	}
}

func TestSessionPoolExtranonceOnly(t *testing.T) {
	t.Parallel()
	for length := range 9 {
		for size := 3; size <= 8; size++ {
			t.Run(fmt.Sprintf("P=%d,s=%d", length, size), func(t *testing.T) {
				t.Parallel()
				one, two := pickingPool(t, "one", length, size), pickingPool(t, "two", (length+3)%9, max(4, 11-size))
				coins := newMemoryCoins(map[string]string{"alice": "one"})
				sw := startSwitcher(t, coins, []*stratumtest.Pool{one, two}, withKinds(one, two))
				if size < poolOnlyWidth+poolOnlySize {
					r := stratumtest.DialRaw(t, sw.addr)
					r.Send(`{"id":1,"method":"mining.subscribe","params":["m"]}` + "\n" +
						`{"id":2,"method":"mining.authorize","params":["alice.one","x"]}` + "\n")
					r.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","80"],["mining.notify","80"]],"80",3],"error":null}`)
					r.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
					return
				}
				m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one", Configure: 0x1fffe000})
				waitPool(t, m, "one")
				waitAccepted(t, m, 5)
				for _, pool := range []string{"two", "one"} {
					coins.set("alice", pool)
					waitPool(t, m, pool)
					waitAccepted(t, m, 5)
				}
				checkMiner(t, m)
				checkPool(t, one)
				checkPool(t, two)
				if n := sw.notUnderstood.Load(); n > 0 {
					t.Errorf("%d lines were not understood", n)
				}
			})
		}
	}
}

// tour visits n pools in an order in which each is followed by each other once.
func tour(n int) []int {
	var stops []int
	for i := range n {
		for j := i + 1; j < n; j++ {
			stops = append(stops, i, j)
		}
	}
	return append(stops, 0)
}

// moveAll moves the account's miners along a tour of all pairs of pools. At each
// stop each miner must have shares accepted.
func moveAll(t *testing.T, coins *memoryCoins, account string, miners []*stratumtest.Miner, pools []*stratumtest.Pool) {
	t.Helper()
	for _, stop := range tour(len(pools)) {
		coins.set(account, pools[stop].Name())
		for _, m := range miners {
			waitPool(t, m, pools[stop].Name())
		}
		for _, m := range miners {
			waitAccepted(t, m, 2)
		}
	}
}

// kindsOfMiners are miners that differ in everything that matters to jobs and
// shares.
func kindsOfMiners(t *testing.T, addr, account string) []*stratumtest.Miner {
	t.Helper()
	var miners []*stratumtest.Miner
	for _, opts := range []stratumtest.MinerOptions{
		{Worker: account + ".plain"},
		{Worker: account + ".rolling", Configure: 0x1fffe000, Pipelined: true, IDs: stratumtest.IDStrings},
		{Worker: account + ".same", IDs: stratumtest.IDSame, ExtranonceSubscribe: true},
	} {
		opts.Addr = addr
		miners = append(miners, startMiner(t, opts))
	}
	return miners
}

// With both kinds of pools, a miner counts in m bytes and pools need 4 + m.
func TestSessionBothKinds(t *testing.T) {
	t.Parallel()
	for m := 1; m <= 4; m++ {
		t.Run(fmt.Sprintf("m=%d", m), func(t *testing.T) {
			t.Parallel()
			var pools, own []*stratumtest.Pool
			for _, name := range []string{"session", "other"} {
				pools = append(pools, startPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 3, VersionMask: 0x1fffe000}))
			}
			for size := 4 + m; size <= 8; size++ {
				for length := range 9 {
					if m < 4 && length%3 != size%3 {
						continue // the tour grows with the square of the number of pools
					}
					own = append(own, pickingPool(t, fmt.Sprintf("own%d%d", length, size), length, size))
				}
			}
			pools = append(pools, own...)
			coins := newMemoryCoins(map[string]string{"alice": "session"})
			sw := startSwitcher(t, coins, pools, func(c *Config) {
				withKinds(own...)(c)
				if m < 4 { // 4 is the default
					c.ExtraNonce2Size = m
				}
			})
			miners := kindsOfMiners(t, sw.addr, "alice")
			for _, miner := range miners {
				waitPool(t, miner, "session")
			}
			extranonce := miners[0].Extranonce1()
			moveAll(t, coins, "alice", miners, pools)
			if got := miners[0].Extranonce1(); got != extranonce || len(got) != 8 {
				t.Errorf("the extranonce is %[2]s, want %[1]s as before", extranonce, got)
			}
			for _, miner := range miners {
				checkMiner(t, miner)
			}
			for _, p := range pools {
				checkPool(t, p)
			}
			if n := sw.notUnderstood.Load(); n > 0 {
				t.Errorf("%d lines were not understood", n)
			}
		})
	}
}

func TestSessionPoolRotatesExtranonce(t *testing.T) {
	pool := pickingPool(t, "own", 4, 6)
	coins := newMemoryCoins(map[string]string{"alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{pool}, withKinds(pool))
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	waitPool(t, m, "own")
	for _, size := range []int{6, 4, 8, 5} {
		waitAccepted(t, m, 5)
		pool.RotateExtranonce(size, false)
		waitAccepted(t, m, 5)
	}
	checkMiner(t, m)
	checkPool(t, pool)
	if conns := pool.Conns(); len(conns) != 1 {
		t.Errorf("%d connections were made to the pool", len(conns))
	}
}

// A pool whose extranonce2 is too small for the session cannot be used, unless the
// miner can take the pool's extranonce.
func TestSessionSmallExtranonce(t *testing.T) {
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3})
	small := pickingPool(t, "small", 4, 4)
	coins := newMemoryCoins(map[string]string{"alice": "session"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{session, small}, withKinds(small))
	plain := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.plain"})
	able := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.able", ExtranonceSubscribe: true, FollowExtranonce: true})
	waitPool(t, plain, "session")
	waitPool(t, able, "session")
	coins.set("alice", "small")
	waitPool(t, able, "small")
	waitAccepted(t, able, 5)
	waitAccepted(t, plain, 5)
	if pool := plain.Stats().Pool; pool != "session" {
		t.Errorf("the plain miner is at %s", pool)
	}
	sw.accounts.mu.Lock()
	why := sw.accounts.accounts["alice"].lastError
	sw.accounts.mu.Unlock()
	if why != "pool gives extranonce2 size 4, this session needs 8" {
		t.Errorf("the reason is %q", why)
	}
	small.RotateExtranonce(4, false)
	waitAccepted(t, able, 5)
	coins.set("alice", "session")
	waitPool(t, able, "session")
	waitAccepted(t, able, 5)
	for _, m := range []*stratumtest.Miner{plain, able} {
		checkMiner(t, m)
	}
	checkPool(t, session)
	checkPool(t, small)
}

func TestSessionWorkerTemplate(t *testing.T) {
	pool := startPool(t, stratumtest.PoolOptions{
		Name: "own", ShareBits: 3, Own: &stratumtest.OwnExtranonce{Len: 4, Size: 4}, RecordLines: true,
		AcceptWorker: func(name string) bool { return name == "bc1q-alice+rig1@own" },
	})
	coins := newMemoryCoins(map[string]string{"alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{pool}, func(c *Config) {
		withKinds(pool)(c)
		server := c.StratumServerMap["own"]
		server.Worker, server.Password = "bc1q-{account}+{miner}@{suffix}", "d=1024"
		c.StratumServerMap["own"] = server
	})
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.rig1", Password: "secret"})
	waitPool(t, m, "own")
	waitAccepted(t, m, 5)
	checkMiner(t, m)
	checkPool(t, pool)
	if lines := pool.Lines(); !slices.ContainsFunc(lines, func(l string) bool {
		return strings.Contains(l, `"params":["bc1q-alice+rig1@own","d=1024"]`)
	}) {
		t.Errorf("no worker was authorized with the coin's password: %q", lines)
	}
}

func TestTranslationSurvivesOddLines(t *testing.T) {
	tr := &stratum.Translation{Coinb1: "aabb00", Coinb2: "ee", Before: "0011", After: "22", Digits: 6}
	jobs := map[string]string{
		`{"id":null,"method":"mining.notify","params":["1","p","c1","c2",[],true]}`:                  `{"id":null,"method":"mining.notify","params":["1","p","c1aabb00","eec2",[],true]}`,
		`{ "params" : [ "1" ,"p" , "c1" , "c2" , [ ] , true ] , "method" : "mining.notify" }`:        `{ "params" : [ "1" ,"p" , "c1aabb00" , "eec2" , [ ] , true ] , "method" : "mining.notify" }`,
		`{"id":"params","method":"mining.notify","params":["\"]","\\","\u0063","",["params"],true]}`: `{"id":"params","method":"mining.notify","params":["\"]","\\","\u0063aabb00","ee",["params"],true]}`,
	}
	for line, want := range jobs {
		got, ok := tr.AppendJob(nil, []byte(line))
		if !ok || string(got) != want {
			t.Errorf("%s\nwas understood: %v, and became %s\nwant %s", line, ok, got, want)
		}
	}
	shares := map[string]string{
		`{"id":1,"method":"mining.submit","params":["w","j","0a0b0c","t","n"]}`:              `{"id":1,"method":"mining.submit","params":["W","j","00110a0b0c22","t","n"]}`,
		`{"params": [ "w", "j", "\u0030a0b0c", "t", "n" ], "id":1,"method":"mining.submit"}`: `{"params": [ "W", "j", "00110a0b0c22", "t", "n" ], "id":1,"method":"mining.submit"}`,
	}
	for line, want := range shares {
		got, ok := tr.AppendShare(nil, []byte(line), func([]byte) []byte { return []byte("W") })
		if !ok || string(got) != want {
			t.Errorf("%s\nwas understood: %v, and became %s\nwant %s", line, ok, got, want)
		}
	}
	for _, line := range []string{"", "{}", `{"params":[]}`, `{"params":["w","j",7]}`, `{"params":["w","j","0a0b"]}`, `{"params":["w","j","0a0b0c`, `{"params":{"a":1}}`} {
		out := []byte("before")
		if got, ok := tr.AppendShare(out, []byte(line), nil); ok || string(got) != "before" {
			t.Errorf("%s was understood: %s", line, got)
		}
	}
}

// A miner that rolls versions can mine at a pool that does not know version
// rolling.
func TestSessionPoolWithoutRolling(t *testing.T) {
	t.Parallel()
	for name, modes := range map[string]stratumtest.Modes{
		"says so":   {NoVersionRolling: true},
		"is silent": {IgnoreConfigure: true},
	} {
		t.Run(name, func(t *testing.T) {
			btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 3, VersionMask: 0x1fffe000})
			old := startPool(t, stratumtest.PoolOptions{Name: "old", ShareBits: 3, Modes: modes})
			coins := newMemoryCoins(map[string]string{"alice": "btc"})
			sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, old}, nil)
			m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one", Configure: 0x1fffe000})
			for _, pool := range []string{"btc", "old", "btc", "old"} {
				coins.set("alice", pool)
				waitPool(t, m, pool)
				waitAccepted(t, m, 5)
			}
			checkMiner(t, m)
			checkPool(t, btc)
			checkPool(t, old)
		})
	}
}
