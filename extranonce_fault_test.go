package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A share for a job of the pool that was left is translated for that pool.
func TestSessionLateSharesOfOwnPools(t *testing.T) {
	one, two := ownPool(t, "one", 4, 8), ownPool(t, "two", 7, 8)
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
			// All pools keep their one job, so the late share comes first, or
			// it could be for the same pool's next extranonce.
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
func TestSessionOwnFailover(t *testing.T) {
	first, tooSmall, backup := ownPool(t, "first", 4, 8), ownPool(t, "small", 4, 3), ownPool(t, "backup", 2, 5)
	coins := newMemoryCoins(map[string]string{"alice": "first"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{first}, func(c *Config) {
		withKinds(first)(c)
		server := c.StratumServerMap["first"]
		server.BackupURLs = []string{tooSmall.Addr(), backup.Addr()}
		c.StratumServerMap["first"] = server
	})
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one", Configure: 0x1fffe000})
	waitPool(t, m, "first")
	for range 2 {
		waitAccepted(t, m, 5)
		first.Close()
		waitPool(t, m, "backup")
		waitAccepted(t, m, 5)
		if err := first.Restart(); err != nil {
			t.Fatal(err)
		}
		backup.Close() // long before the fail-back
		waitPool(t, m, "first")
		if err := backup.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	// At each loss a share may have been under way, for a job that is lost too.
	if st := m.Stats(); st.Disconnected || len(st.Violations) > 0 || st.Rejected > 8 {
		t.Errorf("%+v", st)
	}
	for _, p := range []*stratumtest.Pool{first, tooSmall, backup} {
		checkFaults(t, p)
	}
}

// A pool that comes back gives another extranonce.
func TestSessionOwnPoolRestarts(t *testing.T) {
	pool := ownPool(t, "own", 8, 7)
	coins := newMemoryCoins(map[string]string{"alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{pool}, withKinds(pool))
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	for range 3 {
		waitPool(t, m, "own")
		waitAccepted(t, m, 5)
		jobs := m.Stats().CleanJobs
		pool.Close()
		if err := pool.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.CleanJobs > jobs }); err != nil {
			t.Fatal(err)
		}
	}
	waitAccepted(t, m, 5)
	// As above; the pool's job is still the same, but not the coinbase.
	if st := m.Stats(); st.Disconnected || len(st.Violations) > 0 || st.Rejected > 6 {
		t.Errorf("%+v", st)
	}
	checkFaults(t, pool)
}

// Agents need session pools. Others go on at the pool that is no use to them.
func TestSessionAgentAtOwnPool(t *testing.T) {
	session, own := startPool(t, stratumtest.PoolOptions{Name: "session"}), ownPool(t, "own", 4, 8)
	coins := newMemoryCoins(map[string]string{"farm": "own", "agent": "session", "alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{session, own}, withKinds(own))
	alice := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	waitPool(t, alice, "own")
	dials := own.Stats().ConnectionsTotal
	for i := range 2 * breakerFailures {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(`{"id":1,"method":"mining.subscribe","params":["btccom-agent/1"]}` + "\n" + `{"id":2,"method":"mining.authorize","params":["farm.a"]}` + "\n")
		if line := r.Line(stratumtest.Patience); !strings.HasSuffix(line, `,8],"error":null}`) {
			t.Errorf("agent %d: subscribe answered with %s", i, line)
		}
		r.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
		r.ExpectClosed()
	}
	wantLastError(t, sw, "farm", "agents need a pool that takes the session's extranonce")
	if n := own.Stats().ConnectionsTotal; n != dials {
		t.Errorf("%d connections to the pool for agents", n-dials)
	}
	// The pool is none the worse for it.
	bob := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.two"})
	waitPool(t, bob, "own")
	waitAccepted(t, bob, 3)

	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: sw.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(waitContext(t), 3, 5); err != nil {
		t.Fatal(err)
	}
	// A switch to a pool that is no use leaves it where it is.
	coins.set("agent", "own")
	eventually(t, "the reason", func() bool {
		sw.mu.Lock()
		defer sw.mu.Unlock()
		return sw.accounts["agent"].lastError == errAgentPool.Error()
	})
	if err := a.Submit(0); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.Accepted == 16 }); err != nil {
		t.Error(err)
	}
	if st := a.Stats(); st.Disconnected || st.Rejected > 0 || len(st.Violations) > 0 {
		t.Errorf("%+v", st)
	}
	checkMiner(t, alice)
	checkMiner(t, bob)
	checkPool(t, own)
	checkPool(t, session)
}

func wantLastError(t *testing.T, sw *testSwitcher, account, want string) {
	t.Helper()
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if a := sw.accounts[account]; a != nil && a.lastError != want {
		t.Errorf("reason is %q, want %q", a.lastError, want)
	}
}

// Miners that a pool has no room for do not keep the others from it.
func TestSessionSmallPoolStaysOpen(t *testing.T) {
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3})
	small := ownPool(t, "small", 4, 7)
	coins := newMemoryCoins(map[string]string{"alice": "small", "able": "small"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{session, small}, withKinds(small))
	for i := range 2 * breakerFailures {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(rawSubscribe + "\n" + rawAuthorize + "\n")
		r.Line(stratumtest.Patience)
		if line := r.Line(stratumtest.Patience); !strings.Contains(line, `"error":[302,`) {
			t.Fatalf("miner %d: %s", i, line)
		}
		r.ExpectClosed()
	}
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "able.one", ExtranonceSubscribe: true, FollowExtranonce: true})
	waitPool(t, m, "small")
	waitAccepted(t, m, 3)
	checkMiner(t, m)
	checkPool(t, small)
}

