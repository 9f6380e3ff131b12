//go:build linux && !portable_relay

package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

var (
	chaosSeconds = flag.Int("chaos-seconds", 120, "how long the random test runs")
	chaosSeed    = flag.Uint64("seed", 0, "of the random test; 0: by the clock")
	chaosZK      = flag.Bool("chaos-zk", false, "coins from a ZooKeeper that is restarted, instead of a file")
)

// poolProcess is a simulated pool as a process of its own.
type poolProcess struct {
	t    *testing.T
	name string
	args []string
	in   string // network namespace; empty: the test's own
	addr string
	cmd  *exec.Cmd
	life io.WriteCloser // its standard input
	out  *bufio.Reader  // its standard output
}

var builtPoolProcess = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "stratumSwitcher-poolproc")
	if err != nil {
		return "", err
	}
	testCleanups = append(testCleanups, func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "poolproc")
	if out, err := exec.Command("go", "build", "-o", path, "./internal/stratumtest/poolproc").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func startPoolProcess(t *testing.T, in, name, addr string, args ...string) *poolProcess {
	t.Helper()
	p := &poolProcess{t: t, name: name, in: in, addr: addr, args: args}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *poolProcess) start() {
	p.t.Helper()
	binary, err := builtPoolProcess()
	if err != nil {
		p.t.Fatal(err)
	}
	args := append([]string{binary, "-name", p.name, "-addr", p.addr}, p.args...)
	if p.in != "" {
		args = append([]string{"ip", "netns", "exec", p.in}, args...)
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = os.Stderr
	if p.life, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("pool %s does not start: %v", p.name, err)
	}
	p.addr = strings.TrimSpace(line)
}

func (p *poolProcess) kill() {
	p.cmd.Process.Kill()
	p.life.Close()
	p.cmd.Wait()
}

func (p *poolProcess) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// outageConfig has one coin, btc, at these addresses.
func outageConfig(addrs ...string) *Config {
	c := fileConfig()
	c.StratumServerMap["btc"] = StratumServerInfo{URL: addrs[0], UserSuffix: "btc", BackupURLs: addrs[1:]}
	c.PoolIdleSeconds = 2
	return c
}

// outageMiners are few enough that all of them can be asked at any time.
func outageMiners(t *testing.T, addr, account string, n int) []*stratumtest.Miner {
	t.Helper()
	var miners []*stratumtest.Miner
	for i := range n {
		miners = append(miners, startMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: fmt.Sprintf("%s.%d", account, i), Rate: 10}))
	}
	return miners
}

// allAt waits until all miners are with the pool and have had a share accepted
// since, and says how long that took.
func allAt(t *testing.T, miners []*stratumtest.Miner, pool string) time.Duration {
	t.Helper()
	began := time.Now()
	for _, m := range miners {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		err := m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
		if err == nil {
			before := m.Stats().Accepted
			err = m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.Accepted > before || st.Disconnected })
		}
		cancel()
		if st := m.Stats(); err != nil || st.Disconnected {
			t.Fatalf("miner %s: %v; %+v", m.Worker(), err, st)
		}
	}
	return time.Since(began).Round(10 * time.Millisecond)
}

// checkKept wants that no miner noticed more than shares that were lost.
func checkKept(t *testing.T, miners []*stratumtest.Miner) {
	t.Helper()
	for _, m := range miners {
		st := m.Stats()
		if st.Disconnected || len(st.Violations) > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Reconnects > 0 {
			t.Errorf("miner %s: %+v", m.Worker(), st)
		}
		for code, n := range st.RejectedByCode {
			if code != 20 && code != 21 {
				t.Errorf("miner %s: %d shares rejected with %d, last %s", m.Worker(), n, code, st.LastReject)
			}
		}
	}
}

