//go:build linux && e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

var chaosSeconds = flag.Int("chaos-seconds", 20, "how long the random tests of switches and pools run")

// chaos is the random test: what it may do, and to which daemon, pools and miners.
type chaos struct {
	t      *testing.T
	rng    *rand.Rand
	p      *daemontest.Daemon
	pools  []chaosPool
	fleets []*stratumtest.Fleet
	coins  map[string]string
	source chaosSource
	did    map[string]int
	down   map[chaosPool]time.Time // when each is brought back
	// troubled is when a pool last did something that may cost a new miner its
	// place.
	troubled time.Time
	// visits are miners that connected and left.
	visits visitStats

	machine *daemonMachine
	others  *chaosOthers
	// portsBack is when the machine gets its many local ports back. Zero means that
	// it has them.
	portsBack time.Time
	// machineSteps is how many of about a hundred steps concern the machine.
	machineSteps int
}

// chaosSource is where coins come from.
type chaosSource interface {
	set(coins map[string]string, account string)
	disturb(rng *rand.Rand)
	settle()
}

// fileCoins is the coin file, which is sometimes missing, empty or torn.
type fileCoins struct{ c *chaos }

func (f fileCoins) set(coins map[string]string, _ string) { f.c.p.SetCoins(coins) }

func (f fileCoins) settle() {}

func (f fileCoins) disturb(rng *rand.Rand) {
	p := f.c.p
	path := filepath.Join(p.Dir, "coins.json")
	switch rng.IntN(3) {
	case 0:
		os.Remove(path)
	case 1:
		p.Replace(path, nil, 0o644)
	case 2:
		p.Replace(path, []byte(`{"acc0": "btc", "acc1`), 0o644)
	}
}

func (c *chaos) usePools(pools []*stratumtest.Pool) {
	for _, p := range pools {
		c.pools = append(c.pools, p)
	}
}

func (c *chaos) step() {
	p := c.pools[c.rng.IntN(len(c.pools))]
	account := fmt.Sprintf("acc%d", c.rng.IntN(len(c.fleets)))
	do := func(what string, f func()) {
		c.did[what]++
		f()
	}
	n := c.rng.IntN(100 + c.machineSteps)
	if far, ok := p.(*farPool); ok && far.frozen {
		n %= 58 // it takes no orders
	} else if n >= 58 && n < 96 {
		c.troubled = time.Now()
	}
	switch {
	case n < 50:
		do("switch", func() {
			c.coins[account] = c.pools[c.rng.IntN(len(c.pools))].Name()
			c.source.set(c.coins, account)
		})
	case n < 58:
		do("no such coin", func() {
			c.coins[account] = noSuchCoin
			c.source.set(c.coins, account)
		})
	case n < 68:
		do("connections closed", p.CloseConnections)
	case n < 76:
		do("pool down", func() {
			p.Close()
			c.down[p] = time.Now().Add(time.Duration(c.rng.IntN(3000)) * time.Millisecond)
		})
	case n < 84:
		do("clean job", func() { p.NewJob(true) })
	case n < 90:
		do("client.reconnect", func() { p.SendReconnect("h", 1, 0) })
	case n < 96:
		do("slow answers", func() {
			p.SetModes(stratumtest.Modes{AnswerDelay: time.Duration(c.rng.IntN(300)) * time.Millisecond})
		})
	case n < 100:
		do("coin source", func() { c.source.disturb(c.rng) })
	case n%2 == 0:
		do("few local ports", func() { c.fewLocalPorts(time.Duration(c.rng.IntN(4000)) * time.Millisecond) })
	default:
		do("dead IPs", func() { c.machine.setHosts(c.rng) })
	}
}

// restore brings back the pools whose time has come, or all, and local ports too.
func (c *chaos) restore(all bool) {
	c.t.Helper()
	for p, at := range c.down {
		if all || time.Now().After(at) {
			if err := p.Restart(); err != nil {
				c.t.Fatal(err)
			}
			delete(c.down, p)
			c.troubled = time.Now()
		}
	}
	if !c.portsBack.IsZero() && (all || time.Now().After(c.portsBack)) {
		c.machine.setLocalPorts(manyLocalPorts)
		c.portsBack, c.troubled = time.Time{}, time.Now()
	}
}

// fewLocalPorts gives the daemon's machine few local ports for a while.
func (c *chaos) fewLocalPorts(lasts time.Duration) {
	c.t.Helper()
	c.machine.setLocalPorts(fewLocalPorts)
	c.troubled = time.Now()
	c.portsBack = c.troubled.Add(lasts)
}

