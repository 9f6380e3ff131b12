package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// wantNothingLeft waits until everything that sessions held is given back.
func (m *testSwitcher) wantNothingLeft(t *testing.T) {
	t.Helper()
	state := func() string {
		var left []string
		note := func(what string, n int) {
			if n != 0 {
				left = append(left, fmt.Sprintf("%s=%d", what, n))
			}
		}
		m.mu.Lock()
		note("sessions", len(m.sessions))
		note("accounts", m.accounts.size())
		note("waitingID", len(m.waitingID))
		m.mu.Unlock()
		m.ids.mu.Lock()
		note("ids", int(m.ids.inUse))
		note("id_bits", int(m.ids.used.Count()))
		m.ids.mu.Unlock()
		m.gate.mu.Lock()
		note("dials", m.gate.held)
		m.gate.mu.Unlock()
		m.health.mu.Lock()
		note("accounts here", int(m.health.accountsHere.Load()))
		for _, e := range m.health.endpoints {
			note("links to "+e.String(), e.sockets)
			note("probes of "+e.String(), e.breaker.probes)
		}
		m.health.mu.Unlock()
		note("draining", int(m.draining.Load()))
		note("admitted", int(m.admitted.Load()))
		m.coins.mu.Lock()
		for account, n := range m.coins.users {
			note("users of "+account, n)
		}
		note("held queries", len(m.coins.held))
		m.coins.mu.Unlock()
		return strings.Join(left, " ")
	}
	var last string
	for ctx := waitContext(t); ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if last = state(); last == "" {
			return
		}
	}
	t.Errorf("something is not given back: %s", last)
}

// descriptors counts those of this process. It returns 0 where that is not
// possible.
func descriptors() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

// wantDescriptors waits until there are no more than before.
func wantDescriptors(t *testing.T, before int) {
	t.Helper()
	eventually(t, fmt.Sprintf("no more than %d descriptors", before), func() bool { return descriptors() <= before })
}

// dialMining connects a miner that has done its handshake.
func dialMining(t *testing.T, addr string) *stratumtest.Raw {
	t.Helper()
	r := dialSubscribed(t, addr)
	r.SendLine(rawAuthorize)
	r.ExpectLine(`{"id":2,"result":true,"error":null}`)
	r.ExpectMethod("mining.set_difficulty")
	r.ExpectMethod("mining.notify")
	return r
}

func startHostile(t *testing.T) (*testSwitcher, *stratumtest.Pool) {
	t.Helper()
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, RecordLines: true})
	coins := newMemoryCoins(map[string]string{"alice": "btc", "dora": "dogecoin"})
	return startSwitcher(t, coins, []*stratumtest.Pool{btc}, nil), btc
}

func TestSessionFirstConnectErrors(t *testing.T) {
	for _, c := range []struct {
		name, worker, answer string
		prepare              func(*stratumtest.Pool)
	}{
		{"unknown sub-account", "nobody.1", `{"id":"x","result":null,"error":[201,"Invalid Sub-account Name",1]}`, nil},
		{"coin without server", "dora.1", `{"id":"x","result":null,"error":[301,"Stratum Server Not Found",1]}`, nil},
		{"pool down", "alice.1", `{"id":"x","result":null,"error":[302,"Connect Stratum Server Failed",1]}`, func(p *stratumtest.Pool) { p.Close() }},
		{"pool hangs", "alice.1", `{"id":"x","result":null,"error":[302,"Connect Stratum Server Failed",1]}`,
			func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{Hang: true}) }},
		{"pool closes", "alice.1", `{"id":"x","result":null,"error":[302,"Connect Stratum Server Failed",1]}`,
			func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{CloseAt: stratumtest.StageSubscribe}) }},
		{"pool gives another extranonce", "alice.1", `{"id":"x","result":null,"error":[302,"Connect Stratum Server Failed",1]}`,
			func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{OtherExtranonce: true}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw, btc := startHostile(t)
			sw.setTiming(func(tm *timing) { tm.poolHandshake = 200 * time.Millisecond })
			if c.prepare != nil {
				c.prepare(btc)
			}
			before := descriptors()
			r := dialSubscribed(t, sw.addr)
			r.SendLine(`{"id":"x","method":"mining.authorize","params":["` + c.worker + `","x"]}`)
			r.ExpectLine(c.answer)
			r.ExpectClosed()
			r.Close()
			sw.wantNothingLeft(t)
			wantDescriptors(t, before)
		})
	}
}