// outages are the ways in which a pool goes away, and comes back.
var outages = []struct {
	name       string
	begin, end func(t *testing.T, first *poolProcess)
}{
	{"killed", func(t *testing.T, p *poolProcess) { p.kill() }, func(t *testing.T, p *poolProcess) { p.start() }},
	{"frozen", func(t *testing.T, p *poolProcess) { p.signal(syscall.SIGSTOP) }, func(t *testing.T, p *poolProcess) { p.signal(syscall.SIGCONT) }},
	{"cut off", cutOff, func(t *testing.T, p *poolProcess) {
		ip(t, "-n", p.in, "route", "del", "blackhole", switcherIP)
	}},
}

// cutOff has the pool's packets dropped on their way to the switcher.
func cutOff(t *testing.T, p *poolProcess) {
	t.Helper()
	ip(t, "-n", p.in, "route", "add", "blackhole", switcherIP)
}

// The switcher and its pools of TestOutage live in two namespaces made for
// them, joined by a cable of their own.
const (
	switcherIP = "10.213.77.1"
	poolIP     = "10.213.77.2"
)

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

var namespaces struct {
	sync.Mutex
	made int
}

// makeNamespaces makes the two namespaces, or skips the test where that is not
// allowed.
func makeNamespaces(t *testing.T) (switcher, pools string) {
	t.Helper()
	namespaces.Lock()
	namespaces.made++
	suffix := fmt.Sprintf("%d-%d", os.Getpid(), namespaces.made)
	namespaces.Unlock()
	switcher, pools = "sws-"+suffix, "swp-"+suffix
	if out, err := exec.Command("ip", "netns", "add", switcher).CombinedOutput(); err != nil {
		t.Fatalf("network namespaces are needed (root): %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", switcher).Run() })
	ip(t, "netns", "add", pools)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", pools).Run() })
	ip(t, "-n", switcher, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", pools)
	for ns, addr := range map[string]string{switcher: switcherIP, pools: poolIP} {
		ip(t, "-n", ns, "link", "set", "lo", "up")
		ip(t, "-n", ns, "addr", "add", addr+"/24", "dev", "cable")
		ip(t, "-n", ns, "link", "set", "cable", "up")
	}
	return switcher, pools
}

// inNamespace has f make sockets there.
func inNamespace(t *testing.T, name string, f func()) {
	t.Helper()
	// The thread has to come back: processes started by it end with it.
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(home)
	there, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		t.Fatalf("namespace %s: %v", name, err)
	}
	defer func() {
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			panic(err) // with the thread lost, nothing works
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// startProcessIn is startProcess in a network namespace.
func startProcessIn(t *testing.T, namespace string, c *Config, coins map[string]string) *process {
	t.Helper()
	p := newProcess(t, t.TempDir())
	p.writeConfig(c)
	p.setCoins(coins)
	wrapper := filepath.Join(p.dir, "in-namespace")
	script := fmt.Sprintf("#!/bin/sh\nexec ip netns exec %s %s \"$@\"\n", namespace, p.binary)
	p.replace(wrapper, []byte(script), 0o755)
	p.binary = wrapper
	p.start("-logtostderr", "-v=1")
	return p
}

// A pool is killed, frozen or cut off: its miners are kept, go on at the
// backup, and return. Without a backup they wait and go on when it is back.
func TestOutage(t *testing.T) {
	const miners = 20
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			switcher, far := makeNamespaces(t)
			first := startPoolProcess(t, far, "first", poolIP+":3333")
			backup := startPoolProcess(t, switcher, "backup", switcherIP+":3334")
			c := outageConfig(first.addr, backup.addr)
			c.StratumServerMap["bcc"] = StratumServerInfo{URL: first.addr, UserSuffix: "bcc"}
			p := startProcessIn(t, switcher, c, map[string]string{"alice": "btc", "bob": "bcc"})
			var crew, single, late []*stratumtest.Miner
			inNamespace(t, switcher, func() {
				crew = outageMiners(t, p.addr, "alice", miners)
				single = outageMiners(t, p.addr, "bob", miners)
			})
			allAt(t, crew, "first")
			allAt(t, single, "first")
			logged := p.logged()
			o.begin(t, first)
			t.Logf("%s: %d miners mine at the backup %v after the pool went away", o.name, miners, allAt(t, crew, "backup"))
			inNamespace(t, switcher, func() { late = outageMiners(t, p.addr, "alice", 3) })
			t.Logf("%s: new miners mine at the backup after %v", o.name, allAt(t, late, "backup"))
			p.waitLogFrom(logged, `taken out`) // nobody may dial it for a while
			if *longTests {
				time.Sleep(15 * time.Second) // tries go on for about 30 s
			}
			before := make([]uint64, miners)
			for i, m := range single {
				before[i] = m.Stats().Accepted
			}
			o.end(t, first)
			back := time.Now()
			for i, m := range single {
				ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
				err := m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.Accepted > before[i] || st.Disconnected })
				cancel()
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%s: %d miners without a backup mine again %v after it came back", o.name, miners, time.Since(back).Round(10*time.Millisecond))
			crew = append(crew, late...)
			allAt(t, crew, "first")
			t.Logf("%s: all are back from the backup %v after it came back", o.name, time.Since(back).Round(10*time.Millisecond))
			checkKept(t, append(crew, single...))
		})
	}
}