// quiet gives all accounts their own coin and waits until all mine it and no former
// link is left.
func (c *chaos) quiet() {
	c.t.Helper()
	c.restore(true)
	for _, p := range c.pools {
		p.SetModes(stratumtest.Modes{})
	}
	for i := range c.fleets {
		account := fmt.Sprintf("acc%d", i)
		c.coins[account] = c.pools[i%len(c.pools)].Name()
		c.source.set(c.coins, account)
	}
	c.source.settle()
	c.allHome()
	connections, others := connected(c.fleets), connected(c.others.good.fleet)
	end := time.Now().Add(30 * time.Second)
	for {
		open := 0
		for _, p := range c.pools {
			open += p.Stats().Connections
		}
		held := c.minersHeld()
		if open == connections && held == connections+others {
			return
		}
		if time.Now().After(end) {
			c.t.Errorf("got %d links to pools for %d miners, want one each; the daemon has connections of %d miners, want %d", open, connections, held, connections+others)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settledUsage returns what the daemon holds when the number of its descriptors has not
// changed for longer than a former link is kept. A pool that has closed a link no longer
// counts it, but the daemon may not have noticed that yet.
func (c *chaos) settledUsage(config *daemontest.Config) daemontest.Usage {
	c.t.Helper()
	var u daemontest.Usage
	since := time.Now()
	testkit.WaitUntil(c.t, "the number of descriptors stays the same", func() bool {
		was := u.Descriptors
		if u = c.p.Usage(config.HTTPDebugListenAddr); u.Descriptors != was {
			since = time.Now()
		}
		time.Sleep(100 * time.Millisecond)
		return time.Since(since) > time.Duration(config.DrainSeconds)*time.Second+time.Second
	})
	return u
}

// connected counts the miners that have a connection.
func connected(fleets []*stratumtest.Fleet) (n int) {
	for _, f := range fleets {
		st := f.Stats()
		n += st.Miners - st.Disconnected
	}
	return n
}

// minersHeld counts the miners' connections that the daemon has not closed yet, whether
// the miner has or not.
func (c *chaos) minersHeld() (n int) {
	c.t.Helper()
	listener := fmt.Sprintf(":%04X", netip.MustParseAddrPort(c.p.Addr).Port())
	const established, closedByPeer = "01", "08"
	for line := range strings.Lines(testkit.ReadFile(c.t, fmt.Sprintf("/proc/%d/net/tcp", c.p.Cmd.Process.Pid))) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], listener) && (f[3] == established || f[3] == closedByPeer) {
			n++
		}
	}
	return n
}

// allHome waits until all miners are where their coin says. Those whose coin does
// not exist may be anywhere.
func (c *chaos) allHome() {
	c.t.Helper()
	for i, f := range c.fleets {
		want := c.coins[fmt.Sprintf("acc%d", i)]
		if want == noSuchCoin {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*switchRetryMost) // with jitter
		err := f.WaitFor(ctx, func(st stratumtest.FleetStats) bool { return st.ByPool[want] == st.Miners-st.Disconnected })
		cancel()
		if err != nil {
			c.t.Fatalf("account %d does not get to %s: %v", i, want, err)
		}
	}
}

// noSuchCoin is in no configuration.
const noSuchCoin = "dogecoin"

// TestChaos switches coins and disturbs pools and the coin file at random while all
// miners mine.
func TestChaos(t *testing.T) {
	t.Parallel()
	testChaos(t, func(c *chaos, _ *daemontest.Config) chaosSource { return fileCoins{c} })
}