// A miner at a pool's own extranonce is given whatever comes next: the pool's
// new one, its own where that fits, another pool's own.
func TestSessionOwnExtranonceGiven(t *testing.T) {
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000})
	small, tiny, large := ownPool(t, "small", 4, 4), ownPool(t, "tiny", 0, 3), ownPool(t, "large", 8, 8)
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

// Shares for jobs of before one or more changes of the pool's extranonce.
func TestSessionRotationLateShares(t *testing.T) {
	pool := ownPool(t, "own", 4, 6)
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
		t.Errorf("%+v", st)
	}
	// A share for a job before a clean one is stale (21), nothing else.
	for _, r := range pool.Rejects() {
		if r.Code != 21 {
			t.Errorf("share rejected: %d %s: %s", r.Code, r.Reason, r.Line)
		}
	}
}

// ownScene is one raw miner at a scripted pool that picks the extranonce.
type ownScene struct {
	t           *testing.T
	sw          *testSwitcher
	miner, pool *stratumtest.Raw
	scripted    *scriptedPool
}

func startOwnScene(t *testing.T) *ownScene {
	t.Helper()
	p := startScriptedPool(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: p.addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
	})
	s := &ownScene{t: t, sw: sw, scripted: p, miner: stratumtest.DialRaw(t, sw.addr)}
	s.miner.SendLine(rawSubscribe)
	s.miner.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","80"],["mining.notify","80"]],"80",3],"error":null}`)
	s.miner.SendLine(rawAuthorize)
	s.pool = p.next()
	return s
}

// ownJob is a job with its coinbase parts.
func ownJob(id, coinb1, coinb2 string, clean bool) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.notify","params":["%s","00","%s","%s",[],"20000000","1d00ffff","5f000000",%v]}`, id, coinb1, coinb2, clean)
}

func ownShare(id int, job, extranonce2 string) string {
	return fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":["alice.1","%s","%s","5f000000","00000000"]}`, id, job, extranonce2)
}

func setExtranonce(p string, size int) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.set_extranonce","params":["%s",%d]}`, p, size)
}

// handshake answers subscribe and authorize, with lines between and after.
func (s *ownScene) handshake(p string, size int, between, after []string) {
	s.t.Helper()
	s.pool.ExpectLine(`{"id":"subscribe","method":"mining.subscribe","params":["raw/1.0"]}`)
	s.pool.ExpectMethod("mining.authorize")
	s.pool.SendLine(fmt.Sprintf(`{"id":"subscribe","result":[[["mining.notify","x"]],"%s",%d],"error":null}`, p, size))
	for _, line := range between {
		s.pool.SendLine(line)
	}
	s.pool.SendLine(`{"id":"auth","result":true,"error":null}`)
	for _, line := range after {
		s.pool.SendLine(line)
	}
}

// share has the miner send one, and the pool get it with another extranonce2.
func (s *ownScene) share(id int, job, want string) {
	s.t.Helper()
	s.miner.SendLine(ownShare(id, job, "aabbcc"))
	s.pool.ExpectLine(ownShare(id, job, want))
	s.pool.SendLine(goodAnswer(fmt.Sprint(id)))
	s.miner.ExpectLine(goodAnswer(fmt.Sprint(id)))
}

func TestSessionSetExtranonceInHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		between, after []string
		jobs           []string // for the miner
		before         string   // of its extranonce2
	}{
		"before the answer": {
			[]string{difficultyLine, ownJob("void", "01", "02", true), setExtranonce("bb", 6)}, []string{ownJob("j", "01", "02", true)},
			[]string{difficultyLine, ownJob("j", "01bb0000", "02", true)}, "000080",
		},
		"after the answer": {
			nil, []string{setExtranonce("bb", 4), difficultyLine, ownJob("j", "01", "02", false)},
			[]string{difficultyLine, ownJob("j", "01bb", "02", false)}, "80",
		},
		"twice": {
			[]string{setExtranonce("cc", 4)}, []string{setExtranonce("", 5), ownJob("j", "01", "02", true)},
			[]string{ownJob("j", "0100", "02", true)}, "0080",
		},
		"with the first job": {
			nil, []string{ownJob("i", "01", "02", true), setExtranonce("bbcc", 4), ownJob("j", "03", "04", false)},
			[]string{ownJob("i", "01aaaaaaaa", "02", true), ownJob("j", "03bbcc", "04", false)}, "80",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startOwnScene(t)
			s.handshake("aaaaaaaa", 4, c.between, c.after)
			s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			for _, job := range c.jobs {
				s.miner.ExpectLine(job)
			}
			s.share(3, "j", c.before+"aabbcc")
		})
	}
}

func TestSessionSetExtranonceRelaying(t *testing.T) {
	s := startOwnScene(t)
	s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
	s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))

	// It counts from the next job on, once more if it comes twice.
	s.pool.SendLine(setExtranonce("bb", 7))
	s.pool.SendLine(setExtranonce("bb", 6))
	s.share(3, "a", "80aabbcc")
	s.pool.SendLine(ownJob("b", "01", "02", false))
	s.miner.ExpectLine(ownJob("b", "01bb0000", "02", false))
	s.share(4, "b", "000080aabbcc")
	s.share(5, "a", "80aabbcc")

	// A second change: each job keeps its own.
	s.pool.SendLine(setExtranonce("CC", 5))
	s.pool.SendLine(ownJob(`c\/`, "01", "02", false))
	s.miner.ExpectLine(ownJob(`c\/`, "01CC00", "02", false))
	s.miner.SendLine(ownShare(6, "c/", "aabbcc")) // its own way of writing it
	s.pool.ExpectLine(ownShare(6, "c/", "0080aabbcc"))
	s.pool.SendLine(goodAnswer("6"))
	s.miner.ExpectLine(goodAnswer("6"))
	s.share(7, "b", "000080aabbcc")
	s.share(8, "a", "80aabbcc")

	// Also after a clean job: pools take late shares for a while. Whose ID
	// comes again is the later job.
	s.pool.SendLine(setExtranonce("", 4))
	s.pool.SendLine(ownJob("a", "03", "04", true))
	s.miner.ExpectLine(ownJob("a", "03", "04", true))
	s.share(9, "a", "80aabbcc")
	s.share(10, "b", "000080aabbcc")
	s.share(11, "c/", "0080aabbcc")

	// In the end the former ones are forgotten.
	for i := range formerJobs {
		job := ownJob(fmt.Sprintf("n%d", i), "03", "04", false)
		s.pool.SendLine(job)
		s.miner.ExpectLine(job)
	}
	s.share(12, "b", "80aabbcc")
	s.share(13, "n0", "80aabbcc")

	// The parameters may be of a set_extranonce with more of them, and spaced.
	s.pool.SendLine(`{ "params" : [ "d0" , 4 , "x" ] , "method" : "mining.set_extranonce" }`)
	s.pool.SendLine(ownJob("z", "03", "04", true))
	s.miner.ExpectLine(ownJob("z", "03d0", "04", true))
	s.share(14, "z", "80aabbcc")
}

// What can not be used costs the link, not the miner.
func TestSessionSetExtranonceMalformed(t *testing.T) {
	for _, line := range []string{
		`{"id":null,"method":"mining.set_extranonce","params":[]}`,
		`{"id":null,"method":"mining.set_extranonce"}`,
		`{"id":null,"method":"mining.set_extranonce","params":null}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb"]}`,
		`{"id":null,"method":"mining.set_extranonce","params":[null,4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb","4"]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",-1]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",33]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",4.5]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["b",4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["zz",4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["` + strings.Repeat("aa", 33) + `",4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",3]}`, // no room
		`{"id":null,"method":"mining.set_extranonce",`,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s := startOwnScene(t)
			s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
			s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))
			s.pool.SendLine(line)
			s.pool.ExpectClosed()
			s.pool = s.scripted.next()
			s.handshake("dd", 4, nil, []string{ownJob("b", "01", "02", false)})
			s.miner.ExpectLine(ownJob("b", "01dd", "02", true))
			s.share(3, "b", "80aabbcc")
		})
	}
}

