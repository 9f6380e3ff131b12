package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// deadPool is an address where nobody speaks Stratum: connections are counted and
// closed. It can be replaced by a pool, and come back.
type deadPool struct {
	t     *testing.T
	addr  string
	dials atomic.Int64
	own   int64 // dials by allDials
	hang  bool  // connections are not closed but hang
	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func startDeadPool(t *testing.T, addr string, hang bool) *deadPool {
	t.Helper()
	d := &deadPool{t: t, addr: addr, hang: hang}
	if d.addr == "" {
		d.addr = unusedAddr(t)
	}
	var err error
	if d.ln, err = testport.ListenAgain(d.addr); err != nil {
		t.Fatal(err)
	}
	d.wg.Go(d.accept)
	t.Cleanup(d.close)
	return d
}

func (d *deadPool) accept() {
	for {
		conn, err := d.ln.Accept()
		if err != nil {
			return
		}
		d.dials.Add(1)
		if !d.hang {
			conn.Close()
			continue
		}
		d.mu.Lock()
		d.conns = append(d.conns, conn)
		d.mu.Unlock()
		d.wg.Go(func() { io.Copy(io.Discard, conn) })
	}
}

// allDials returns how many connections there were before this call. A connection
// exists for the one that dials as soon as the kernel has queued it, so the last of the
// queue is awaited.
func (d *deadPool) allDials() int64 {
	d.t.Helper()
	d.own++
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(testkit.LongWait))
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Fatal("the dead pool has not closed the connection")
	}
	return d.dials.Load() - d.own
}

func (d *deadPool) close() {
	d.ln.Close()
	d.mu.Lock()
	for _, conn := range d.conns {
		conn.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

// backups returns a configuration with one coin, btc, at these addresses.
func backups(addrs ...string) func(*Config) {
	return func(c *Config) {
		c.StratumServerMap["btc"] = StratumServerInfo{URL: addrs[0], UserSuffix: "btc", BackupURLs: addrs[1:]}
	}
}

// sessionsAt counts sessions by the address at which they mine.
func (m *testSwitcher) sessionsAt() map[string]int {
	at := make(map[string]int)
	m.eachSession(func(s *Session) {
		if s.phase == phaseRelaying || s.phase == phaseSwitching {
			at[s.link.address.text]++
		}
	})
	return at
}

// miningPool starts a simulated pool with the name of its role. All have the same
// coin.
func miningPool(t *testing.T, name, addr string) *stratumtest.Pool {
	return startPool(t, stratumtest.PoolOptions{Name: name, Addr: addr, ShareBits: 4})
}

// A new miner gets the first address that serves, whatever is wrong with those
// before it. No miner is refused because of them.
func TestFailoverInOrder(t *testing.T) {
	t.Parallel()
	second := miningPool(t, "second", "")
	third := miningPool(t, "third", "")
	dead := startDeadPool(t, "", false)
	hangs := startDeadPool(t, "", true)
	for _, c := range []struct {
		name  string
		addrs []string
		want  string
	}{
		{"first", []string{third.Addr(), second.Addr()}, "third"},
		{"first refuses", []string{unusedAddr(t), second.Addr(), third.Addr()}, "second"},
		{"first closes", []string{dead.addr, second.Addr(), third.Addr()}, "second"},
		{"first hangs", []string{hangs.addr, second.Addr(), third.Addr()}, "second"},
		{"two are dead", []string{unusedAddr(t), dead.addr, third.Addr()}, "third"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), nil, backups(c.addrs...))
			if slices.Contains(c.addrs, hangs.addr) {
				sw.setTiming(func(tm *timing) { tm.poolHandshake = 2 * time.Second })
			}
			for i := range 5 {
				m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: fmt.Sprintf("alice.%d", i)})
				waitPool(t, m, c.want)
				waitAccepted(t, m, 2)
				checkMiner(t, m)
			}
		})
	}
}