// The pool's own refusal is passed on, and the miner may try another name.
func TestSessionPoolRefusesWorker(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc",
		AcceptWorker: func(name string) bool { return name == "alice.good" }})
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, nil)
	r := stratumtest.DialRaw(t, sw.addr)
	r.SendLine(`{"id":7,"method":"mining.subscribe","params":[]}`)
	r.ExpectLine(`{"id":7,"result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`)
	for _, id := range []string{`"a b"`, `null`, `8`} {
		r.SendLine(`{"id":` + id + `,"method":"mining.authorize","params":["alice.bad","x"]}`)
		r.ExpectLine(`{"id":` + id + `,"result":null,"error":[24,"Unauthorized worker",null]}`)
	}
	// The miner is back in the handshake, where other requests are answered as
	// before.
	r.SendLine(`{"id":9,"method":"mining.extranonce.subscribe","params":[]}`)
	r.ExpectLine(`{"id":9,"result":true,"error":null}`)
	// Both come at the same time; the second must not get lost.
	r.Send(`{"id":10,"method":"mining.authorize","params":["alice.bad","x"]}` + "\n" +
		`{"id":11,"method":"mining.authorize","params":["alice.good","x"]}` + "\n")
	r.ExpectLine(`{"id":10,"result":null,"error":[24,"Unauthorized worker",null]}`)
	r.ExpectLine(`{"id":11,"result":true,"error":null}`)
	r.ExpectMethod("mining.set_difficulty")
	r.ExpectMethod("mining.notify")
	if n := sw.coins.open("alice"); n != 1 {
		t.Errorf("the coin's sub-account has %d users, want 1", n)
	}
	waitConnections(t, btc, 1)
	r.Close()
	sw.wantNothingLeft(t)
	checkPool(t, btc)
}

// A miner waits until the server ID is known, and may leave before that.
func TestSessionWaitsForServerID(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc"})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	coins.server = 0
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, nil)
	var miners []*stratumtest.Raw
	for range 5 {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(`{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00c00000"}]}` + "\n" + rawSubscribe + "\n" + rawAuthorize + "\n")
		r.ExpectLine(`{"id":0,"result":{"version-rolling":true,"version-rolling.mask":"00c00000"},"error":null}`)
		miners = append(miners, r)
	}
	eventually(t, "all wait", func() bool {
		sw.mu.Lock()
		defer sw.mu.Unlock()
		return len(sw.waitingID) == 5
	})
	sw.ServerIDClaimed(0xab)
	for _, r := range miners {
		line := r.Line(stratumtest.Patience)
		if !strings.Contains(line, `"ab0000`) {
			t.Errorf("subscribe was answered with %s", line)
		}
		r.ExpectLine(`{"id":2,"result":true,"error":null}`)
		r.Close()
	}
	sw.wantNothingLeft(t)
}

func TestSessionSlowAndFastWriters(t *testing.T) {
	sw, btc := startHostile(t)
	share := `{"id":3,"method":"mining.submit","params":["alice.1","nojob","0000000000000001","00000000","00000000"]}`
	rejected := `{"id":3,"result":null,"error":[21,"Job not found: nojob",null]}`

	t.Run("one byte at a time", func(t *testing.T) {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Conn().(*net.TCPConn).SetNoDelay(true)
		crawl := func(line string) {
			for _, b := range []byte(line + "\n") {
				r.Send(string(b))
			}
		}
		crawl(rawSubscribe)
		r.Line(stratumtest.Patience)
		crawl("\r\n" + rawAuthorize + "\r")
		r.ExpectLine(`{"id":2,"result":true,"error":null}`)
		r.ExpectMethod("mining.set_difficulty")
		r.ExpectMethod("mining.notify")
		crawl(share)
		r.ExpectLine(rejected)
	})
	t.Run("all in one packet", func(t *testing.T) {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(rawSubscribe + "\n" + rawAuthorize + "\n" + share + "\n" + share + "\n" + share[:50])
		r.Line(stratumtest.Patience)
		r.ExpectLine(`{"id":2,"result":true,"error":null}`)
		r.ExpectMethod("mining.set_difficulty")
		r.ExpectMethod("mining.notify")
		r.ExpectLine(rejected)
		r.ExpectLine(rejected)
		r.Send(share[50:] + "\n" + share + "\n")
		r.ExpectLine(rejected)
		r.ExpectLine(rejected)
	})
	checkFaults(t, btc)
}