// testChaos is the random test. At the end every share is accounted for, miners at
// the pool that always works have noticed nothing, and the daemon holds as much as
// before. withCoins completes the configuration and returns the source of coins,
// which is used when the daemon runs.
func testChaos(t *testing.T, withCoins func(*chaos, *daemontest.Config) chaosSource) {
	const accounts, miners = 5, 200
	lasts := time.Duration(*chaosSeconds) * time.Second
	seed := *daemontest.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 0)), coins: make(map[string]string), did: make(map[string]int), down: make(map[chaosPool]time.Time), machine: makeDaemonMachine(t), machineSteps: 6}
	var pools []*stratumtest.Pool
	for _, name := range []string{"btc", "bcc", "bsv"} {
		pools = append(pools, testkit.StartPool(t, stratumtest.PoolOptions{Name: name, Addr: c.machine.unusedAddr(), ShareBits: 5, VersionMask: 0x1fffe000, JobInterval: 500 * time.Millisecond}))
	}
	c.usePools(pools)
	for i := range accounts {
		c.coins[fmt.Sprintf("acc%d", i)] = c.pools[i%len(c.pools)].Name()
	}
	config := daemontest.FileConfig()
	c.configure(config)
	config.DrainSeconds = 2
	c.source = withCoins(c, config)
	c.p = daemontest.StartIn(t, c.machine.name, config, c.coins, "-vmodule=session=2")
	for i := range accounts {
		c.fleets = append(c.fleets, testkit.FleetOf(t, c.p.Addr, fmt.Sprintf("acc%d", i), miners/accounts, 80,
			stratumtest.MinerOptions{Configure: 0x1fffe000, LateShares: 0.2}))
	}
	c.others.start(c.p.Addr)
	c.others.begin()
	// One round of everything, so that what grows only once has grown.
	for range 40 {
		c.restore(false)
		c.step()
		time.Sleep(time.Duration(c.rng.IntN(60)) * time.Millisecond)
	}
	c.others.end()
	c.quiet()
	before, heapBefore := c.settledUsage(config), daemontest.HeapBytes(t, config.HTTPDebugListenAddr)

	c.others.begin()
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		c.restore(false)
		c.step()
		time.Sleep(time.Duration(c.rng.ExpFloat64() * float64(150*time.Millisecond)))
	}
	c.others.end()
	c.quiet()
	after, heapAfter := c.settledUsage(config), daemontest.HeapBytes(t, config.HTTPDebugListenAddr)
	t.Logf("before: %v, %d KB heap", before, heapBefore>>10)
	t.Logf("after:  %v, %d KB heap", after, heapAfter>>10)
	t.Logf("did %v", c.did)
	if after.Descriptors != before.Descriptors {
		t.Errorf("%d descriptors, want about the %d of before", after.Descriptors, before.Descriptors)
	}
	if after.Goroutines > before.Goroutines+3 {
		t.Errorf("%d goroutines, want about the %d of before", after.Goroutines, before.Goroutines)
	}
	if heapAfter > heapBefore+heapBefore/2+1<<20 {
		t.Errorf("%d KB heap, want about the %d of before", heapAfter>>10, heapBefore>>10)
	}
	// The race detector has its own memory outside the heap, which grows with
	// everything that was ever synchronized.
	if !*daemontest.DaemonRace && after.Private > before.Private+before.Private/2+8<<10 {
		t.Errorf("%d KB private memory, want about the %d of before", after.Private, before.Private)
	}
	c.others.account()
	c.account()
}

// account checks what became of each share, and that no pool was given one for
// another pool's job. Only the last refusals of each pool are looked at.
func (c *chaos) account() {
	t := c.t
	var sum stratumtest.FleetStats
	sum.RejectedByCode = make(map[int]uint64)
	for _, f := range c.fleets {
		st := testkit.SettleFleet(t, f)
		if st.Disconnected > 0 {
			t.Logf("sessions closed: %q", c.p.LogLines(`(worker=\S+ closed phase=.*)`))
		}
		sum.Submitted += st.Submitted
		sum.Accepted += st.Accepted
		sum.Rejected += st.Rejected
		sum.Switches += st.Switches
		for code, n := range st.RejectedByCode {
			sum.RejectedByCode[code] += n
			if code != 20 && code != 21 {
				t.Errorf("%d shares rejected with code %d", n, code)
			}
		}
		for _, m := range f.Miners() {
			if st := m.Stats(); st.RejectedByCode[20] > 0 && strings.HasPrefix(st.LastReject, "20 ") && st.LastReject != "20 Pool connection lost" {
				t.Errorf("miner %s: unexpected last rejection %s", m.Worker(), st.LastReject)
			}
		}
	}
	c.visits.addTo(&sum)
	var accepted, rejected uint64
	strays := 0
	for _, p := range c.pools {
		st := p.Stats()
		accepted, rejected = accepted+st.Accepted, rejected+st.Rejected
		for code, n := range st.RejectedByCode {
			if code != 21 && n > 0 {
				t.Errorf("pool %s rejected %d shares with code %d", p.Name(), n, code)
			}
		}
		for _, r := range p.Rejects() {
			if !strings.Contains(r.Line, `"`+p.Name()+"-") {
				strays++
				t.Errorf("pool %s was given a share for another pool's job: %s", p.Name(), r.Line)
			}
			if r.Code != 21 {
				t.Errorf("pool %s rejected a share with code %d, %s: %s", p.Name(), r.Code, r.Reason, r.Line)
			}
		}
		checkFaultsButTwice(t, p)
	}
	lost := sum.RejectedByCode[20]
	t.Logf("%d moves, %d shares: %d accepted, %d too late, %d lost with a pool; pools accepted %d and rejected %d, of their last rejects %d were for another pool's job",
		sum.Switches, sum.Submitted, sum.Accepted, sum.RejectedByCode[21], lost, accepted, rejected, strays)
	if sum.Submitted != sum.Accepted+sum.Rejected+sum.Unanswered {
		t.Errorf("of %d shares %d were accepted, %d rejected and %d unanswered when their miners left; the sum is wrong", sum.Submitted, sum.Accepted, sum.Rejected, sum.Unanswered)
	}
	// A lost share may have reached the pool if only its answer was lost, and so
	// may one that was on its way when its miner left. Nothing else may differ.
	lost += sum.Unanswered
	if sum.Accepted > accepted || sum.RejectedByCode[21] > rejected || accepted+rejected > sum.Submitted ||
		sum.Accepted+sum.RejectedByCode[21]+lost < accepted+rejected {
		t.Errorf("miners counted %d accepted, %d rejected and %d lost shares, pools %d accepted and %d rejected", sum.Accepted, sum.RejectedByCode[21], lost, accepted, rejected)
	}
}