// A pool that says one byte a second is no use: who is there goes to the
// backup when it has given no job in time, who comes goes there too.
func TestOutageTrickle(t *testing.T) {
	t.Parallel()
	slow := startPool(t, stratumtest.PoolOptions{Name: "slow", ShareBits: 4, JobInterval: 300 * time.Millisecond})
	backup := startPool(t, stratumtest.PoolOptions{Name: "backup", ShareBits: 4, JobInterval: 300 * time.Millisecond})
	p := startProcess(t, outageConfig(slow.Addr(), backup.Addr()), map[string]string{"alice": "btc"})
	crew := outageMiners(t, p.addr, "alice", 20)
	allAt(t, crew, "slow")
	slow.SetModes(stratumtest.Modes{Trickle: time.Second})
	t.Logf("trickle: 20 miners mine at the backup after %v", allAt(t, crew, "backup"))
	late := outageMiners(t, p.addr, "alice", 3)
	t.Logf("trickle: new miners mine at the backup after %v", allAt(t, late, "backup"))
	crew = append(crew, late...)
	slow.SetModes(stratumtest.Modes{})
	slow.CloseConnections()
	t.Logf("trickle: all mine at the first %v after it came back", allAt(t, crew, "slow"))
	checkKept(t, crew)
}

// A pool that takes 100 connections: the others mine at the backup.
func TestOutageConnectionLimit(t *testing.T) {
	t.Parallel()
	first := startPoolProcess(t, "", "first", "127.0.0.1:0", "-max", "100", "-clean", "1000")
	backup := startPoolProcess(t, "", "backup", "127.0.0.1:0", "-clean", "1000")
	p := startProcess(t, outageConfig(first.addr, backup.addr), map[string]string{"alice": "btc"})
	began := time.Now()
	f := fleetOf(t, p.addr, "alice", 150, 300, stratumtest.MinerOptions{})
	t.Logf("connection limit: 150 miners authorized in %v, at %v", time.Since(began).Round(10*time.Millisecond), f.Stats().ByPool)
	time.Sleep(3 * time.Second) // a sweep or two
	st := settleFleet(t, f)
	t.Logf("connection limit: after 3 s at %v; %d shares, %d rejected %v", st.ByPool, st.Submitted, st.Rejected, st.RejectedByCode)
	if st.ByPool["first"] < 90 || st.ByPool["first"] > 100 || st.ByPool["first"]+st.ByPool["backup"] != 150 {
		t.Errorf("miners are at %v", st.ByPool)
	}
	if st.Rejected > 0 {
		t.Errorf("%d shares rejected: %v", st.Rejected, st.RejectedByCode)
	}
}

// usage is what a process holds.
type usage struct {
	descriptors, goroutines int
	private                 int // KB
}

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d goroutines, %d KB private", u.descriptors, u.goroutines, u.private)
}