func TestSessionDeadlines(t *testing.T) {
	t.Parallel()
	sw, _ := startHostile(t)
	set := func(first, authorize time.Duration) {
		sw.setTiming(func(tm *timing) { tm.firstByte, tm.authorize = first, authorize })
	}
	failures := func(f handshakeFailure) int64 { return sw.monitor.failures[f].Load() }
	t.Run("says nothing", func(t *testing.T) {
		set(50*time.Millisecond, time.Hour)
		stratumtest.DialRaw(t, sw.addr).ExpectClosed()
		if n := failures(failSilent); n != 1 {
			t.Errorf("%d handshakes are counted as silent", n)
		}
	})
	t.Run("half a line", func(t *testing.T) {
		set(500*time.Millisecond, time.Second)
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(`{"id":1`)
		r.ExpectClosed()
		if n := failures(failUnauthorized); n != 1 {
			t.Errorf("%d handshakes are counted as not authorized", n)
		}
	})
	t.Run("subscribes only", func(t *testing.T) {
		set(500*time.Millisecond, 1500*time.Millisecond)
		r := stratumtest.DialRaw(t, sw.addr)
		began := time.Now()
		r.SendLine(rawSubscribe)
		r.Line(stratumtest.Patience)
		r.ExpectClosed()
		if d := time.Since(began); d < time.Second {
			t.Errorf("the connection was closed after %v", d)
		}
	})
	t.Run("coin does not come", func(t *testing.T) {
		set(500*time.Millisecond, 1500*time.Millisecond)
		sw.coins.mu.Lock()
		sw.coins.hold = true
		sw.coins.mu.Unlock()
		r := dialSubscribed(t, sw.addr)
		r.SendLine(rawAuthorize)
		r.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
		r.ExpectClosed()
		sw.wantNothingLeft(t)
		sw.coins.letGo()
	})
	t.Run("none once it mines", func(t *testing.T) {
		set(time.Second, 3*time.Second)
		r := dialMining(t, sw.addr)
		sw.eachSession(func(s *Session) {
			if s.handshake != nil {
				t.Error("the handshake's timer is still set")
			}
		})
		r.Close()
	})
	sw.wantNothingLeft(t)
}

// A miner reads nothing. The switcher stores little for it, closes it after the
// write timeout, and other miners notice nothing.
func TestSessionMinerNeverReads(t *testing.T) {
	t.Parallel()
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, JobSize: 60 << 10})
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, nil)
	for _, l := range sw.loops {
		l.Call(func() { l.SetWriteTimeout(time.Second) })
	}
	good := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.good"})
	waitAccepted(t, good, 1)
	for range 4 {
		nc, err := net.Dial("tcp", sw.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.(*net.TCPConn).SetReadBuffer(4096)
		fmt.Fprintf(nc, "%s\n%s\n", rawSubscribe, rawAuthorize)
	}
	eventually(t, "all mine", func() bool { return sw.sessionsIn(phaseRelaying) == 5 })

	most := 0
	for end := time.Now().Add(6 * testWait); sw.sessionCount() > 1; {
		if time.Now().After(end) {
			t.Fatal("the miners that do not read are not closed")
		}
		btc.NewJob(false)
		sw.eachSession(func(s *Session) {
			most = max(most, s.miner.Backlog())
		})
		waitAccepted(t, good, 1)
	}
	if limit := 4 * stratum.MaxPoolLine; most > limit {
		t.Errorf("%d bytes waited for a miner, want at most %d", most, limit)
	}
	if most == 0 {
		t.Error("nothing ever waited for the miners that do not read")
	}
	waitAccepted(t, good, 3)
	checkMiner(t, good)
	waitConnections(t, btc, 1)
}

// Thousands of miners begin a handshake and stop. Others are served, and all of
// them are closed.
func TestSessionHalfOpenHandshakes(t *testing.T) {
	const half = 2000
	sw, btc := startHostile(t)
	if sw.maxSessions < half+100 || descriptorLimit() < 2*half+500 {
		t.Fatalf("the limit of %d descriptors is too low", sw.fdLimit)
	}
	before := descriptors()
	conns := make([]net.Conn, half)
	for i := range conns {
		nc, err := net.Dial("tcp", sw.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		conns[i] = nc
		switch i % 3 {
		case 0:
			io.WriteString(nc, rawSubscribe[:20])
		case 1:
			io.WriteString(nc, rawSubscribe+"\n"+rawAuthorize[:20])
		}
	}
	eventually(t, "all are there", func() bool { return sw.sessionCount() == half })
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1"})
	waitPool(t, m, "btc")
	waitAccepted(t, m, 3)
	checkMiner(t, m)
	m.Close()
	for _, nc := range conns {
		nc.Close()
	}
	sw.wantNothingLeft(t)
	wantDescriptors(t, before)
	checkPool(t, btc)
}

// Connections beyond what the descriptors allow are closed at once.
func TestSessionLimit(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc"})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	c := defaultConfig()
	c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: btc.Addr()}}
	m, err := newSessionManager(c, coins)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	m.maxSessions = 3
	m.start()
	coins.Start(m)
	m.serve(ln)
	sw := &testSwitcher{sessionManager: m, addr: ln.Addr().String(), coins: coins}

	first := dialMining(t, sw.addr)
	dialSubscribed(t, sw.addr)
	dialSubscribed(t, sw.addr)
	for range 3 {
		stratumtest.DialRaw(t, sw.addr).ExpectClosed()
	}
	eventually(t, "three are counted as turned away", func() bool { return sw.limits.refused[refusedFull].total.Load() == 3 })
	first.Close()
	eventually(t, "one has left", func() bool { return sw.sessionCount() == 2 })
	dialMining(t, sw.addr)
}

