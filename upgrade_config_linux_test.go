//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// The new process listens at the new address before the old one is closed, and
// serves who waits there.
func TestUpgradeListenAddrChanged(t *testing.T) {
	btc, _ := twoPools(t)
	c := fileConfig(btc)
	c.ListenAddr = unusedAddr(t)
	p := startProcess(t, c, map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 3)
	former := c.ListenAddr
	c.ListenAddr = unusedAddr(t)
	p.writeConfig(c)
	const waiting = 600
	var queued []net.Conn
	p.upgradeWhile(func() {
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
		conn.SetReadDeadline(time.Now().Add(upgradeWait))
		if n, err := conn.Read(make([]byte, 500)); err != nil || n < 50 {
			t.Fatalf("connection %d of %d that waited at the old address is not served: %d bytes, %v", i, waiting, n, err)
		}
	}
	wantMining(t, miners, "btc")
	wantNewMiner(t, c.ListenAddr, "alice")
	if conn, err := net.Dial("tcp", former); err == nil {
		conn.Close()
		t.Error("the old address is still open")
	}
	p.goodUpgrade()
	wantMining(t, miners, "btc")
	wantNewMiner(t, c.ListenAddr, "alice")
}

// The new address is taken between the preflight and the start.
func TestUpgradeListenAddrLost(t *testing.T) {
	btc, _ := twoPools(t)
	c := fileConfig(btc)
	c.ListenAddr = unusedAddr(t)
	p := startProcess(t, c, map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 3)
	former := c.ListenAddr
	c.ListenAddr = unusedAddr(t)
	p.writeConfig(c)
	var thief net.Listener
	n := p.logged()
	p.upgradeWhile(func() {
		var err error
		if thief, err = net.Listen("tcp", c.ListenAddr); err != nil {
			t.Fatal(err)
		}
	})
	p.waitLogFrom(n, "STILL LISTENING AT THE FORMER ADDRESS")
	wantMining(t, miners, "btc")
	wantNewMiner(t, former, "alice")
	thief.Close()
	p.goodUpgrade()
	wantMining(t, miners, "btc")
	wantNewMiner(t, c.ListenAddr, "alice")
}

// A coin goes from the configuration: its miners stay, over further upgrades
// too, and a lost pool is reconnected, until their coin is changed.
func TestUpgradeCoinRemoved(t *testing.T) {
	btc, bcc := twoPools(t)
	p := startProcess(t, fileConfig(btc, bcc), map[string]string{"alice": "bcc", "bob": "btc"})
	alice, bob := startMiners(t, p.addr, "alice", 4), startMiners(t, p.addr, "bob", 2)
	p.writeConfig(fileConfig(btc))
	for range 3 {
		n := p.logged()
		p.goodUpgrade()
		p.waitLogFrom(n, `coin "bcc" is no longer in StratumServerMap: 4 miners stay`)
		wantMining(t, alice, "bcc")
		wantMining(t, bob, "btc")
	}
	bcc.CloseConnections()
	wantMiningAfterLoss(t, alice, "bcc")
	p.setCoins(map[string]string{"*": "btc"})
	wantMiningAfterLoss(t, alice, "btc")
	p.goodUpgrade()
	wantMiningAfterLoss(t, append(alice, bob...), "btc")
	checkPool(t, btc)
	checkPool(t, bcc)
}

// A coin gets another pool that does not answer for a while: the miners stay
// where they are, also over the next upgrade, and are switched then.
func TestUpgradeCoinURLChanged(t *testing.T) {
	btc, other := twoPools(t)
	c := fileConfig(btc)
	p := startProcess(t, c, map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 4)
	proxy, err := zktest.NewProxy(other.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	proxy.Freeze()
	c.StratumServerMap["btc"] = StratumServerInfo{URL: proxy.Addr(), UserSuffix: "btc"}
	p.writeConfig(c)
	for range 2 {
		p.goodUpgrade()
		wantMining(t, miners, "btc")
	}
	proxy.Thaw()
	wantMining(t, miners, "bcc")
	checkPool(t, btc)
}

// The pool drops its miners, and coins change, while there is no program.
func TestUpgradeEventsMeanwhile(t *testing.T) {
	btc, bcc := twoPools(t)
	gone := startPool(t, stratumtest.PoolOptions{Name: "gone", ShareBits: 4, VersionMask: 0x1fffe000})
	p := startProcess(t, fileConfig(btc, bcc, gone), map[string]string{"alice": "btc", "bob": "btc", "carol": "gone"})
	alice, bob, carol := startMiners(t, p.addr, "alice", 8), startMiners(t, p.addr, "bob", 4), startMiners(t, p.addr, "carol", 8)
	leaver := startMiner(t, stratumtest.MinerOptions{Addr: p.addr, Worker: "alice.leaves"})
	wantAccepted(t, leaver, 1)
	before := gone.Stats().ConnectionsTotal
	p.upgradeWhile(func() {
		gone.CloseConnections()
		p.setCoins(map[string]string{"alice": "bcc", "bob": "btc", "carol": "gone"})
		leaver.Close()
	})
	wantMining(t, alice, "bcc")
	wantMining(t, bob, "btc")
	wantMiningAfterLoss(t, carol, "gone")
	// Tries come at most 250 ms after a pool is lost, in a session's time.
	time.Sleep(300 * time.Millisecond)
	if got := gone.Stats().ConnectionsTotal; got != before+len(carol) {
		t.Errorf("%d connections for %d miners", got-before, len(carol))
	}
	for _, pool := range []*stratumtest.Pool{btc, bcc, gone} {
		checkPool(t, pool)
	}
	// Coins change right after as well as before.
	p.setCoins(map[string]string{"*": "btc"})
	p.signal(syscall.SIGUSR2)
	wantMining(t, append(alice, bob...), "btc")
	wantMiningAfterLoss(t, carol, "btc")
}

// The configuration turns bad between the preflight and the start.
func TestUpgradeConfigSpoilt(t *testing.T) {
	btc, bcc := twoPools(t)
	for _, c := range []struct{ name, content, want string }{
		{"not JSON", `{"ChainType": "bitcoin",`, "SERVING WITH THE LAST GOOD CONFIGURATION"},
		{"unknown chain", `{"ChainType": "litecoin","StratumServerMap":{"btc":{"URL":"127.0.0.1:1"}}}`, "SERVING WITH THE LAST GOOD CONFIGURATION"},
		{"other chain", `{"ChainType": "ethereum","CoinFile":"coins.json","StratumServerMap":{"btc":{"URL":"127.0.0.1:1"}}}`, "SERVING WITH THE LAST GOOD CONFIGURATION"},
		{"no coin file", `{"CoinFile":"/nowhere/coins.json","ListenAddr":"127.0.0.1:0","StratumServerMap":{"btc":{"URL":"127.0.0.1:1"}}}`, "the coins of before|LAST GOOD CONFIGURATION"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			good := fileConfig(btc, bcc)
			good.ListenAddr = unusedAddr(t)
			p := startProcess(t, good, map[string]string{"*": "btc"})
			miners := startMiners(t, p.addr, "alice", 3)
			p.installOther("spoil")
			p.replace(filepath.Join(p.dir, "config.spoilt"), []byte(c.content), 0o644)
			n := p.logged()
			p.goodUpgrade()
			p.waitLogFrom(n, c.want)
			wantMining(t, miners, "btc")
			wantNewMiner(t, p.addr, "alice")
			p.setCoins(map[string]string{"*": "bcc"})
			wantMining(t, miners, "bcc")

			p.install(buildVersion(t, "one"))
			if c.name != "no coin file" {
				n = p.logged()
				p.signal(syscall.SIGUSR2)
				p.waitLogFrom(n, "upgrade refused")
				wantMining(t, miners, "bcc")
			}
			p.writeConfig(good)
			n = p.logged()
			p.goodUpgrade()
			p.waitLogFrom(n, "upgraded version=one")
			wantMining(t, miners, "bcc")
			wantNewMiner(t, p.addr, "alice")
			if _, err := os.Stat(filepath.Join(p.dir, "runtime.json")); err == nil {
				t.Error("runtime.json is left")
			}
		})
	}
}

// A pool lost in the moment between the start of the loops and begin is
// reconnected once, not twice.
func TestUpgradePoolLostBeforeBegin(t *testing.T) {
	btc, _ := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, nil)
	startMiners(t, sw.addr, "alice", 1)
	btc.Close()
	waitUntil(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
	for _, l := range sw.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				before := s.linking
				s.begin()
				if before == nil || s.linking != before {
					t.Errorf("the link under way was %p, is %p", before, s.linking)
				}
			}
		})
	}
}