var (
	goroutinesOf = regexp.MustCompile(`goroutine profile: total (\d+)`)
	privateOf    = regexp.MustCompile(`(?m)^Private_(?:Clean|Dirty): +(\d+) kB`)
)

func (p *process) usage(debug string) (u usage) {
	p.t.Helper()
	res, err := http.Get("http://" + debug + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, _ := io.ReadAll(res.Body)
	if m := goroutinesOf.FindSubmatch(text); m != nil {
		u.goroutines, _ = strconv.Atoi(string(m[1]))
	}
	u.descriptors = p.descriptors()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range privateOf.FindAllSubmatch(rollup, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		u.private += n
	}
	return u
}

// chaos is the random test: what it may do, and to whom.
type chaos struct {
	t      *testing.T
	rng    *rand.Rand
	p      *process
	pools  []chaosPool
	fleets []*stratumtest.Fleet
	coins  map[string]string
	source chaosSource
	did    map[string]int
	down   map[chaosPool]time.Time // when it comes back
	// troubled is when a pool last did what may cost a new miner its place.
	troubled time.Time
	// visits are miners that came and left.
	visits visitStats
}

// chaosSource is where coins come from.
type chaosSource interface {
	set(coins map[string]string, account string)
	disturb(rng *rand.Rand)
	settle()
}

// fileCoins is the coin file, which is sometimes away, empty or torn.
type fileCoins struct{ p *process }

func (f fileCoins) set(coins map[string]string, _ string) { f.p.setCoins(coins) }
func (f fileCoins) settle()                               {}
func (f fileCoins) disturb(rng *rand.Rand) {
	path := filepath.Join(f.p.dir, "coins.json")
	switch rng.IntN(3) {
	case 0:
		os.Remove(path)
	case 1:
		f.p.replace(path, nil, 0o644)
	case 2:
		f.p.replace(path, []byte(`{"acc0": "btc", "acc1`), 0o644)
	}
}

// zkCoins is a ZooKeeper that is restarted.
type zkChaosCoins struct {
	t      *testing.T
	world  *zkWorld
	server *zktest.Server
}

func (z zkChaosCoins) set(coins map[string]string, account string) {
	z.world.put(z.world.coin(account), coins[account])
}
func (z zkChaosCoins) settle() {}
func (z zkChaosCoins) disturb(rng *rand.Rand) {
	if rng.IntN(2) == 0 {
		z.server.Stop()
	} else {
		z.server.Kill()
	}
	time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
	if err := z.server.Start(); err != nil {
		z.t.Fatal(err)
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
	n := c.rng.IntN(100)
	if far, ok := p.(*farPool); ok && far.frozen {
		n %= 58 // it can not be told anything
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
	default:
		do("coin source", func() { c.source.disturb(c.rng) })
	}
}

// restore brings back the pools whose time has come, or all.
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
}

// quiet gives all accounts their own coin and waits until all mine there and
// no old link is left.
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
	connections := 0
	for _, f := range c.fleets {
		connections += f.Stats().Miners - f.Stats().Disconnected
	}
	end := time.Now().Add(30 * time.Second)
	for {
		open := 0
		for _, p := range c.pools {
			open += p.Stats().Connections
		}
		if open == connections {
			return
		}
		if time.Now().After(end) {
			c.t.Errorf("%d links to pools, %d miners", open, connections)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// allHome waits until all miners are where their coin says. Those of a coin
// that there is not may be anywhere.
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

// Switches, pools and coin sources at random, and all miners mine. At the end
// every share is accounted for and the daemon holds what it held before.
func TestChaos(t *testing.T) {
	t.Parallel()
	const accounts, miners = 5, 200
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 0)), coins: make(map[string]string), did: make(map[string]int), down: make(map[chaosPool]time.Time)}
	var pools []*stratumtest.Pool
	for _, name := range []string{"btc", "bcc", "bsv"} {
		pools = append(pools, startPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 5, VersionMask: 0x1fffe000, JobInterval: 500 * time.Millisecond}))
	}
	c.usePools(pools)
	for i := range accounts {
		c.coins[fmt.Sprintf("acc%d", i)] = c.pools[i%len(c.pools)].Name()
	}
	config := fileConfig(pools...)
	config.DrainSeconds = 2
	config.EnableHTTPDebug = true
	config.HTTPDebugListenAddr = unusedAddr(t)
	if *chaosZK {
		server, err := zktest.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		world := newZKWorld(t, server)
		for account, coin := range c.coins {
			world.put(world.coin(account), coin)
		}
		config.CoinFile, config.ZKBroker, config.ZKSwitcherWatchDir = "", []string{server.Addr()}, world.root+"/coins/"
		config.ZKUserCaseInsensitiveIndex, config.EnableUserAutoReg, config.ZKAutoRegWatchDir = "", false, ""
		c.source = zkChaosCoins{t, world, server}
	}
	c.p = startProcess(t, config, c.coins)
	if c.source == nil {
		c.source = fileCoins{c.p}
	}
	for i := range accounts {
		c.fleets = append(c.fleets, fleetOf(t, c.p.addr, fmt.Sprintf("acc%d", i), miners/accounts, 80,
			stratumtest.MinerOptions{Configure: 0x1fffe000, LateShares: 0.2}))
	}
	// What only grows once has to have grown: one round of everything.
	for range 40 {
		c.restore(false)
		c.step()
		time.Sleep(time.Duration(c.rng.IntN(60)) * time.Millisecond)
	}
	c.quiet()
	before := c.p.usage(config.HTTPDebugListenAddr)

	for end := time.Now().Add(time.Duration(*chaosSeconds) * time.Second); time.Now().Before(end); {
		c.restore(false)
		c.step()
		time.Sleep(time.Duration(c.rng.ExpFloat64() * float64(150*time.Millisecond)))
	}
	c.quiet()
	after := c.p.usage(config.HTTPDebugListenAddr)
	t.Logf("before: %v", before)
	t.Logf("after:  %v", after)
	t.Logf("did %v", c.did)
	if after.descriptors != before.descriptors {
		t.Errorf("%d descriptors, %d before", after.descriptors, before.descriptors)
	}
	if after.goroutines > before.goroutines+3 {
		t.Errorf("%d goroutines, %d before", after.goroutines, before.goroutines)
	}
	if after.private > before.private+before.private/2+16<<10 {
		t.Errorf("%d KB private, %d before", after.private, before.private)
	}
	c.account()
}

