//go:build linux && e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// The new process opens the new address before it closes the old one, and serves
// the connections that wait at the old one.
func TestUpgradeListenAddrChanged(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc)
	c.ListenAddr = testkit.UnusedAddr(t)
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	former := c.ListenAddr
	c.ListenAddr = testkit.UnusedAddr(t)
	p.WriteConfig(c)
	const waiting = 600
	var queued []net.Conn
	p.UpgradeWhile(func() {
		for i := range waiting {
			conn, err := net.Dial("tcp", former)
			if err != nil {
				t.Fatalf("dial %d: %v", i, err)
			}
			t.Cleanup(func() { conn.Close() })
			fmt.Fprint(conn, `{"id":7,"method":"mining.subscribe","params":["x"]}`+"\n")
			queued = append(queued, conn)
		}
	})
	for i, conn := range queued {
		conn.SetReadDeadline(time.Now().Add(testkit.LongWait))
		if n, err := conn.Read(make([]byte, 500)); err != nil || n < 50 {
			t.Fatalf("connection %d of %d that waited at the old address is not served: %d bytes, %v", i, waiting, n, err)
		}
	}
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, c.ListenAddr, "alice")
	if conn, err := net.Dial("tcp", former); err == nil {
		conn.Close()
		t.Error("the old address is still open")
	}
	p.GoodUpgrade()
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, c.ListenAddr, "alice")
}

// Another program takes the new address between the preflight and the start.
func TestUpgradeListenAddrLost(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc)
	c.ListenAddr = testkit.UnusedAddr(t)
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	former := c.ListenAddr
	c.ListenAddr = testkit.UnusedAddr(t)
	p.WriteConfig(c)
	var thief net.Listener
	n := p.Logged()
	p.UpgradeWhile(func() {
		var err error
		if thief, err = net.Listen("tcp", c.ListenAddr); err != nil {
			t.Fatal(err)
		}
	})
	p.WaitLogFrom(n, "STILL LISTENING AT THE FORMER ADDRESS")
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, former, "alice")
	thief.Close()
	p.GoodUpgrade()
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, c.ListenAddr, "alice")
}

// A coin is removed from the configuration. Its miners stay, over further upgrades
// too, and are connected again when the pool is lost, until their coin is changed.
func TestUpgradeCoinRemoved(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc, bcc), map[string]string{"alice": "bcc", "bob": "btc"})
	alice, bob := testkit.StartMiners(t, p.Addr, "alice", 4), testkit.StartMiners(t, p.Addr, "bob", 2)
	p.WriteConfig(daemontest.FileConfig(btc))
	for range 3 {
		n := p.Logged()
		p.GoodUpgrade()
		p.WaitLogFrom(n, `coin "bcc" is no longer in StratumServerMap: 4 miners stay`)
		testkit.WantMining(t, alice, "bcc")
		testkit.WantMining(t, bob, "btc")
	}
	bcc.CloseConnections()
	testkit.WantMiningAfterLoss(t, alice, "bcc")
	p.SetCoins(map[string]string{"*": "btc"})
	testkit.WantMiningAfterLoss(t, alice, "btc")
	p.GoodUpgrade()
	testkit.WantMiningAfterLoss(t, append(alice, bob...), "btc")
	testkit.CheckPool(t, btc)
	testkit.CheckPool(t, bcc)
}

// A coin gets another pool, which does not answer for a while. The miners stay
// where they are, over the next upgrade too, and are switched when it answers.
func TestUpgradeCoinURLChanged(t *testing.T) {
	t.Parallel()
	btc, other := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc)
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 4)
	proxy, err := zktest.NewProxy(other.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	proxy.Freeze()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: proxy.Addr(), UserSuffix: "btc"}
	p.WriteConfig(c)
	for range 2 {
		p.GoodUpgrade()
		testkit.WantMining(t, miners, "btc")
	}
	proxy.Thaw()
	testkit.WantMining(t, miners, "bcc")
	testkit.CheckPool(t, btc)
}