// Answers to subscribe that no extranonce can be read from.
func TestSessionOwnSubscribeMalformed(t *testing.T) {
	for answer, why := range map[string]string{
		`[[],"aa"]`:     `pool answered subscribe with [[],"aa"]`,
		`true`:          `pool answered subscribe with true`,
		`[[],"a",4]`:    `pool gave extranonce "a", which is not hex`,
		`[[],17,4]`:     `pool gave extranonce 17`,
		`[[],"aa","4"]`: `pool gave extranonce2 size "4"`,
		`[[],"aa",1e9]`: `pool gave extranonce2 size 1e9`,
		`[[],"aa",2]`:   `pool gives extranonce2 size 2, this session needs 4`,
		`[[],"` + strings.Repeat("a", 66) + `",4]`: `pool gave extranonce "` + strings.Repeat("a", 66) + `"`,
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			s := startOwnScene(t)
			s.pool.Line(stratumtest.Patience)
			s.pool.SendLine(`{"id":"subscribe","result":` + answer + `,"error":null}`)
			s.miner.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
			s.miner.ExpectClosed()
			events := s.sw.monitor.events.all()
			found := false
			for _, e := range events {
				found = found || strings.Contains(e.Detail, why)
			}
			if !found {
				t.Errorf("no event says %q: %+v", why, events)
			}
		})
	}
}

// Lines that are not understood go on as they are, and are counted.
func TestSessionOwnOddLines(t *testing.T) {
	s := startOwnScene(t)
	s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
	s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))
	for i, line := range []string{
		`{"id":null,"method":"mining.notify","params":["b","00",1,"02"]}`,
		`{"id":null,"method":"mining.notify","params":{"job":"b"}}`,
		`{"id":null,"method":"mining.notify"}`,
	} {
		s.pool.SendLine(line)
		s.miner.ExpectLine(line)
		if n := s.sw.notUnderstood.Load(); n != int64(i+1) {
			t.Errorf("after %s: %d counted", line, n)
		}
	}
	for i, line := range []string{
		ownShare(10, "a", "aabb"),
		ownShare(11, "a", "aabbccdd"),
		ownShare(12, "a", "aabbcg"),
		ownShare(13, "a", `\"\"\"\"\"\"`),
		ownShare(14, "a", `\u00aa`),
		`{"id":15,"method":"mining.submit","params":["alice.1","a"]}`,
		`{"id":16,"method":"mining.submit","params":[null,"a","aabbcc"]}`,
	} {
		s.miner.SendLine(line)
		s.pool.ExpectLine(line)
		if n := s.sw.notUnderstood.Load(); n != int64(i+4) {
			t.Errorf("after %s: %d counted", line, n)
		}
	}
	// A share in two pieces, and two in one.
	line := ownShare(3, "a", "aabbcc") + "\n"
	for _, piece := range []string{line[:7], line[7:60], line[60:] + line} {
		s.miner.Send(piece)
		time.Sleep(5 * time.Millisecond) // so that it is read by itself
	}
	for range 2 {
		s.pool.ExpectLine(ownShare(3, "a", "80aabbcc"))
	}
	// Spaces, another order, escapes.
	s.miner.SendLine("{\t\"params\" : [ \"alice.1\" , \"a\" ,\"\\u0061abbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"x\",\"method\" : \"mining.submit\" }")
	s.pool.ExpectLine("{\t\"params\" : [ \"alice.1\" , \"a\" ,\"80aabbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"x\",\"method\" : \"mining.submit\" }")
}

