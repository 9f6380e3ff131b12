//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// e2eWait is how long these tests wait: other processes may be slow to start.
const e2eWait = 20 * time.Second

var builtBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "stratumSwitcher-e2e")
	if err != nil {
		return "", err
	}
	testCleanups = append(testCleanups, func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "stratumSwitcher")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func switcherBinary(t *testing.T) string {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// e2eDaemon is a running switcher process.
type e2eDaemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	addr  string
	ended chan struct{}
	err   error // of Wait; valid when ended

	mu  sync.Mutex
	log []string
}

type settings map[string]any

func writeConfig(t *testing.T, config settings) string {
	t.Helper()
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// startDaemon runs the built binary until the end of the test and waits until
// it listens.
func startDaemon(t *testing.T, config settings) *e2eDaemon {
	t.Helper()
	config = maps.Clone(config)
	config["ListenAddr"] = "127.0.0.1:0"
	d := &e2eDaemon{t: t, ended: make(chan struct{})}
	d.cmd = exec.Command(switcherBinary(t), "-config", writeConfig(t, config), "-logtostderr", "-v=1")
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go d.run(stderr)
	t.Cleanup(func() {
		d.cmd.Process.Kill()
		<-d.ended
		if t.Failed() {
			t.Logf("the switcher's log:\n%s", strings.Join(d.lines(), "\n"))
		}
	})
	d.addr = d.waitLog(`listening addr=(\S+)`)
	return d
}

func (d *e2eDaemon) run(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		d.mu.Lock()
		d.log = append(d.log, lines.Text())
		d.mu.Unlock()
	}
	d.err = d.cmd.Wait()
	close(d.ended)
}

func (d *e2eDaemon) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.log...)
}

// waitLog waits for a line of the log and returns the pattern's first group.
func (d *e2eDaemon) waitLog(pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(e2eWait); ; time.Sleep(5 * time.Millisecond) {
		for _, line := range d.lines() {
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
		}
		select {
		case <-d.ended:
			d.t.Fatalf("the switcher ended: %v", d.err)
		default:
		}
		if time.Now().After(end) {
			d.t.Fatalf("the log has no line %q", pattern)
		}
	}
}

// end sends a signal and wants a good end in time.
func (d *e2eDaemon) end(signal os.Signal, limit time.Duration) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		d.t.Fatal(err)
	}
	began := time.Now()
	select {
	case <-d.ended:
	case <-time.After(e2eWait):
		d.t.Fatalf("not ended %v after %v", e2eWait, signal)
	}
	if d.err != nil {
		d.t.Errorf("after %v: %v, want exit status 0", signal, d.err)
	}
	if took := time.Since(began); took > limit {
		d.t.Errorf("it took %v to end", took)
	}
}

// zkWorld is the part of ZooKeeper that one test has for itself.
type zkWorld struct {
	*zkAdmin
	root string
}

func newZKWorld(t *testing.T, server *zktest.Server) *zkWorld {
	t.Helper()
	return &zkWorld{newZKAdmin(t, server.Addr()), fmt.Sprintf("/e2e%d", zkTestRoot.Add(1))}
}

func (w *zkWorld) coin(account string) string { return w.root + "/coins/" + account }

func (w *zkWorld) config(broker string, sessionSeconds int, pools ...*stratumtest.Pool) settings {
	servers := settings{}
	for _, p := range pools {
		servers[p.Name()] = settings{"URL": p.Addr()}
	}
	return settings{
		"StratumServerMap":           servers,
		"ZKBroker":                   []string{broker},
		"ZKSwitcherWatchDir":         w.root + "/coins",
		"ZKServerIDAssignDir":        w.root + "/ids",
		"ZKAutoRegWatchDir":          w.root + "/autoreg",
		"ZKUserCaseInsensitiveIndex": "",
		"EnableUserAutoReg":          false,
		"ZKSessionTimeoutSeconds":    sessionSeconds,
	}
}

// crowd is all miners of one sub-account.
type crowd struct {
	*stratumtest.Fleet
	t           *testing.T
	account     string
	extranonces []string
}

