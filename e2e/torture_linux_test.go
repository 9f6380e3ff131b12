//go:build linux && e2e

package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

var tortureSeconds = flag.Int("torture-seconds", 20, "how long the random test with a ZooKeeper ensemble runs")

// tortureTimeout is the session timeout, after which ZooKeeper gives a switcher up.
const tortureTimeout = 3 * time.Second

// torture is chaos with coins from a ZooKeeper ensemble, where everything that can
// fail does: pools, ZooKeeper's servers and the way to them, and the daemon. Faults
// have a beginning and an end. After each, the time until every session is where it
// should be is measured.
type torture struct {
	*chaos
	// schedule picks the faults. chaos.rng picks what happens meanwhile, which
	// depends on how long things take.
	schedule  *rand.Rand
	ensemble  *zktest.Ensemble
	proxies   []*zktest.Proxy // between the daemon and each server
	small     string          // small file system with the first server's data
	coinNodes *ensembleCoins
	ids       string // directory of server IDs
	far       []*farPool
	began     time.Time  // when the present faults began
	ends      []faultEnd // ends of the faults that have not ended, the next one first

	visitors  int
	here      []guest
	recovered map[string][]time.Duration // by kind of fault
}

// faultEnd ends a fault at a time after its beginning.
type faultEnd struct {
	after time.Duration
	end   func()
}

// ensembleCoins are coins in a ZooKeeper that may be unreachable.
type ensembleCoins struct {
	world *zkWorld
	away  bool
	dirty map[string]string // to be written when ZooKeeper is back
}

func (z *ensembleCoins) set(coins map[string]string, account string) {
	if z.away {
		z.dirty[account] = coins[account]
		return
	}
	z.world.Put(z.world.coin(account), coins[account])
}

// disturb creates a node anew, which moves nobody.
func (z *ensembleCoins) disturb(rng *rand.Rand) {
	path := z.world.coin(fmt.Sprintf("acc%d", rng.IntN(tortureAccounts)))
	if z.away {
		return
	}
	if node, ok := z.world.Get(path); ok {
		z.world.Remove(path)
		z.world.Put(path, string(node.Value))
	}
}

// settle writes what could not be written before.
func (z *ensembleCoins) settle() {
	z.away = false
	for account, coin := range z.dirty {
		z.world.Put(z.world.coin(account), coin)
	}
	clear(z.dirty)
}

const tortureAccounts, tortureMiners = 4, 25

// newTorture starts everything and waits until all miners mine.
func newTorture(t *testing.T, seed uint64) (*torture, string) {
	t.Helper()
	// A server that writes for half an hour needs this much. One that used up its
	// disk by itself, outside of the fault for that, would be gone for good.
	small := mountSmall(t, 128)
	ensemble, err := zktest.StartEnsemble(3, small)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ensemble.Close() })
	c := &torture{
		chaos: &chaos{
			t: t, rng: rand.New(rand.NewPCG(seed, 2)), coins: make(map[string]string), did: make(map[string]int),
			down: make(map[chaosPool]time.Time), machine: makeDaemonMachine(t),
		},
		schedule: rand.New(rand.NewPCG(seed, 3)), ensemble: ensemble, small: small,
		recovered: make(map[string][]time.Duration),
	}
	c.visits.refused, c.visits.RejectedByCode = make(map[string]int), make(map[int]uint64)
	config := daemontest.FileConfig()
	for _, name := range []string{"btc", "bcc", "bsv"} {
		p := &farPool{poolProcess: startPoolProcess(t, "", name, c.machine.unusedAddr(), "-bits", "5", "-interval", "500ms")}
		c.far, c.pools = append(c.far, p), append(c.pools, p)
	}
	c.configure(config)
	world := &zkWorld{zktest.NewAdmin(t, ensemble.Addrs()...), "/torture"}
	c.coinNodes = &ensembleCoins{world: world, dirty: make(map[string]string)}
	c.source = c.coinNodes
	for i := range tortureAccounts {
		c.coins[fmt.Sprintf("acc%d", i)] = c.pools[i%len(c.pools)].Name()
	}
	for account, coin := range c.coins {
		world.Put(world.coin(account), coin)
	}
	config.ZKBroker = nil
	for _, addr := range ensemble.Addrs() {
		proxy := c.machine.proxy(addr)
		c.proxies = append(c.proxies, proxy)
		config.ZKBroker = append(config.ZKBroker, proxy.Addr())
	}
	c.ids = world.root + "/ids"
	config.ServerID, config.CoinFile = 0, ""
	config.ZKSwitcherWatchDir, config.ZKServerIDAssignDir, config.ZKAutoRegWatchDir = world.root+"/coins/", c.ids+"/", ""
	config.ZKUserCaseInsensitiveIndex, config.EnableUserAutoReg = "", false
	config.ZKSessionTimeoutSeconds = int(tortureTimeout / time.Second)
	config.DrainSeconds, config.PoolIdleSeconds = 2, 3
	c.p = daemontest.StartIn(t, c.machine.name, config, nil)
	for i := range tortureAccounts {
		c.fleets = append(c.fleets, testkit.FleetOf(t, c.p.Addr, fmt.Sprintf("acc%d", i), tortureMiners, 40,
			stratumtest.MinerOptions{Configure: 0x1fffe000, LateShares: 0.2}))
	}
	c.others.start(c.p.Addr)
	return c, config.HTTPDebugListenAddr
}