func TestSessionHandshakeErrors(t *testing.T) {
	sw, _ := startHostile(t)
	r := stratumtest.DialRaw(t, sw.addr)
	for _, c := range []struct{ send, want string }{
		{`{"id":1,"method":"mining.authorize","params":["alice.1","x"]}`, `{"id":1,"result":null,"error":[101,"Need Subscribed",1]}`},
		{`{"id":2,"method":"mining.configure","params":[]}`, `{"id":2,"result":null,"error":[103,"Too Few Params",1]}`},
		{`{"id":3,"method":"mining.configure"}`, `{"id":3,"result":null,"error":[103,"Too Few Params",1]}`},
		{`{"id":4,"method":"mining.subscribe"}`, `{"id":4,"result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`},
		{`{"id":5,"method":"mining.subscribe","params":[]}`, `{"id":5,"result":null,"error":[102,"Duplicate Subscribed",1]}`},
		{`{"id":6,"method":"mining.authorize","params":[]}`, `{"id":6,"result":null,"error":[103,"Too Few Params",1]}`},
		{`{"id":7,"method":"mining.authorize","params":{"a":1}}`, `{"id":7,"result":null,"error":[103,"Too Few Params",1]}`},
		{`{"id":8,"method":"mining.authorize","params":[5,"x"]}`, `{"id":8,"result":null,"error":[104,"Worker Name Must be a String",1]}`},
		{`{"id":9,"method":"mining.authorize","params":[null]}`, `{"id":9,"result":null,"error":[104,"Worker Name Must be a String",1]}`},
		{`{"id":10,"method":"mining.authorize","params":["","x"]}`, `{"id":10,"result":null,"error":[105,"Sub-account Name Cannot be Empty",1]}`},
		{`{"id":11,"method":"mining.authorize","params":[".1","x"]}`, `{"id":11,"result":null,"error":[105,"Sub-account Name Cannot be Empty",1]}`},
		{`{"id":12,"method":"mining.authorize","params":["../../zookeeper","x"]}`, `{"id":12,"result":null,"error":[105,"Sub-account Name Cannot be Empty",1]}`},
		{`{"id":13,"method":"mining.authorize","params":["\u0000\u001b[31m <>\"'&;.x","x"]}`, ``},
	} {
		if c.want == "" {
			continue
		}
		r.SendLine(c.send)
		r.ExpectLine(c.want)
	}
}

// Sessions that leave while they wait for the server ID do not cost more each when
// there are more of them.
func TestManySessionsWaitForServerID(t *testing.T) {
	coins := newMemoryCoins(nil)
	coins.server = 0
	sw := startSwitcher(t, coins, []*stratumtest.Pool{startPool(t, stratumtest.PoolOptions{Name: "btc"})}, nil)
	l := new(sessionLoop)
	leave := func(n int) time.Duration {
		var sessions []*Session
		for range n {
			s := &Session{manager: sw.sessionManager, loop: l}
			sw.admitted.Add(1)
			sw.add(s)
			if sw.serverIDOrWait(s) {
				t.Fatal("there is a server ID")
			}
			sessions = append(sessions, s)
		}
		slices.Reverse(sessions) // the worst order for a list
		begun := time.Now()
		for _, s := range sessions {
			sw.remove(s)
		}
		if sw.sessionCount() != 0 || len(sw.waitingID) != 0 {
			t.Fatal("some sessions are still waiting")
		}
		return time.Since(begun)
	}
	leave(1000)
	// A busy machine may interrupt one of the two measurements, so there are some tries.
	const few, many, tries = 4000, 64000, 8
	for try := 1; ; try++ {
		a, b := leave(few), leave(many)
		t.Logf("%d sessions left in %v, %d in %v", few, a, many, b)
		if b <= 5*many/few*max(a, 5*time.Millisecond) {
			break
		}
		if try == tries {
			t.Fatalf("%d sessions left in %v, but %d took %v", few, a, many, b)
		}
	}
}