// account wants to know of each share what became of it, and that no pool was
// given one for another pool's job. Of each pool's refusals the last are looked
// at.
func (c *chaos) account() {
	t := c.t
	var sum stratumtest.FleetStats
	sum.RejectedByCode = make(map[int]uint64)
	for _, f := range c.fleets {
		st := settleFleet(t, f)
		sum.Submitted += st.Submitted
		sum.Accepted += st.Accepted
		sum.Rejected += st.Rejected
		sum.Switches += st.Switches
		for code, n := range st.RejectedByCode {
			sum.RejectedByCode[code] += n
			if code != 20 && code != 21 {
				t.Errorf("%d shares rejected with %d", n, code)
			}
		}
		for _, m := range f.Miners() {
			if st := m.Stats(); st.RejectedByCode[20] > 0 && strings.HasPrefix(st.LastReject, "20 ") && st.LastReject != "20 Pool connection lost" {
				t.Errorf("miner %s: last reject %s", m.Worker(), st.LastReject)
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
				t.Errorf("pool %s rejected %d shares with %d", p.Name(), n, code)
			}
		}
		for _, r := range p.Rejects() {
			if !strings.Contains(r.Line, `"`+p.Name()+"-") {
				strays++
				t.Errorf("pool %s refused a share for another pool's job: %s", p.Name(), r.Line)
			}
			if r.Code != 21 {
				t.Errorf("pool %s rejected %d %s: %s", p.Name(), r.Code, r.Reason, r.Line)
			}
		}
		checkFaultsButTwice(t, p)
	}
	lost := sum.RejectedByCode[20]
	t.Logf("%d moves, %d shares: %d accepted, %d too late, %d lost with a pool; pools accepted %d and rejected %d, of their last rejects %d were for another pool's job",
		sum.Switches, sum.Submitted, sum.Accepted, sum.RejectedByCode[21], lost, accepted, rejected, strays)
	if sum.Submitted != sum.Accepted+sum.Rejected+sum.Unanswered {
		t.Errorf("of %d shares %d were accepted and %d rejected, %d left with their miners", sum.Submitted, sum.Accepted, sum.Rejected, sum.Unanswered)
	}
	// What was lost may have reached the pool, if only its answer did not
	// come back, as may what was under way when its miner left. Nothing else
	// may differ.
	lost += sum.Unanswered
	if sum.Accepted > accepted || sum.RejectedByCode[21] > rejected || accepted+rejected > sum.Submitted ||
		sum.Accepted+sum.RejectedByCode[21]+lost < accepted+rejected {
		t.Errorf("miners know of %d accepted, %d rejected, %d lost; pools of %d and %d", sum.Accepted, sum.RejectedByCode[21], lost, accepted, rejected)
	}
}

