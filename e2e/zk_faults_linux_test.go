//go:build linux && e2e

package e2e

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

var zkFaultSeconds = flag.Int("zk-fault-seconds", 8, "how many seconds something other than ZooKeeper answers at its port, and nodes cannot be read")

// zkFaults is what TestZKFaults needs to cause faults.
type zkFaults struct {
	t       *testing.T
	p       *daemontest.Daemon
	proxy   *zktest.Proxy
	admin   *zktest.Admin
	dir     string // directory of the coins' nodes
	fleets  map[string]*stratumtest.Fleet
	control *zkControl
	coins   map[string]string
	rng     *rand.Rand
}

// zkControl is a daemon with the same load and coin changes as the one under
// faults. It is connected directly to ZooKeeper and has nodes of its own.
type zkControl struct {
	dir    string // directory of the coins' nodes
	fleets map[string]*stratumtest.Fleet
}

// zkFaultKinds are faults by name. The returned function ends the fault.
var zkFaultKinds = []struct {
	name  string
	later bool // not in the first round; short runs have no time for others
	begin func(*zkFaults) (end func())
}{
	{"none", true, func(*zkFaults) func() { return func() {} }},
	{"HTTP", false, posing(says("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))},
	{"TLS", false, posing(says("\x15\x03\x03\x00\x02\x02\x46"))},
	{"SSH", false, posing(saysAtOnce("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"))},
	{"silent", false, posing(func(conn net.Conn) { io.Copy(io.Discard, conn) })},
	{"closes", true, posing(func(net.Conn) {})},
	{"garbage after the greeting", true, posing(says(zkGreetingText + "\x7f\xff\xff\xff"))},
	{"no permission", false, func(f *zkFaults) func() {
		for account := range f.coins {
			f.admin.Allow(f.dir+account, zktest.NoRead)
		}
		return func() {
			for account := range f.coins {
				f.admin.Allow(f.dir+account, zk.PermAll)
			}
		}
	}},
}

// posing ends, at the earliest, when the daemon has met what answers.
func posing(answer func(net.Conn)) func(*zkFaults) func() {
	return func(f *zkFaults) func() {
		met := make(chan struct{}, 1)
		f.proxy.Pose(func(conn net.Conn) {
			answer(conn)
			select {
			case met <- struct{}{}:
			default:
			}
		})
		return func() {
			f.t.Helper()
			select {
			case <-met:
			case <-time.After(testkit.LongWait):
				f.t.Fatal("the daemon does not disconnect from what answers in ZooKeeper's place")
			}
			f.proxy.Pose(nil)
		}
	}
}

func saysAtOnce(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// Something else answers at ZooKeeper's port, and nodes cannot be read for a while,
// while miners mine and coins change. No miner is lost and no share is delayed by
// it, coins are correct when it is over, and memory stays as it was.
func TestZKFaults(t *testing.T) {
	t.Parallel()
	seed := *daemontest.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	began := time.Now()
	server := zktest.Shared(t)
	f := &zkFaults{
		t: t, proxy: zktest.StartProxy(t, server.Addr()), admin: zktest.NewAdmin(t, server.Addr()),
		fleets: make(map[string]*stratumtest.Fleet), coins: map[string]string{"alice": "btc", "bob": "bcc"},
		rng: rand.New(rand.NewPCG(seed, 4)),
	}
	btc, bcc := testkit.TwoPools(t)
	start := func(broker string, id uint8) (p *daemontest.Daemon, c *daemontest.Config, fleets map[string]*stratumtest.Fleet) {
		c = daemontest.ZKConfig(broker, btc, bcc)
		c.ServerID, c.ZKSessionTimeoutSeconds, c.ZKAuditSeconds = id, 2, 1
		c.DrainSeconds = 1
		c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
		for account, coin := range f.coins {
			f.admin.Put(c.ZKSwitcherWatchDir+account, coin)
		}
		p = daemontest.Start(t, c, nil)
		fleets = make(map[string]*stratumtest.Fleet)
		for account := range f.coins {
			fleets[account] = testkit.FleetOf(t, p.Addr, account, 20, 40, stratumtest.MinerOptions{Configure: 0x1fffe000})
		}
		return p, c, fleets
	}
	p, c, fleets := start(f.proxy.Addr(), 9)
	f.p, f.dir, f.fleets = p, c.ZKSwitcherWatchDir, fleets
	_, controlConfig, controlFleets := start(server.Addr(), 10)
	f.control = &zkControl{controlConfig.ZKSwitcherWatchDir, controlFleets}
	// One round of everything, so that what grows only once has grown.
	f.run(0, 200*time.Millisecond)
	f.run(7, 200*time.Millisecond)
	quiet := func() daemontest.Usage {
		t.Helper()
		testkit.WaitUntil(t, "no links wait for late shares", func() bool {
			return daemontest.Figure(t, daemontest.DebugText(t, c.HTTPDebugListenAddr, "/metrics"), `(?m)^stratum_switcher_draining_links (\S+)`) == 0
		})
		return f.p.Usage(c.HTTPDebugListenAddr)
	}
	before := quiet()

	shares := &sharePair{
		t: t, faulted: slowestOf(f.fleets), control: slowestOf(f.control.fleets),
		limit: func(control time.Duration) time.Duration { return control + 100*time.Millisecond },
	}
	shares.begin()
	did := make(map[string]int)
	end := time.Now().Add(time.Duration(*zkFaultSeconds) * time.Second)
	for rounds := 0; time.Now().Before(end) || rounds == 0; rounds++ {
		for _, kind := range f.rng.Perm(len(zkFaultKinds)) {
			if rounds > 0 && time.Now().After(end) {
				break // each fault has had its turn
			}
			if rounds == 0 && zkFaultKinds[kind].later {
				continue
			}
			// Sometimes the fault lasts until the session has expired.
			lasts := time.Duration(f.rng.Int64N(int64(500 * time.Millisecond)))
			if rounds > 0 && f.rng.IntN(4) == 0 {
				lasts += 4 * time.Second
			}
			for repeat := true; repeat; repeat = shares.end(zkFaultKinds[kind].name) {
				f.run(kind, lasts)
				did[zkFaultKinds[kind].name]++
			}
		}
		logged := f.p.Logged()
		f.p.GoodUpgrade()
		f.p.WaitLogFrom(logged, `http addr=`)
		did["upgrade"]++
		f.run(0, 0)    // shares that waited for the upgrade have been answered
		shares.begin() // the upgrade's pause is not caused by the faults
	}
	for _, fleets := range []map[string]*stratumtest.Fleet{f.fleets, f.control.fleets} {
		for _, fleet := range fleets {
			testkit.SettleFleet(t, fleet)
		}
	}
	after, peak := quiet(), f.p.PeakMemory()
	t.Logf("did %v", did)
	t.Logf("before: %v; after: %v; at most %d KB", before, after, peak)
	shares.check()
	if after.Descriptors > before.Descriptors+2 || after.Goroutines > before.Goroutines+3 {
		t.Errorf("before: %v; after: %v; want about the same", before, after)
	}
	if peak > before.Private+(150<<10) {
		t.Errorf("memory grew too much: before %v, at most %d KB", before, peak)
	}
	// Each process logs a line when it first meets something else at the port, and
	// one a minute.
	lines := f.p.LogLines(`zookeeper: \S+ ((?:is not a ZooKeeper|accepts connections and|closes connections|gave an answer).*)`)
	if most := 3 + int(time.Since(began)/zkComplaintEvery) + did["upgrade"]; len(lines) == 0 || len(lines) > most {
		t.Errorf("%d lines about what answers at ZooKeeper's port, want 1 to %d: %q", len(lines), most, lines)
	}
}

// run lets a fault last for some time while a coin changes, and waits until all
// mine where they should. At the control daemon the coin changes at the same time.
func (f *zkFaults) run(kind int, lasts time.Duration) {
	f.t.Helper()
	fault := zkFaultKinds[kind]
	end := fault.begin(f)
	time.Sleep(lasts / 2)
	account := []string{"alice", "bob"}[f.rng.IntN(2)]
	f.coins[account] = map[string]string{"btc": "bcc", "bcc": "btc"}[f.coins[account]]
	f.admin.Put(f.dir+account, f.coins[account])
	f.admin.Put(f.control.dir+account, f.coins[account])
	time.Sleep(lasts / 2)
	end()
	f.mining(fault.name, f.fleets)
	f.mining("no fault, at the control daemon", f.control.fleets)
}

// mining waits until the fleets mine where their coins are.
func (f *zkFaults) mining(after string, fleets map[string]*stratumtest.Fleet) {
	f.t.Helper()
	for account, fleet := range fleets {
		before := fleet.Stats().Accepted
		_, err := fleet.WaitPool(testkit.LongWaitContext(f.t), f.coins[account])
		if err == nil {
			err = fleet.WaitFor(testkit.LongWaitContext(f.t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+5 })
		}
		if st := fleet.Stats(); err != nil || st.Disconnected > 0 || st.Violations > 0 {
			f.t.Fatalf("%s after %q: %v; %+v", account, after, err, st)
		}
	}
}