// The size of extranonce2 can be set, and decides which pools fit.
func TestSessionExtranonce2Size(t *testing.T) {
	for _, c := range []struct {
		session bool
		set     int
		shape   extranonceShape // of the first miner
	}{
		{false, 0, extranonceShape{"80", 3}},
		{false, 1, extranonceShape{"80", 1}},
		{false, 7, extranonceShape{"80", 7}},
		{true, 0, extranonceShape{"01000080", 4}},
		{true, 2, extranonceShape{"01000080", 2}},
		{true, 8, extranonceShape{"01000080", 8}},
	} {
		t.Run(fmt.Sprintf("session=%v,set=%d", c.session, c.set), func(t *testing.T) {
			t.Parallel()
			needed := len(c.shape.X)/2 + c.shape.Size
			fits, small := ownPool(t, "fits", 3, needed), ownPool(t, "small", 3, needed-1)
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
			x := c.shape.X
			r.ExpectLine(fmt.Sprintf(`{"id":1,"result":[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",%d],"error":null}`, x, x, x, c.shape.Size))
			r.Close()
			m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
			waitPool(t, m, "fits")
			waitAccepted(t, m, 3)
			coins.set("alice", "small")
			want := fmt.Sprintf("pool gives extranonce2 size %d, this session needs %d", needed-1, needed)
			eventually(t, want, func() bool {
				sw.mu.Lock()
				defer sw.mu.Unlock()
				return sw.accounts["alice"].lastError == want
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

// With session pools only, nothing changes: not a byte, whatever is set.
func TestSessionOnlySessionPools(t *testing.T) {
	plan := planExtranonce(&Config{StratumServerMap: map[string]StratumServerInfo{"a": {}, "b": {ExtraNonce: ""}}, ExtraNonce2Size: 4})
	if plan != (extranoncePlan{}) || plan.shapeFor(0x01000080, false) != (extranonceShape{}) {
		t.Errorf("plan %+v", plan)
	}
	sc, link := startScene(t, "bitcoin", func(c *Config) { c.ExtraNonce2Size = 2 }, "btc", "bcc")
	odd := `{ "params" : ["btc-2","00","01","02",[],"20000000","1d00ffff","5f000000", true ], "method":"mining.notify"}`
	link.SendLine(odd)
	sc.miner.ExpectLine(odd)
	share := `{"method":"mining.submit","params":["who ever","btc-2","0000000000000001","5f000000","00000000"], "id":7}`
	sc.miner.SendLine(share)
	link.ExpectLine(share)
}

// A pool that learns of version rolling later gets the miner's bits from then
// on.
func TestSessionRollingLater(t *testing.T) {
	s := &ownScene{t: t, scripted: startScriptedPool(t)}
	s.sw = startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: s.scripted.addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
	})
	s.miner = stratumtest.DialRaw(t, s.sw.addr)
	s.miner.Send(`{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}` + "\n" + rawSubscribe + "\n" + rawAuthorize + "\n")
	s.miner.Line(stratumtest.Patience)
	s.miner.Line(stratumtest.Patience)
	s.pool = s.scripted.next()
	s.pool.ExpectMethod("mining.configure")
	s.pool.SendLine(`{"id":"configure","result":null,"error":[20,"Unknown method",null]}`)
	s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
	s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00000000"]}`)
	s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))
	rolled := regexp.MustCompile(`"00000000"\]`).ReplaceAllString(ownShare(3, "a", "aabbcc"), `"00000000","00000000"]`)
	s.miner.SendLine(rolled)
	s.pool.ExpectLine(ownShare(3, "a", "80aabbcc"))
	s.pool.SendLine(`{"id":null,"method":"mining.set_version_mask","params":["00c00000"]}`)
	s.miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00c00000"]}`)
	rolled = strings.Replace(rolled, `"00000000"]`, `"00400000"]`, 1)
	s.miner.SendLine(rolled)
	s.pool.ExpectLine(strings.Replace(rolled, "aabbcc", "80aabbcc", 1))
}

// A coin's kinds may have changed since a miner was given its extranonce.
func TestTranslationForFormerShapes(t *testing.T) {
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{ownPool(t, "own", 4, 8)}, nil)
	session, own := &pool{}, &pool{ownExtranonce: true}
	x := givenExtranonce{"01000080", 8}
	for _, c := range []struct {
		shape extranonceShape
		pool  *pool
		given givenExtranonce
		want  *translation
		err   string
	}{
		{extranonceShape{}, session, x, nil, ""},
		{extranonceShape{}, own, givenExtranonce{"aa", 12}, &translation{Coinb1: "aa", Before: "01000080", Digits: 16}, ""},
		{extranonceShape{}, own, givenExtranonce{"aa", 8}, nil, "pool gives extranonce2 size 8, this session needs 12"},
		{extranonceShape{"01000080", 4}, session, x, &translation{Coinb2: "00000000", After: "00000000", Digits: 8}, ""},
		{extranonceShape{"01000080", 8}, session, x, nil, ""},
		{extranonceShape{"01000080", 4}, own, givenExtranonce{"", 9}, &translation{Coinb1: "00", Before: "0001000080", Digits: 8}, ""},
		// X is a byte, but the session pool takes the whole session ID.
		{extranonceShape{"80", 3}, session, x, &translation{Coinb1: "0100008000000000", Before: "0000000080", Digits: 6}, ""},
		{extranonceShape{"80", 3}, own, givenExtranonce{"f0", 4}, &translation{Coinb1: "f0", Before: "80", Digits: 6}, ""},
		{extranonceShape{"80", 8}, session, x, nil, "pool gives extranonce2 size 8, this session needs 9"},
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