func startCrowd(t *testing.T, addr, account string, n int, sharesPerSecond float64) *crowd {
	t.Helper()
	f := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: n, Addr: addr, WorkerName: workerNames(account), SharesPerSecond: sharesPerSecond,
		Miner: stratumtest.MinerOptions{Configure: 0x1fffe000, LateShares: 0.3},
	})
	t.Cleanup(f.Close)
	if err := f.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatalf("miners of %s: %v; %v", account, err, f.DialErrors())
	}
	c := &crowd{Fleet: f, t: t, account: account}
	for _, m := range f.Miners() {
		c.extranonces = append(c.extranonces, m.Extranonce1())
	}
	return c
}

func (c *crowd) waitPool(pool string) {
	c.t.Helper()
	err := c.WaitFor(waitContext(c.t), func(st stratumtest.FleetStats) bool { return st.ByPool[pool] == len(c.extranonces) })
	if err != nil {
		c.t.Fatalf("miners of %s do not get to %s: %v; %+v", c.account, pool, err, c.Stats())
	}
}

// waitShares waits until each miner has had n more shares accepted.
func (c *crowd) waitShares(n uint64) {
	c.t.Helper()
	for _, m := range c.Miners() {
		before := m.Stats().Accepted
		err := m.WaitFor(waitContext(c.t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before+n || st.Disconnected })
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// check wants nothing wrong with any miner: connected, own extranonce, moved as
// often as its coin was set.
func (c *crowd) check(switches int) {
	c.t.Helper()
	st := c.Stats()
	if st.Disconnected > 0 || st.Violations > 0 || st.Doubled > 0 || st.Unknown > 0 || st.DialErrors > 0 {
		c.t.Errorf("miners of %s: %+v", c.account, st)
	}
	for code, n := range st.RejectedByCode {
		if code != 21 {
			c.t.Errorf("miners of %s: %d shares rejected with %d", c.account, n, code)
		}
	}
	if want := uint64(switches * len(c.extranonces)); st.Switches != want {
		c.t.Errorf("miners of %s moved %d times, want %d", c.account, st.Switches, want)
	}
	seen := make(map[string]bool)
	for i, m := range c.Miners() {
		x := m.Extranonce1()
		if x != c.extranonces[i] || seen[x] {
			c.t.Errorf("miner %s: extranonce %s, first %s, seen elsewhere: %v", m.Worker(), x, c.extranonces[i], seen[x])
		}
		seen[x] = true
	}
}

// checkShares wants each share accepted, or refused by the pool whose job it
// was for, and the miners told what the pools decided.
func checkShares(t *testing.T, pools []*stratumtest.Pool, crowds ...*crowd) {
	t.Helper()
	for _, c := range crowds {
		c.SetRate(0)
	}
	for _, c := range crowds {
		if err := c.WaitFor(waitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
			t.Errorf("miners of %s: %d shares were never answered", c.account, c.Stats().Unanswered)
		}
	}
	var submitted, accepted, rejected, poolAccepted, poolRejected uint64
	for _, c := range crowds {
		st := c.Stats()
		submitted, accepted, rejected = submitted+st.Submitted, accepted+st.Accepted, rejected+st.Rejected
	}
	for _, p := range pools {
		st := p.Stats()
		poolAccepted, poolRejected = poolAccepted+st.Accepted, poolRejected+st.Rejected
		if st.Faults > 0 || st.DuplicateExtranonces > 0 {
			t.Errorf("pool %s: faults %q, duplicate extranonces %d", p.Name(), p.Faults(), st.DuplicateExtranonces)
		}
		for _, r := range p.Rejects() {
			if r.Code != 21 || !strings.Contains(r.Line, `"`+p.Name()+`-`) {
				t.Errorf("pool %s rejected a share that was not for it: %d %s: %s", p.Name(), r.Code, r.Reason, r.Line)
			}
		}
	}
	if accepted != poolAccepted || rejected != poolRejected || submitted != accepted+rejected {
		t.Errorf("of %d shares miners know %d accepted and %d rejected, pools %d and %d",
			submitted, accepted, rejected, poolAccepted, poolRejected)
	}
	t.Logf("%d shares, %d accepted, %d came too late for their job", submitted, accepted, rejected)
}

// The whole path: 200 miners of three sub-accounts, two pools, a real
// ZooKeeper with all that can happen to it, and the program as it is shipped.
func TestE2EMinersFollowTheCoin(t *testing.T) {
	t.Parallel()
	server, err := zktest.Start() // one of its own: it is stopped
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	proxy := newZKProxy(t, server.Addr())
	world := newZKWorld(t, server)
	world.put(world.coin("alice"), "btc")
	world.put(world.coin("bob"), "bcc")
	world.put(world.coin("carol"), "btc")
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000, JobInterval: 500 * time.Millisecond})
	bcc := startPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 5, VersionMask: 0x00ffe000, JobInterval: 500 * time.Millisecond})
	d := startDaemon(t, world.config(proxy.Addr(), 2, btc, bcc))

	alice := startCrowd(t, d.addr, "alice", 90, 300)
	bob := startCrowd(t, d.addr, "bob", 60, 200)
	carol := startCrowd(t, d.addr, "carol", 50, 150)
	all := []*crowd{alice, bob, carol}
	mining := func() {
		t.Helper()
		for _, c := range all {
			c.waitShares(1)
		}
	}
	alice.waitPool("btc")
	bob.waitPool("bcc")
	carol.waitPool("btc")
	mining()
	ids := world.children(world.root + "/ids")
	if len(ids) != 1 {
		t.Fatalf("server IDs %q, want one", ids)
	}

	if out, err := server.CLI("set", world.coin("alice"), "bcc"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	alice.waitPool("bcc")
	mining()
	alice.check(1)
	bob.check(0)
	carol.check(0)

	// ZooKeeper is restarted; a coin is set as soon as it is back.
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	mining()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	world.put(world.coin("bob"), "btc")
	bob.waitPool("btc")
	mining()
	alice.check(1)
	bob.check(1)
	carol.check(0)

	// The switcher is cut off until its session has expired; a coin set
	// meanwhile is followed afterwards. It gets its server ID back.
	proxy.Cut()
	world.await("the session expires", func() bool { return len(world.children(world.root+"/ids")) == 0 })
	world.put(world.coin("carol"), "bcc")
	mining()
	carol.check(0)
	proxy.Restore()
	carol.waitPool("bcc")
	world.await("the server ID is claimed again", func() bool { return len(world.children(world.root+"/ids")) == 1 })
	if again := world.children(world.root + "/ids"); again[0] != ids[0] {
		t.Errorf("server ID %s after the session expired, before %s", again[0], ids[0])
	}
	mining()

	// The network loses its way, and finds it again in time.
	proxy.Freeze()
	world.put(world.coin("alice"), "btc")
	proxy.Thaw()
	alice.waitPool("btc")
	mining()
	alice.check(2)
	bob.check(1)
	carol.check(1)
	checkShares(t, []*stratumtest.Pool{btc, bcc}, all...)
	d.end(syscall.SIGTERM, 3*time.Second)
}

