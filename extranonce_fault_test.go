package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A share for a job of the former pool is translated for that pool.
func TestSessionLateSharesOfPickingPools(t *testing.T) {
	t.Parallel()
	one, two := pickingPool(t, "one", 4, 8), pickingPool(t, "two", 7, 8)
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000})
	pools := []*stratumtest.Pool{one, session, two}
	coins := newMemoryCoins(map[string]string{"alice": "one"})
	sw := startSwitcher(t, coins, pools, withKinds(one, two))
	var miners []*stratumtest.Miner
	for _, mask := range []uint32{0, 0x1fffe000} {
		m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.w", Configure: mask, LateShares: 1, LateAfter: 10 * time.Millisecond})
		waitPool(t, m, "one")
		miners = append(miners, m)
	}
	for i, stop := range tour(len(pools))[1:] {
		coins.set("alice", pools[stop].Name())
		for _, m := range miners {
			waitPool(t, m, pools[stop].Name())
			// All pools keep their one job. The late share comes first, because
			// otherwise it could be meant for the same pool's next extranonce.
			err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.Late > uint64(i) })
			if err != nil {
				t.Fatal(err)
			}
			waitAccepted(t, m, 2)
		}
	}
	for _, m := range miners {
		checkMiner(t, m)
	}
	for _, p := range pools {
		checkPool(t, p)
	}
}

// Backups and the pool itself need not give the same sizes.
func TestSessionPickingPoolFailover(t *testing.T) {
	t.Parallel()
	first, tooSmall, backup := pickingPool(t, "first", 4, 8), pickingPool(t, "small", 4, 3), pickingPool(t, "backup", 2, 5)
	coins := newMemoryCoins(map[string]string{"alice": "first"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{first}, func(c *Config) {
		withKinds(first)(c)
		server := c.StratumServerMap["first"]
		server.BackupURLs = []string{tooSmall.Addr(), backup.Addr()}
		c.StratumServerMap["first"] = server
	})
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one", Configure: 0x1fffe000})
	waitPool(t, m, "first")
	mayLose := uint64(0)
	for range 2 {
		waitAccepted(t, m, 5)
		lost := time.Now()
		first.Close()
		waitPool(t, m, "backup")
		mayLose += sharesOfLoss(lost)
		waitAccepted(t, m, 5)
		if err := first.Restart(); err != nil {
			t.Fatal(err)
		}
		lost = time.Now()
		backup.Close() // long before the sessions would return to the first pool
		waitPool(t, m, "first")
		mayLose += sharesOfLoss(lost)
		if err := backup.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	if st := m.Stats(); st.Disconnected || len(st.Violations) > 0 || st.Rejected > mayLose {
		t.Errorf("unexpected statistics of the miner: %+v", st)
	}
	for _, p := range []*stratumtest.Pool{first, tooSmall, backup} {
		checkFaults(t, p)
	}
}

// sharesOfLoss returns how many of a miner's shares may be refused because its pool was
// lost at that time: one that was on its way, and the next one, whose job is lost too. A
// simulated miner that has no answer for two seconds submits another one.
func sharesOfLoss(lost time.Time) uint64 {
	if time.Since(lost) > 2*time.Second {
		return 3
	}
	return 2
}

// A pool that recovers gives another extranonce.
func TestSessionPickingPoolRestarts(t *testing.T) {
	t.Parallel()
	pool := pickingPool(t, "own", 8, 7)
	coins := newMemoryCoins(map[string]string{"alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{pool}, withKinds(pool))
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	mayLose := uint64(0)
	for range 3 {
		waitPool(t, m, "own")
		waitAccepted(t, m, 5)
		jobs := m.Stats().CleanJobs
		lost := time.Now()
		pool.Close()
		if err := pool.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.CleanJobs > jobs }); err != nil {
			t.Fatal(err)
		}
		mayLose += sharesOfLoss(lost)
	}
	waitAccepted(t, m, 5)
	// The pool's job is the same, but its coinbase is not.
	if st := m.Stats(); st.Disconnected || len(st.Violations) > 0 || st.Rejected > mayLose {
		t.Errorf("unexpected statistics of the miner: %+v", st)
	}
	checkFaults(t, pool)
}

// Agents need "session" pools. Other miners continue at the pool that agents cannot
// use.
func TestSessionAgentAtPickingPool(t *testing.T) {
	session, own := startPool(t, stratumtest.PoolOptions{Name: "session"}), pickingPool(t, "own", 4, 8)
	coins := newMemoryCoins(map[string]string{"farm": "own", "agent": "session", "alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{session, own}, withKinds(own))
	alice := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	waitPool(t, alice, "own")
	dials := own.Stats().ConnectionsTotal
	for i := range 2 * breakerFailures {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(`{"id":1,"method":"mining.subscribe","params":["btccom-agent/1"]}` + "\n" + `{"id":2,"method":"mining.authorize","params":["farm.a"]}` + "\n")
		if line := r.Line(stratumtest.Patience); !strings.HasSuffix(line, `,8],"error":null}`) {
			t.Errorf("agent %d: subscribe was answered with %s", i, line)
		}
		r.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
		r.ExpectClosed()
	}
	wantLastError(t, sw, "farm", "agents need a pool that takes the session's extranonce")
	if n := own.Stats().ConnectionsTotal; n != dials {
		t.Errorf("%d connections to the pool were made for agents, want none", n-dials)
	}
	// This is not held against the pool.
	bob := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.two"})
	waitPool(t, bob, "own")
	waitAccepted(t, bob, 3)

	a := startAgent(t, sw, 3, 5)
	// A switch to a pool that it cannot use leaves the agent where it is.
	coins.set("agent", "own")
	eventually(t, "the reason", func() bool {
		sw.accounts.mu.Lock()
		defer sw.accounts.mu.Unlock()
		return sw.accounts.accounts["agent"].lastError == errAgentPool.Error()
	})
	if err := a.Submit(0); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.Accepted == 16 }); err != nil {
		t.Error(err)
	}
	if st := a.Stats(); st.Disconnected || st.Rejected > 0 || len(st.Violations) > 0 {
		t.Errorf("unexpected statistics of the miner: %+v", st)
	}
	checkMiner(t, alice)
	checkMiner(t, bob)
	checkPool(t, own)
	checkPool(t, session)
}

func wantLastError(t *testing.T, sw *testSwitcher, account, want string) {
	t.Helper()
	sw.accounts.mu.Lock()
	defer sw.accounts.mu.Unlock()
	if a := sw.accounts.accounts[account]; a != nil && a.lastError != want {
		t.Errorf("the reason is %q, want %q", a.lastError, want)
	}
}

// Miners for which a pool has no room do not keep others from it.
func TestSessionSmallPoolStaysOpen(t *testing.T) {
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3})
	small := pickingPool(t, "small", 4, 7)
	coins := newMemoryCoins(map[string]string{"alice": "small", "able": "small"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{session, small}, withKinds(small))
	for i := range 2 * breakerFailures {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(rawSubscribe + "\n" + rawAuthorize + "\n")
		r.Line(stratumtest.Patience)
		if line := r.Line(stratumtest.Patience); !strings.Contains(line, `"error":[302,`) {
			t.Fatalf("miner %d was answered %s", i, line)
		}
		r.ExpectClosed()
	}
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "able.one", ExtranonceSubscribe: true, FollowExtranonce: true})
	waitPool(t, m, "small")
	waitAccepted(t, m, 3)
	checkMiner(t, m)
	checkPool(t, small)
}