// checkFaultsButTwice wants none, except that a former link which owes answers
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

// Switches at random, one after the other and to and fro, with answers that
// come late, and nothing else: no share is refused, lost or sent to a pool that
// does not know its job.
func TestChaosSwitchesOnly(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var pools []*stratumtest.Pool
	for _, name := range []string{"btc", "bcc", "bsv"} {
		pools = append(pools, startPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 5, JobInterval: 300 * time.Millisecond, CleanEvery: 1 << 30}))
	}
	c := &chaos{t: t, coins: make(map[string]string)}
	c.usePools(pools)
	for i := range 3 {
		c.coins[fmt.Sprintf("acc%d", i)] = pools[i].Name()
	}
	c.p = startProcess(t, fileConfig(pools...), c.coins)
	for i := range 3 {
		c.fleets = append(c.fleets, fleetOf(t, c.p.addr, fmt.Sprintf("acc%d", i), 20, 80, stratumtest.MinerOptions{LateShares: 0.5}))
	}
	at := []int{0, 1, 2}
	logged := make([]int, 3) // where each account's last move begins in the log
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		// In turn, and a move after the other, so that no share is on its way to
		// a pool that is left and gone back to at the same moment.
		account := rng.IntN(3)
		name := fmt.Sprintf("acc%d", account)
		if logged[account] > 0 {
			c.p.waitLogFrom(logged[account], fmt.Sprintf(`switch account=%q to=%q miners=20 .* done`, name, c.coins[name]))
		}
		at[account] = (at[account] + 1) % 3
		c.coins[name] = pools[at[account]].Name()
		logged[account] = c.p.logged()
		c.p.setCoins(c.coins)
		p := pools[rng.IntN(3)]
		p.SetModes(stratumtest.Modes{AnswerDelay: time.Duration(rng.IntN(200)) * time.Millisecond})
		time.Sleep(150*time.Millisecond + time.Duration(rng.ExpFloat64()*float64(150*time.Millisecond)))
	}
	var moves, shares uint64
	for _, f := range c.fleets {
		st := settleFleet(t, f)
		moves, shares = moves+st.Switches, shares+st.Submitted
		if st.Rejected > 0 {
			t.Errorf("%d of %d shares rejected: %v", st.Rejected, st.Submitted, st.RejectedByCode)
		}
	}
	t.Logf("%d moves, %d shares", moves, shares)
	for _, p := range pools {
		for i, r := range p.Rejects() {
			if i < 5 {
				t.Errorf("pool %s rejected %d %s: %s", p.Name(), r.Code, r.Reason, r.Line)
			}
		}
		checkFaultsButTwice(t, p)
	}
}