// The pool drops its miners, and coins change, while no program is running.
func TestUpgradeEventsMeanwhile(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	gone := testkit.StartPool(t, stratumtest.PoolOptions{Name: "gone", ShareBits: 4, VersionMask: 0x1fffe000})
	p := daemontest.Start(t, daemontest.FileConfig(btc, bcc, gone), map[string]string{"alice": "btc", "bob": "btc", "carol": "gone"})
	alice, bob, carol := testkit.StartMiners(t, p.Addr, "alice", 8), testkit.StartMiners(t, p.Addr, "bob", 4), testkit.StartMiners(t, p.Addr, "carol", 8)
	leaver := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.leaves"})
	testkit.WantAccepted(t, leaver, 1)
	before := gone.Stats().ConnectionsTotal
	p.UpgradeWhile(func() {
		gone.CloseConnections()
		p.SetCoins(map[string]string{"alice": "bcc", "bob": "btc", "carol": "gone"})
		leaver.Close()
	})
	testkit.WantMining(t, alice, "bcc")
	testkit.WantMining(t, bob, "btc")
	testkit.WantMiningAfterLoss(t, carol, "gone")
	// In a session's time, tries are at most 250 ms apart after a pool is lost.
	time.Sleep(300 * time.Millisecond)
	if got := gone.Stats().ConnectionsTotal; got != before+len(carol) {
		t.Errorf("%d connections were made for %d miners, which is too many", got-before, len(carol))
	}
	for _, pool := range []*stratumtest.Pool{btc, bcc, gone} {
		testkit.CheckPool(t, pool)
	}
	// Coins also change directly after the upgrade.
	p.SetCoins(map[string]string{"*": "btc"})
	p.Signal(syscall.SIGUSR2)
	testkit.WantMining(t, append(alice, bob...), "btc")
	testkit.WantMiningAfterLoss(t, carol, "btc")
}

// The configuration turns bad between the preflight and the start.
func TestUpgradeConfigSpoilt(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	for _, c := range []struct{ name, content, want string }{
		{"not JSON", `{"ChainType": "bitcoin",`, "SERVING WITH THE LAST GOOD CONFIGURATION"},
		{"unknown chain", `{"ChainType": "litecoin","StratumServerMap":{"btc":{"URL":"127.0.0.1:1"}}}`, "SERVING WITH THE LAST GOOD CONFIGURATION"},
		{"other chain", `{"ChainType": "ethereum","CoinFile":"coins.json","StratumServerMap":{"btc":{"URL":"127.0.0.1:1"}}}`, "SERVING WITH THE LAST GOOD CONFIGURATION"},
		{"no coin file", `{"CoinFile":"/nowhere/coins.json","ListenAddr":"127.0.0.1:0","StratumServerMap":{"btc":{"URL":"127.0.0.1:1"}}}`, "the coins of before|LAST GOOD CONFIGURATION"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			good := daemontest.FileConfig(btc, bcc)
			good.ListenAddr = testkit.UnusedAddr(t)
			p := daemontest.Start(t, good, map[string]string{"*": "btc"})
			miners := testkit.StartMiners(t, p.Addr, "alice", 3)
			p.InstallOther("spoil")
			p.Replace(filepath.Join(p.Dir, "config.spoilt"), []byte(c.content), 0o644)
			n := p.Logged()
			p.GoodUpgrade()
			p.WaitLogFrom(n, c.want)
			testkit.WantMining(t, miners, "btc")
			testkit.WantNewMiner(t, p.Addr, "alice")
			p.SetCoins(map[string]string{"*": "bcc"})
			testkit.WantMining(t, miners, "bcc")

			p.Install(daemontest.Build(t, "one"))
			if c.name != "no coin file" {
				n = p.Logged()
				p.Signal(syscall.SIGUSR2)
				p.WaitLogFrom(n, "upgrade refused")
				testkit.WantMining(t, miners, "bcc")
			}
			p.WriteConfig(good)
			n = p.Logged()
			p.GoodUpgrade()
			p.WaitLogFrom(n, "upgraded version=one")
			testkit.WantMining(t, miners, "bcc")
			testkit.WantNewMiner(t, p.Addr, "alice")
			if _, err := os.Stat(filepath.Join(p.Dir, "runtime.json")); err == nil {
				t.Error("runtime.json still exists")
			}
		})
	}
}