// A miner that was given a pool's extranonce is also given the next one: the pool's new
// one, the one from its handshake where that fits, or that of another pool.
func TestSessionPoolExtranonceGiven(t *testing.T) {
	t.Parallel()
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000})
	small, tiny, large := pickingPool(t, "small", 4, 4), pickingPool(t, "tiny", 0, 3), pickingPool(t, "large", 8, 8)
	pools := []*stratumtest.Pool{session, small, large, tiny}
	coins := newMemoryCoins(map[string]string{"alice": "small"})
	sw := startSwitcher(t, coins, pools, withKinds(small, tiny, large))
	var miners []*stratumtest.Miner
	for _, opts := range []stratumtest.MinerOptions{
		{Worker: "alice.able", ExtranonceSubscribe: true},
		{Worker: "alice.rolling", ExtranonceSubscribe: true, Configure: 0x1fffe000, Pipelined: true},
	} {
		opts.Addr, opts.FollowExtranonce = sw.addr, true
		m := startMiner(t, opts)
		waitPool(t, m, "small")
		miners = append(miners, m)
	}
	moveAll(t, coins, "alice", miners, pools)
	coins.set("alice", "small")
	for _, m := range miners {
		waitPool(t, m, "small")
	}
	for _, size := range []int{4, 8, 5, 3, 8, 8} {
		small.RotateExtranonce(size, false)
		for _, m := range miners {
			waitAccepted(t, m, 3)
		}
	}
	for _, m := range miners {
		checkMiner(t, m)
	}
	for _, p := range pools {
		checkPool(t, p)
	}
}