// With the broker away at start, miners wait for their answer.
func TestE2EBrokerAwayAtStart(t *testing.T) {
	server := zkServer(t)
	proxy := newZKProxy(t, server.Addr())
	world := newZKWorld(t, server)
	world.put(world.coin("alice"), "btc")
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000})
	proxy.Cut()
	claims := startDaemon(t, world.config(proxy.Addr(), 20, btc))
	config := world.config(proxy.Addr(), 20, btc)
	config["ServerID"] = 77
	fixed := startDaemon(t, config)

	var miners []*stratumtest.Miner
	for _, d := range []*e2eDaemon{claims, fixed} {
		miners = append(miners, startMiner(t, stratumtest.MinerOptions{Addr: d.addr, Worker: "alice.1"}))
		miners = append(miners, startMiner(t, stratumtest.MinerOptions{Addr: d.addr, Worker: "alice.2", Pipelined: true, Configure: 0x1fffe000}))
	}
	unknown := dialSubscribed(t, fixed.addr)
	unknown.SendLine(`{"id":2,"method":"mining.authorize","params":["nobody.1","x"]}`)
	for _, d := range []*e2eDaemon{claims, fixed} {
		d.waitLog(`no broker of .* can be reached`)
	}
	for _, m := range miners {
		if st := m.Stats(); st.Disconnected || st.Authorized || st.AuthorizeError != "" {
			t.Errorf("miner %s before the broker is there: %+v", m.Worker(), st)
		}
	}
	proxy.Restore()
	for _, m := range miners {
		if err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted > 2 }); err != nil {
			t.Fatal(err)
		}
		checkMiner(t, m)
	}
	unknown.ExpectLine(`{"id":2,"result":null,"error":[201,"Invalid Sub-account Name",77]}`)
	unknown.ExpectClosed()
	checkPool(t, btc)
}

