//go:build linux && e2e

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// TestE2EMinersFollowTheCoin covers the whole path: 200 miners of three
// sub-accounts, two pools, a real ZooKeeper with all that can happen to it, and the
// program as it is shipped.
func TestE2EMinersFollowTheCoin(t *testing.T) {
	t.Parallel()
	server, err := zktest.Start() // a server of its own, because it is stopped
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	proxy := zktest.StartProxy(t, server.Addr())
	world := newZKWorld(t, server)
	world.Put(world.coin("alice"), "btc")
	world.Put(world.coin("bob"), "bcc")
	world.Put(world.coin("carol"), "btc")
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000, JobInterval: 500 * time.Millisecond})
	// This pool knows workers by names with its suffix, and refuses shares with
	// other names.
	bcc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 5, VersionMask: 0x00ffe000, JobInterval: 500 * time.Millisecond,
		AcceptWorker: func(name string) bool { return strings.Contains(name, "_bcc.") }})
	d := startDaemon(t, world.config(proxy.Addr(), 2, btc, bcc))

	alice := startCrowd(t, d.Addr, "alice", 90, 300)
	bob := startCrowd(t, d.Addr, "bob", 60, 200)
	carol := startCrowd(t, d.Addr, "carol", 50, 150)
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
	ids := world.Children(world.root + "/ids")
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

	// ZooKeeper is restarted, and a coin is set as soon as it is back.
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	mining()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	world.Put(world.coin("bob"), "btc")
	bob.waitPool("btc")
	mining()
	alice.check(1)
	bob.check(1)
	carol.check(0)

	// The switcher is cut off until its session has expired. A coin that is set
	// meanwhile takes effect afterwards. The switcher gets its server ID back.
	proxy.Cut()
	world.Await("the session expires", func() bool { return len(world.Children(world.root+"/ids")) == 0 })
	world.Put(world.coin("carol"), "bcc")
	mining()
	carol.check(0)
	proxy.Restore()
	carol.waitPool("bcc")
	world.Await("the server ID is claimed again", func() bool { return len(world.Children(world.root+"/ids")) == 1 })
	if again := world.Children(world.root + "/ids"); again[0] != ids[0] {
		t.Errorf("server ID %s after the session expired, want %s as before", again[0], ids[0])
	}
	mining()

	// The network fails, and recovers in time.
	proxy.Freeze()
	world.Put(world.coin("alice"), "btc")
	proxy.Thaw()
	alice.waitPool("btc")
	mining()
	alice.check(2)
	bob.check(1)
	carol.check(1)
	checkShares(t, []*stratumtest.Pool{btc, bcc}, all...)
	wantEnd(t, d, syscall.SIGTERM, 3*time.Second)
}

// If no broker can be reached at the start, miners wait for their answer.
func TestE2EBrokerAwayAtStart(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	world := newZKWorld(t, server)
	world.Put(world.coin("alice"), "btc")
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000})
	proxy.Cut()
	claims := startDaemon(t, world.config(proxy.Addr(), 20, btc))
	config := world.config(proxy.Addr(), 20, btc)
	config["ServerID"] = 77
	fixed := startDaemon(t, config)

	var miners []*stratumtest.Miner
	for _, d := range []*daemontest.Daemon{claims, fixed} {
		miners = append(miners, testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: "alice.1"}))
		miners = append(miners, testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: "alice.2", Pipelined: true, Configure: 0x1fffe000}))
	}
	unknown := testkit.DialSubscribed(t, fixed.Addr)
	unknown.SendLine(`{"id":2,"method":"mining.authorize","params":["nobody.1","x"]}`)
	for _, d := range []*daemontest.Daemon{claims, fixed} {
		d.WaitLog(`no broker of .* can be reached`)
	}
	for _, m := range miners {
		if st := m.Stats(); st.Disconnected || st.Authorized || st.AuthorizeError != "" {
			t.Errorf("miner %s before the broker is there: %+v", m.Worker(), st)
		}
	}
	proxy.Restore()
	for _, m := range miners {
		if err := m.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted > 2 }); err != nil {
			t.Fatal(err)
		}
		testkit.CheckMiner(t, m)
	}
	unknown.ExpectLine(`{"id":2,"result":null,"error":[201,"Invalid Sub-account Name",77]}`)
	unknown.ExpectClosed()
	testkit.CheckPool(t, btc)
}

// A signal ends the daemon in time with status 0, and the server ID is free at
// once, not only when the session would have expired.
func TestE2ESignals(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			world := newZKWorld(t, server)
			world.Put(world.coin("alice"), "btc")
			btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
			d := startDaemon(t, world.config(server.Addr(), 40, btc))
			m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: "alice.1"})
			testkit.WaitPool(t, m, "btc")
			stratumtest.DialRaw(t, d.Addr) // a connection that says nothing
			testkit.DialSubscribed(t, d.Addr)
			ids := world.root + "/ids"
			if n := len(world.Children(ids)); n != 1 {
				t.Fatalf("%d server IDs are claimed, want 1", n)
			}
			wantEnd(t, d, signal, 3*time.Second)
			if left := world.Children(ids); len(left) > 0 {
				t.Errorf("server ID %q is still taken", left)
			}
			select {
			case <-m.Done():
			case <-time.After(testkit.LongWait):
				t.Error("the miner is still connected")
			}
			testkit.WaitConnections(t, btc, 0)
			if nc, err := net.Dial("tcp", d.Addr); err == nil {
				nc.Close()
				t.Error("the port still accepts connections")
			}
		})
	}
	t.Run("broker away", func(t *testing.T) {
		world := newZKWorld(t, server)
		proxy := zktest.StartProxy(t, server.Addr())
		proxy.Freeze()
		btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc"})
		d := startDaemon(t, world.config(proxy.Addr(), 40, btc))
		m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: "alice.1"})
		wantEnd(t, d, syscall.SIGTERM, 5*time.Second)
		<-m.Done()
	})
}

func TestE2EConfiguration(t *testing.T) {
	t.Parallel()
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
		message []string // texts that standard error must contain
		startUp bool     // found only at a start, not by -check
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
					t.Errorf("-check: exit status %d, message %q, unlike the start", status, again)
				}
			}
		})
	}
	t.Run("check", func(t *testing.T) {
		config := good()
		config["ListenAddr"] = busy.Addr().String() // -check only notes it
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

// Without ZooKeeper, the coin file takes effect while miners mine.
func TestE2ECoinFile(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
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
	alice := startCrowd(t, d.Addr, "alice", 10, 50)
	others := startCrowd(t, d.Addr, "somebody", 10, 50)
	alice.waitPool("btc")
	others.waitPool("bcc")
	set(`{"alice": "bcc", "*": "bcc"}`)
	alice.waitPool("bcc")
	set(`{"alice": "btc", "*`)
	d.WaitLog(`^[WE].*` + regexp.QuoteMeta(file))
	alice.waitShares(1)
	set(`{"alice": "bcc", "*": "btc"}`)
	others.waitPool("btc")
	alice.waitShares(1)
	others.waitShares(1)
	alice.check(1)
	others.check(1)
	checkShares(t, []*stratumtest.Pool{btc, bcc}, alice, others)
	wantEnd(t, d, syscall.SIGTERM, 3*time.Second)
}