// checkFaultsButTwice wants no faults, except that a former link which owes answers
// may still be there when the session is back at the pool.
func checkFaultsButTwice(t *testing.T, p chaosPool) {
	t.Helper()
	for _, fault := range p.Faults() {
		if !strings.Contains(fault, "is also that of connection") {
			t.Errorf("pool %s: fault %s", p.Name(), fault)
		}
	}
	if n := p.Stats().DuplicateExtranonces; n > 0 {
		t.Logf("pool %s: %d times a session was back while its former link still owed answers", p.Name(), n)
	}
}

// TestChaosSwitchesOnly makes switches at random, one after the other and back and
// forth, with late answers and no faults. No share is refused, lost or sent to a
// pool that does not know its job.
func TestChaosSwitchesOnly(t *testing.T) {
	t.Parallel()
	seed := *daemontest.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var pools []*stratumtest.Pool
	for _, name := range []string{"btc", "bcc", "bsv"} {
		pools = append(pools, testkit.StartPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 5, JobInterval: 300 * time.Millisecond, CleanEvery: 1 << 30}))
	}
	c := &chaos{t: t, coins: make(map[string]string)}
	c.usePools(pools)
	for i := range 3 {
		c.coins[fmt.Sprintf("acc%d", i)] = pools[i].Name()
	}
	c.p = daemontest.Start(t, daemontest.FileConfig(pools...), c.coins)
	for i := range 3 {
		c.fleets = append(c.fleets, testkit.FleetOf(t, c.p.Addr, fmt.Sprintf("acc%d", i), 20, 80, stratumtest.MinerOptions{LateShares: 0.5}))
	}
	at := []int{0, 1, 2}
	logged := make([]int, 3) // where each account's last move begins in the log
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		// The accounts move in turn, one after the other, so that no share is on
		// its way to a pool that is left and returned to at the same moment.
		account := rng.IntN(3)
		name := fmt.Sprintf("acc%d", account)
		if logged[account] > 0 {
			c.p.WaitLogFrom(logged[account], fmt.Sprintf(`switch account=%q to=%q miners=20 .* done`, name, c.coins[name]))
		}
		at[account] = (at[account] + 1) % 3
		c.coins[name] = pools[at[account]].Name()
		logged[account] = c.p.Logged()
		c.p.SetCoins(c.coins)
		p := pools[rng.IntN(3)]
		p.SetModes(stratumtest.Modes{AnswerDelay: time.Duration(rng.IntN(200)) * time.Millisecond})
		time.Sleep(150*time.Millisecond + time.Duration(rng.ExpFloat64()*float64(150*time.Millisecond)))
	}
	var moves, shares uint64
	for _, f := range c.fleets {
		st := testkit.SettleFleet(t, f)
		moves, shares = moves+st.Switches, shares+st.Submitted
		if st.Rejected > 0 {
			t.Errorf("%d of %d shares were rejected, want none: %v", st.Rejected, st.Submitted, st.RejectedByCode)
		}
	}
	t.Logf("%d moves, %d shares", moves, shares)
	for _, p := range pools {
		for i, r := range p.Rejects() {
			if i < 5 {
				t.Errorf("pool %s rejected a share with code %d, %s: %s", p.Name(), r.Code, r.Reason, r.Line)
			}
		}
		checkFaultsButTwice(t, p)
	}
}