// The end on a signal: in time, status 0, and the server ID is free at once,
// not when the session would have expired.
func TestE2ESignals(t *testing.T) {
	server := zkServer(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			world := newZKWorld(t, server)
			world.put(world.coin("alice"), "btc")
			btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
			d := startDaemon(t, world.config(server.Addr(), 40, btc))
			m := startMiner(t, stratumtest.MinerOptions{Addr: d.addr, Worker: "alice.1"})
			waitPool(t, m, "btc")
			stratumtest.DialRaw(t, d.addr) // says nothing
			dialSubscribed(t, d.addr)
			ids := world.root + "/ids"
			if n := len(world.children(ids)); n != 1 {
				t.Fatalf("%d server IDs, want 1", n)
			}
			d.end(signal, 3*time.Second)
			if left := world.children(ids); len(left) > 0 {
				t.Errorf("server ID %q is still taken", left)
			}
			select {
			case <-m.Done():
			case <-time.After(testWait):
				t.Error("the miner is still connected")
			}
			waitConnections(t, btc, 0)
			if nc, err := net.Dial("tcp", d.addr); err == nil {
				nc.Close()
				t.Error("something still listens")
			}
		})
	}
	t.Run("broker away", func(t *testing.T) {
		world := newZKWorld(t, server)
		proxy := newZKProxy(t, server.Addr())
		proxy.Freeze()
		btc := startPool(t, stratumtest.PoolOptions{Name: "btc"})
		d := startDaemon(t, world.config(proxy.Addr(), 40, btc))
		m := startMiner(t, stratumtest.MinerOptions{Addr: d.addr, Worker: "alice.1"})
		d.end(syscall.SIGTERM, 5*time.Second)
		<-m.Done()
	})
}