// These shares are for jobs from before one or more changes of the pool's
// extranonce.
func TestSessionRotationLateShares(t *testing.T) {
	pool := pickingPool(t, "own", 4, 6)
	coins := newMemoryCoins(map[string]string{"alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{pool}, withKinds(pool))
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one", Rate: 200, LateShares: 1})
	waitPool(t, m, "own")
	for i, size := range []int{4, 8, 5, 8, 6, 4} {
		pool.RotateExtranonce(size, i%2 == 1)
		waitAccepted(t, m, 3)
	}
	st := m.Stats()
	if st.Disconnected || len(st.Violations) > 0 || st.RejectedByCode[20] > 0 || st.RejectedByCode[23] > 0 {
		t.Errorf("unexpected statistics of the miner: %+v", st)
	}
	// A share for a job before a clean one is stale (21). There may be no other
	// refusal.
	for _, r := range pool.Rejects() {
		if r.Code != 21 {
			t.Errorf("a share was rejected with code %d, %s: %s", r.Code, r.Reason, r.Line)
		}
	}
}

// The size of extranonce2 can be set, and decides which pools can be used.
func TestSessionExtranonce2Size(t *testing.T) {
	for _, c := range []struct {
		session bool
		set     int
		shape   stratum.Shape // the first miner's
	}{
		{false, 0, stratum.Shape{Extranonce1: "80", Size: 3}},
		{false, 1, stratum.Shape{Extranonce1: "80", Size: 1}},
		{false, 7, stratum.Shape{Extranonce1: "80", Size: 7}},
		{true, 0, stratum.Shape{Extranonce1: "01000080", Size: 4}},
		{true, 2, stratum.Shape{Extranonce1: "01000080", Size: 2}},
		{true, 8, stratum.Shape{Extranonce1: "01000080", Size: 8}},
	} {
		t.Run(fmt.Sprintf("session=%v,set=%d", c.session, c.set), func(t *testing.T) {
			t.Parallel()
			needed := len(c.shape.Extranonce1)/2 + c.shape.Size
			fits, small := pickingPool(t, "fits", 3, needed), pickingPool(t, "small", 3, needed-1)
			pools := []*stratumtest.Pool{fits, small}
			if c.session {
				pools = append(pools, startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3}))
			}
			coins := newMemoryCoins(map[string]string{"alice": "fits"})
			sw := startSwitcher(t, coins, pools, func(config *Config) {
				withKinds(fits, small)(config)
				config.ExtraNonce2Size = c.set
			})
			r := stratumtest.DialRaw(t, sw.addr)
			r.SendLine(rawSubscribe)
			x := c.shape.Extranonce1
			r.ExpectLine(fmt.Sprintf(`{"id":1,"result":[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",%d],"error":null}`, x, x, x, c.shape.Size))
			r.Close()
			m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
			waitPool(t, m, "fits")
			waitAccepted(t, m, 3)
			coins.set("alice", "small")
			want := fmt.Sprintf("pool gives extranonce2 size %d, this session needs %d", needed-1, needed)
			eventually(t, want, func() bool {
				sw.accounts.mu.Lock()
				defer sw.accounts.mu.Unlock()
				return sw.accounts.accounts["alice"].lastError == want
			})
			waitAccepted(t, m, 3)
			if c.session {
				coins.set("alice", "session")
				waitPool(t, m, "session")
				waitAccepted(t, m, 3)
			}
			checkMiner(t, m)
			checkPool(t, fits)
		})
	}
}

// With "session" pools only, no byte of a line changes, whatever is set.
func TestSessionOnlySessionPools(t *testing.T) {
	plan := planExtranonce(&Config{StratumServerMap: map[string]StratumServerInfo{"a": {}, "b": {ExtraNonce: ""}}, ExtraNonce2Size: 4})
	if plan != (extranoncePlan{}) || plan.shapeFor(0x01000080, false) != (stratum.Shape{}) {
		t.Errorf("unexpected plan %+v", plan)
	}
	sc, link := startScene(t, "bitcoin", func(c *Config) { c.ExtraNonce2Size = 2 }, "btc", "bcc")
	odd := `{ "params" : ["btc-2","00","01","02",[],"20000000","1d00ffff","5f000000", true ], "method":"mining.notify"}`
	link.SendLine(odd)
	sc.Miner.ExpectLine(odd)
	share := `{"method":"mining.submit","params":["who ever","btc-2","0000000000000001","5f000000","00000000"], "id":7}`
	sc.Miner.SendLine(share)
	link.ExpectLine(share)
}