// The first address fails with 500 sessions on it. They continue at the backup, and
// only a few dial the failed one. When it is back, all return in steps, and no
// share is lost by that.
func TestFailoverAndBack(t *testing.T) {
	t.Parallel()
	const miners = 500
	backup := miningPool(t, "backup", "")
	first := miningPool(t, "first", "")
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), nil, backups(first.Addr(), backup.Addr()))
	f := stratumtest.NewFleet(stratumtest.FleetOptions{N: miners, Addr: sw.addr, WorkerName: workerNames("alice"), SharesPerSecond: 500})
	t.Cleanup(f.Close)
	if err := f.WaitAuthorized(testkit.LongWaitContext(t)); err != nil {
		t.Fatal(err, f.DialErrors())
	}
	waitUntil(t, "all mine at the first", func() bool { return f.Stats().ByPool["first"] == miners })

	first.Close()
	died := time.Now()
	dead := startDeadPool(t, first.Addr(), false)
	eventually(t, "all mine at the backup", func() bool { return sw.sessionsAt()[backup.Addr()] == miners })
	moved := time.Since(died)
	before := dead.allDials()
	t.Logf("%d sessions moved to the backup in %v; the dead address was dialled %d times", miners, moved.Round(time.Millisecond), before)
	// Sessions that were dialling when the breaker opened are let through.
	if before > 128+breakerFailures {
		t.Errorf("the dead address was dialled %d times before it was given up", before)
	}
	time.Sleep(4 * time.Second) // several rounds of the sweep
	if n := dead.allDials() - before; n > 15 {
		t.Errorf("the dead address was dialled %d times in 4 s", n)
	} else {
		t.Logf("the dead address was dialled %d times in 4 s", n)
	}

	st := f.Stats()
	lost := st.RejectedByCode[20]
	if st.Disconnected > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Violations > 0 {
		t.Errorf("unexpected statistics after the failover: %+v", st)
	}
	dead.close()
	if err := first.Restart(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	deadline := time.Now().Add(40 * time.Second)
	var half time.Duration
	for {
		at := sw.sessionsAt()
		if half == 0 && at[first.Addr()] >= miners/2 {
			half = time.Since(back)
		}
		if at[first.Addr()] == miners {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all sessions are back: %v", at)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("half were back after %v, all after %v", half.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	f.SetRate(0)
	if err := f.WaitFor(waitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Error(err)
	}
	st = f.Stats()
	if st.Disconnected > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Violations > 0 {
		t.Errorf("unexpected statistics after the return: %+v", st)
	}
	if st.RejectedByCode[20] != lost {
		t.Errorf("%d shares were lost on the way back", st.RejectedByCode[20]-lost)
	}
	// Shares from the failed first pool may have come too late for the backup, but
	// the return may cost nobody a share.
	for _, r := range first.Rejects() {
		t.Errorf("the first pool rejected a share with code %d, %s: %s", r.Code, r.Reason, r.Line)
	}
	checkFaults(t, first)
	checkFaults(t, backup)
	f.Close()
	sw.wantNothingLeft(t)
}

// A pool that sends nothing for PoolIdleSeconds counts as lost.
func TestFailoverPoolIdle(t *testing.T) {
	t.Parallel()
	silent := startPool(t, stratumtest.PoolOptions{Name: "silent", ShareBits: 4})
	lively := startPool(t, stratumtest.PoolOptions{Name: "lively", ShareBits: 4, JobInterval: 300 * time.Millisecond})
	start := func(idle int, addrs ...string) (*testSwitcher, *stratumtest.Miner) {
		t.Helper()
		sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), nil, func(c *Config) {
			backups(addrs...)(c)
			c.PoolIdleSeconds = idle
		})
		return sw, steadyMiner(t, sw, "alice.1")
	}
	off, stays := start(0, silent.Addr(), lively.Addr())
	_, goes := start(1, silent.Addr(), lively.Addr())
	other, works := start(1, lively.Addr(), silent.Addr())
	began := time.Now()
	waitPool(t, goes, "silent")
	waitPool(t, stays, "silent")
	waitPool(t, works, "lively")
	_ = other
	// Its answers to shares make no difference.
	if err := goes.WaitFor(longContext(t, 15*time.Second), func(st stratumtest.MinerStats) bool { return st.Pool == "lively" }); err != nil {
		t.Fatal(err)
	}
	t.Logf("at the backup after %v", time.Since(began).Round(10*time.Millisecond))
	waitAccepted(t, goes, 3)
	if n := off.linksLost.Load(); n != 0 || stays.Stats().Pool != "silent" {
		t.Errorf("with PoolIdleSeconds 0, %d links were lost and the miner is at %s", n, stays.Stats().Pool)
	}
	if n := other.linksLost.Load(); n != 0 || works.Stats().Switches != 0 {
		t.Errorf("with jobs, %d links were lost and there were %d switches", n, works.Stats().Switches)
	}
	for _, m := range []*stratumtest.Miner{goes, stays, works} {
		if st := m.Stats(); st.Disconnected || len(st.Violations) > 0 || st.Doubled > 0 {
			t.Errorf("unexpected statistics of the miner: %+v", st)
		}
	}
}

// A process that is stopped while it handles events does not mistake its own pause for the
// pool's silence: a job that it reads after the pause counts as seen then.
func TestFailoverPauseOfProcessIsNoSilence(t *testing.T) {
	t.Parallel()
	sc, _ := startScene(t, "bitcoin", func(c *Config) { c.PoolIdleSeconds = 1 }, "btc")
	sc.sw.eachSession(func(s *Session) {
		time.Sleep(2100 * time.Millisecond) // the pause is the fault itself
		s.gotJob()
	})
	sc.sw.eachSession(func(s *Session) {
		s.look(&sweepBudget{failBack: make(map[*poolAddress]int)})
		if s.phase != phaseRelaying {
			t.Errorf("the session is in phase %v, want relaying", s.phase)
		}
	})
	if n := sc.sw.timesTakenOut(); n > 0 {
		t.Errorf("the address was taken out %d times, want never", n)
	}
}