// runToEnd runs the binary with what is expected to end it.
func runToEnd(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(switcherBinary(t), args...)
	cmd.Dir = t.TempDir()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(e2eWait, func() { cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestE2EConfiguration(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	good := func() settings {
		return settings{
			"ListenAddr":       "127.0.0.1:0",
			"StratumServerMap": settings{"btc": settings{"URL": "127.0.0.1:3333"}},
			"ZKBroker":         []string{"127.0.0.1:1"},
		}
	}
	for _, c := range []struct {
		name    string
		change  func(settings)
		message []string // that stderr has
		startUp bool     // found only when started
	}{
		{"unknown key", func(s settings) { s["ListenAdress"] = "x" }, []string{"ListenAdress"}, false},
		{"wrong type", func(s settings) { s["ServerID"] = "7" }, []string{"ServerID", `"7"`, "255"}, false},
		{"out of range", func(s settings) { s["ServerID"] = 256 }, []string{"ServerID", "256", "255"}, false},
		{"bad address", func(s settings) { s["ListenAddr"] = "localhost" }, []string{"ListenAddr", "localhost", "host:port"}, false},
		{"no coin", func(s settings) { s["StratumServerMap"] = settings{} }, []string{"StratumServerMap"}, false},
		{"coin without URL", func(s settings) { s["StratumServerMap"] = settings{"btc": settings{}} }, []string{"StratumServerMap", "btc", "URL"}, false},
		{"relative path", func(s settings) { s["ZKSwitcherWatchDir"] = "coins" }, []string{"ZKSwitcherWatchDir", "coins", "absolute"}, false},
		{"chain type", func(s settings) { s["ChainType"] = "doge" }, []string{"ChainType", "doge", "bitcoin", "ethereum"}, false},
		{"address in use", func(s settings) { s["ListenAddr"] = busy.Addr().String() }, []string{"ListenAddr", "in use"}, true},
		{"HTTP address in use", func(s settings) { s["EnableHTTPDebug"] = true; s["HTTPDebugListenAddr"] = busy.Addr().String() },
			[]string{"HTTPDebugListenAddr", "in use"}, true},
		{"no coin file", func(s settings) { s["ZKBroker"] = []string{}; s["CoinFile"] = "/nowhere/coins.json" }, []string{"/nowhere/coins.json"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good()
			c.change(config)
			path := writeConfig(t, config)
			status, _, stderr := runToEnd(t, "-config", path, "-log_dir", t.TempDir())
			if status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			for _, want := range c.message {
				if !strings.Contains(stderr, want) {
					t.Errorf("message %q does not mention %q", stderr, want)
				}
			}
			if strings.Contains(stderr, "goroutine") {
				t.Errorf("stack trace: %s", stderr)
			}
			if !c.startUp {
				if status, _, again := runToEnd(t, "-check", "-config", path); status != 1 || again != stderr {
					t.Errorf("-check: exit status %d, message %q", status, again)
				}
			}
		})
	}
	t.Run("check", func(t *testing.T) {
		config := good()
		config["ListenAddr"] = busy.Addr().String() // checked, not used
		path := writeConfig(t, config)
		status, stdout, stderr := runToEnd(t, "-config", path, "-check")
		if status != 0 || stderr != "" || !strings.Contains(stdout, path) {
			t.Errorf("exit status %d, output %q %q", status, stdout, stderr)
		}
		defaults, err := filepath.Abs("config.default.json")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, stderr := runToEnd(t, "-check", "-config", defaults); status != 0 {
			t.Errorf("config.default.json: exit status %d, %s", status, stderr)
		}
	})
	t.Run("no file", func(t *testing.T) {
		if status, _, stderr := runToEnd(t); status != 1 || !strings.Contains(stderr, "config.json") {
			t.Errorf("exit status %d, message %q", status, stderr)
		}
	})
	t.Run("stray argument", func(t *testing.T) {
		if status, _, stderr := runToEnd(t, "-check", "config.json"); status != 1 || !strings.Contains(stderr, "config.json") {
			t.Errorf("exit status %d, message %q", status, stderr)
		}
	})
}

// Without ZooKeeper: the coin file is followed while miners mine.
func TestE2ECoinFile(t *testing.T) {
	btc, bcc := twoPools(t)
	file := filepath.Join(t.TempDir(), "coins.json")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	set(`{"alice": "btc", "*": "bcc"}`)
	d := startDaemon(t, settings{
		"StratumServerMap": settings{"btc": settings{"URL": btc.Addr()}, "bcc": settings{"URL": bcc.Addr()}},
		"CoinFile":         file,
	})
	alice := startCrowd(t, d.addr, "alice", 10, 50)
	others := startCrowd(t, d.addr, "somebody", 10, 50)
	alice.waitPool("btc")
	others.waitPool("bcc")
	set(`{"alice": "bcc", "*": "bcc"}`)
	alice.waitPool("bcc")
	set(`{"alice": "btc", "*`)
	d.waitLog(`^[WE].*` + regexp.QuoteMeta(file))
	alice.waitShares(1)
	set(`{"alice": "bcc", "*": "btc"}`)
	others.waitPool("btc")
	alice.waitShares(1)
	others.waitShares(1)
	alice.check(1)
	others.check(1)
	checkShares(t, []*stratumtest.Pool{btc, bcc}, alice, others)
	d.end(syscall.SIGTERM, 3*time.Second)
}