// A pool that learns of version rolling later gets the miner's version bits from
// then on.
func TestSessionRollingLater(t *testing.T) {
	s := &pickingScene{PickingScene: &testkit.PickingScene{T: t, Scripted: testkit.StartScriptedPool(t)}}
	s.sw = startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: s.Scripted.Addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
	})
	s.Miner = stratumtest.DialRaw(t, s.sw.addr)
	s.Miner.Send(`{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}` + "\n" + rawSubscribe + "\n" + rawAuthorize + "\n")
	s.Miner.Line(stratumtest.Patience)
	s.Miner.Line(stratumtest.Patience)
	s.Pool = s.Scripted.Next()
	s.Pool.ExpectMethod("mining.configure")
	s.Pool.SendLine(`{"id":2147400000,"result":null,"error":[20,"Unknown method",null]}`)
	s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00000000"]}`)
	s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
	rolled := regexp.MustCompile(`"00000000"\]`).ReplaceAllString(sceneShare(3, "a", "aabbcc"), `"00000000","00000000"]`)
	s.Miner.SendLine(rolled)
	s.Pool.ExpectLine(sceneShare(3, "a", "80aabbcc"))
	s.Pool.SendLine(`{"id":null,"method":"mining.set_version_mask","params":["00c00000"]}`)
	s.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00c00000"]}`)
	rolled = strings.Replace(rolled, `"00000000"]`, `"00400000"]`, 1)
	s.Miner.SendLine(rolled)
	s.Pool.ExpectLine(strings.Replace(rolled, "aabbcc", "80aabbcc", 1))
}

// A coin's kind of pools may have changed since a miner was given its extranonce.
func TestTranslationForFormerShapes(t *testing.T) {
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{pickingPool(t, "own", 4, 8)}, nil)
	session, own := &pool{}, &pool{picksExtranonce: true}
	x := stratum.GivenExtranonce{Extranonce1: "01000080", Size: 8}
	for _, c := range []struct {
		shape stratum.Shape
		pool  *pool
		given stratum.GivenExtranonce
		want  *stratum.Translation
		err   string
	}{
		{stratum.Shape{}, session, x, nil, ""},
		{stratum.Shape{}, own, stratum.GivenExtranonce{Extranonce1: "aa", Size: 12}, &stratum.Translation{Coinb1: "aa", Before: "01000080", Digits: 16}, ""},
		{stratum.Shape{}, own, stratum.GivenExtranonce{Extranonce1: "aa", Size: 8}, nil, "pool gives extranonce2 size 8, this session needs 12"},
		{stratum.Shape{Extranonce1: "01000080", Size: 4}, session, x, &stratum.Translation{Coinb2: "00000000", After: "00000000", Digits: 8}, ""},
		{stratum.Shape{Extranonce1: "01000080", Size: 8}, session, x, nil, ""},
		{stratum.Shape{Extranonce1: "01000080", Size: 4}, own, stratum.GivenExtranonce{Extranonce1: "", Size: 9}, &stratum.Translation{Coinb1: "00", Before: "0001000080", Digits: 8}, ""},
		// X is one byte, but the "session" pool takes the whole session ID.
		{stratum.Shape{Extranonce1: "80", Size: 3}, session, x, &stratum.Translation{Coinb1: "0100008000000000", Before: "0000000080", Digits: 6}, ""},
		{stratum.Shape{Extranonce1: "80", Size: 3}, own, stratum.GivenExtranonce{Extranonce1: "f0", Size: 4}, &stratum.Translation{Coinb1: "f0", Before: "80", Digits: 6}, ""},
		{stratum.Shape{Extranonce1: "80", Size: 8}, session, x, nil, "pool gives extranonce2 size 8, this session needs 9"},
	} {
		s := &Session{manager: sw.sessionManager, id: 0x01000080, shape: c.shape}
		got, own, err := s.translationFor(c.pool, &c.given)
		gotText, _ := json.Marshal(got)
		wantText, _ := json.Marshal(c.want)
		if string(gotText) != string(wantText) || own || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%+v at %+v: %s %v %v, want %s %s", c.shape, c.given, gotText, own, err, wantText, c.err)
		}
	}
}