// Everything fails in turn, and sometimes two things at once. Nobody is lost, every
// share is accounted for, and when a fault is over all miners get where they should
// be. Meanwhile miners at a pool that always works notice nothing, and new ones
// there are served as fast as without any fault.
func TestTorture(t *testing.T) {
	t.Parallel()
	seed := *daemontest.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	c, debug := newTorture(t, seed)
	id := c.p.WaitLog(serverIDLine)[1]
	c.others.begin()
	// One round of everything, so that what grows only once has grown.
	for range 20 {
		c.meanwhile(0)
	}
	c.fault(c.faultNamed("upgrade"))
	c.calm()
	before := c.p.Usage(debug)
	c.others.begin()

	// Each kind has its turn before one comes again.
	var bag []*tortureFault
	next := func() *tortureFault {
		if len(bag) == 0 {
			for i := range tortureFaults {
				bag = append(bag, &tortureFaults[i])
			}
			c.schedule.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		f := bag[0]
		bag = bag[1:]
		return f
	}
	for end := time.Now().Add(time.Duration(*tortureSeconds) * time.Second); time.Now().Before(end); {
		first := next()
		if c.schedule.IntN(3) == 0 {
			second := &tortureFaults[c.schedule.IntN(len(tortureFaults))]
			if second.subject != first.subject {
				c.fault(first, second)
				continue
			}
		}
		c.fault(first)
	}
	c.calm()
	after := c.p.Usage(debug)
	t.Logf("before: %v", before)
	t.Logf("after:  %v", after)
	t.Logf("did %v", c.did)
	t.Logf("%d visitors, refused: %v", c.visits.Miners, c.visits.refused)
	c.report()
	if after.Descriptors != before.Descriptors {
		t.Errorf("%d descriptors, want about the %d of before", after.Descriptors, before.Descriptors)
	}
	if after.Goroutines > before.Goroutines+3 {
		t.Errorf("%d goroutines, want about the %d of before", after.Goroutines, before.Goroutines)
	}
	// Nobody else wanted the server ID, so it must not have changed.
	for _, line := range c.p.LogLines(serverIDLine) {
		if line != id {
			t.Errorf("the server ID is %s, want %s as at first", line, id)
		}
	}
	c.coinNodes.world.Await("the server ID's node is there", func() bool {
		return slices.Equal(c.coinNodes.world.Children(c.ids), []string{id})
	})
	c.others.account()
	c.account()
}

// endFirst ends the fault that is due first.
func (c *torture) endFirst() {
	c.t.Helper()
	first := c.ends[0]
	c.ends = c.ends[1:]
	first.end()
}

// fault makes one or more faults begin together and end one after the other, and
// then waits until all miners are where they should be.
func (c *torture) fault(faults ...*tortureFault) {
	c.t.Helper()
	var names []string
	subjects := make(map[string]bool)
	for _, f := range faults {
		subjects[f.subject] = true
	}
	if subjects["zookeeper"] && subjects["daemon"] {
		// A daemon that was upgraded needs ZooKeeper for its server ID, and new
		// miners wait for that.
		c.others.good.daemonStopped(true)
		defer c.others.good.daemonStopped(false)
	}
	for _, f := range faults {
		names = append(names, f.name)
		lasts := f.least + time.Duration(c.schedule.Int64N(int64(f.most-f.least)+1))
		end := f.begin(c, lasts)
		c.ends = append(c.ends, faultEnd{lasts, end})
	}
	c.did[strings.Join(names, " + ")]++
	c.t.Logf("%s", strings.Join(names, " + "))
	slices.SortStableFunc(c.ends, func(a, b faultEnd) int { return int(a.after - b.after) })
	c.began = time.Now()
	for len(c.ends) > 0 {
		c.meanwhile(time.Until(c.began.Add(c.ends[0].after)))
		c.endFirst()
	}
	c.restore(true)
	for _, p := range c.pools {
		p.SetModes(stratumtest.Modes{})
	}
	// Whether changes in ZooKeeper take effect again can only be seen if there is a
	// change.
	probe := fmt.Sprintf("acc%d", c.rng.IntN(len(c.fleets)))
	c.coins[probe] = c.pools[c.rng.IntN(len(c.pools))].Name()
	over := time.Now()
	c.source.settle()
	c.source.set(c.coins, probe)
	c.allHome()
	took := time.Since(over)
	for _, f := range faults {
		c.recovered[f.name] = append(c.recovered[f.name], took)
	}
	c.allMine(names)
}

// allMine wants all miners to have been kept and each account to continue mining.
func (c *torture) allMine(names []string) {
	c.t.Helper()
	for i, f := range c.fleets {
		before := f.Stats().Accepted
		err := f.WaitFor(testkit.LongWaitContext(c.t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+5 })
		if st := f.Stats(); err != nil || st.Disconnected > 0 || st.Violations > 0 {
			c.t.Fatalf("account %d after %v: %v; %+v", i, names, err, st)
		}
	}
}

// meanwhile makes other things happen for some time, at least one of them.
func (c *torture) meanwhile(lasts time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(lasts); ; {
		c.restore(false)
		switch n := c.rng.IntN(10); {
		case n == 0:
			c.come(c.rng.IntN(len(c.fleets)))
		case n == 1:
			c.leave()
		default:
			c.step()
		}
		pause := min(time.Duration(c.rng.ExpFloat64()*float64(150*time.Millisecond)), time.Until(end))
		time.Sleep(pause)
		if !time.Now().Before(end) {
			return
		}
	}
}

// calm makes the visitors leave and the others return to their own coins, without
// former links.
func (c *torture) calm() {
	c.t.Helper()
	for len(c.here) > 0 {
		c.leave()
	}
	c.others.end()
	c.quiet()
}

// report logs how long it took until all miners were where they should be.
func (c *torture) report() {
	for _, name := range slices.Sorted(maps.Keys(c.recovered)) {
		times := c.recovered[name]
		slices.Sort(times)
		c.t.Logf("%-32s %3d times, all where they should be after: median %7v, longest %7v", name, len(times),
			times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
	}
}