// client.reconnect renews the links. The miners stay and lose no share, even if the
// pool then closes.
func TestFailoverClientReconnect(t *testing.T) {
	btc := miningPool(t, "btc", "")
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, nil)
	const miners = 50
	f := stratumtest.NewFleet(stratumtest.FleetOptions{N: miners, Addr: sw.addr, WorkerName: workerNames("alice"), SharesPerSecond: 500})
	t.Cleanup(f.Close)
	if err := f.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 3; round++ {
		btc.SendReconnect("evil.example.com", 1, 0)
		eventually(t, "all links are renewed", func() bool {
			st := btc.Stats()
			return st.ConnectionsTotal >= (round+1)*miners && st.Ready == miners && sw.linksInPreparation() == 0
		})
	}
	f.SetRate(0)
	if err := f.WaitFor(waitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Error(err)
	}
	st := f.Stats()
	if st.Disconnected > 0 || st.Rejected > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Violations > 0 || sw.linksLost.Load() > 0 {
		t.Errorf("unexpected statistics %+v, or %d links were lost", st, sw.linksLost.Load())
	}
	for _, m := range f.Miners() {
		if m.Stats().Reconnects > 0 {
			t.Errorf("miner %s was told to reconnect", m.Worker())
		}
	}
	checkPool(t, btc)
}

// While all addresses are down, a new miner gets an error in time. One that still
// waits is served as soon as an address is back.
func TestFailoverAllDown(t *testing.T) {
	t.Parallel()
	addrs := []string{unusedAddr(t), unusedAddr(t)}
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), nil, backups(addrs...))
	sw.setTiming(func(tm *timing) { tm.poolHandshake = 2 * time.Second })
	refused := func(i int) time.Duration {
		t.Helper()
		r := dialSubscribed(t, sw.addr)
		began := time.Now()
		r.SendLine(rawAuthorize)
		r.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
		r.ExpectClosed()
		return time.Since(began)
	}
	var took []time.Duration
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			d := refused(i)
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
		})
	}
	all.Wait()
	// This is the time for a handshake, the pause before a last try, and what a busy
	// machine adds.
	if most := slices.Max(took); most > 2*time.Second+2*reconnectFirst+5*time.Second {
		t.Errorf("a miner got 302 after %v, which is too late", most)
	}
	t.Logf("302 after %v to %v", slices.Min(took).Round(time.Millisecond), slices.Max(took).Round(time.Millisecond))

	// Until an address is back nobody probes or gives up, however long this machine
	// takes to connect the miners. Nobody probes the other, because a miner that fails
	// there while another probes this one is refused.
	sw.setTiming(func(tm *timing) { tm.poolHandshake = time.Hour })
	probeFrom := func(a *poolAddress, at time.Time) {
		sw.health.mu.Lock()
		defer sw.health.mu.Unlock()
		a.ips[0].breaker.pauses[standingNone].until = at
	}
	for _, a := range sw.pools["btc"].addresses {
		probeFrom(a, time.Now().Add(time.Hour))
	}
	var waiting []*stratumtest.Miner
	for i := range 20 {
		waiting = append(waiting, startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: fmt.Sprintf("alice.%d", i)}))
	}
	eventually(t, "they wait", func() bool { return sw.sessionsIn(phaseRouting) == len(waiting) })
	second := miningPool(t, "second", addrs[1])
	back := time.Now()
	probeFrom(sw.pools["btc"].addresses[1], back)
	for _, m := range waiting {
		if err := m.WaitFor(longContext(t, 15*time.Second), func(st stratumtest.MinerStats) bool { return st.Pool == "second" }); err != nil {
			t.Fatal(err)
		}
		waitAccepted(t, m, 2)
		checkMiner(t, m)
	}
	t.Logf("those that waited mined %v after the pool was back", time.Since(back).Round(time.Millisecond))
	checkPool(t, second)
}

// Miners whose pool fails, and miners whose switch waits for a pool that is down,
// do not wait for their timers when it is back.
func TestFailoverWaitingAreServedAtOnce(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc", "bob": "bcc"}), []*stratumtest.Pool{btc, bcc}, nil)
	sw.setTiming(func(tm *timing) {
		tm.reconnectFirst, tm.reconnectMost = 100*time.Millisecond, time.Hour
		tm.switchRetryFirst, tm.switchRetryMost = 100*time.Millisecond, time.Hour
	})
	var miners []*stratumtest.Miner
	for i := range 40 {
		name := []string{"alice", "bob"}[i%2]
		m := steadyMiner(t, sw, fmt.Sprintf("%s.%d", name, i))
		waitPool(t, m, []string{"btc", "bcc"}[i%2])
		miners = append(miners, m)
	}
	bcc.Close()
	sw.coins.set("alice", "bcc")
	eventually(t, "the breaker is open, all wait", func() bool {
		return sw.pools["bcc"].addresses[0].state(true) != breakerClosed && sw.sessionsIn(phaseReconnecting) == 20 && sw.sessionsIn(phaseSwitching) == 20
	})
	if err := bcc.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, m := range miners {
		waitPool(t, m, "bcc")
		waitAccepted(t, m, 2)
	}
}
