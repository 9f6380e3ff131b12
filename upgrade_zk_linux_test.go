//go:build linux && !portable_relay

package main

import (
	"errors"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/samuel/go-zookeeper/zk"
)

// zkProcessConfig is a configuration with ZooKeeper at addr, in directories of
// the test's own.
func zkProcessConfig(addr string, pools ...*stratumtest.Pool) *Config {
	root := "/upgrade" + strconv.FormatInt(zkTestRoot.Add(1), 10)
	c := fileConfig(pools...)
	c.ServerID, c.CoinFile = 0, ""
	c.ZKBroker = []string{addr}
	c.ZKSwitcherWatchDir, c.ZKServerIDAssignDir, c.ZKAutoRegWatchDir = root+"/coins/", root+"/ids/", root+"/autoreg/"
	c.ZKUserCaseInsensitiveIndex = ""
	c.EnableUserAutoReg = false
	c.ZKSessionTimeoutSeconds = 10
	return c
}

// rival tries to get a node without a pause.
type rival struct {
	stopped, ended chan struct{}
	tries          atomic.Int64
	won            atomic.Bool
}

func startRival(t *testing.T, addr, node string) *rival {
	admin := newZKAdmin(t, addr)
	r := &rival{stopped: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for {
			select {
			case <-r.stopped:
				return
			default:
			}
			err := admin.CreateEphemeral(node, []byte(`{"HostName":"rival"}`))
			r.tries.Add(1)
			if err == nil {
				r.won.Store(true)
				return
			}
			if !errors.Is(err, zk.ErrNodeExists) {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	return r
}

func (r *rival) stop(t *testing.T) {
	t.Helper()
	close(r.stopped)
	<-r.ended
	if r.won.Load() {
		t.Errorf("the rival got the server ID, in try %d", r.tries.Load())
	}
	t.Logf("%d tries to get the server ID", r.tries.Load())
}

// TestUpgradeServerID: the ID node goes from process to process without a
// moment in which somebody else could have it.
func TestUpgradeServerID(t *testing.T) {
	server := zkServer(t)
	admin := newZKAdmin(t, server.Addr())
	btc, bcc := twoPools(t)
	c := zkProcessConfig(server.Addr(), btc, bcc)
	coin := path.Join(c.ZKSwitcherWatchDir, "alice")
	admin.put(coin, "btc")
	p := startProcess(t, c, nil)
	id := p.waitLog(`server_id=(\d+)`)[1]
	node := c.ZKServerIDAssignDir + id
	miners := startMiners(t, p.addr, "alice", 3)
	rival := startRival(t, server.Addr(), node)
	holder := func() int64 {
		t.Helper()
		n, ok := admin.get(node)
		if !ok {
			t.Fatal("there is no node of the server ID")
		}
		return n.Owner
	}
	owner := holder()

	// Refused or undone, nothing happens to the node.
	p.installOther("exit")
	p.wantNoUpgrade("exit status 3")
	p.install(buildVersion(t, "one"))
	if now := holder(); now != owner {
		t.Errorf("the node belongs to %x, before to %x", now, owner)
	}
	for range 5 {
		p.goodUpgrade()
		admin.await("the new process owns the node", func() bool { return holder() != owner })
		owner = holder()
		wantMining(t, miners, "btc")
		if names := admin.children(c.ZKServerIDAssignDir); len(names) != 1 || names[0] != id {
			t.Errorf("server IDs %q, want %s", names, id)
		}
	}
	// Two upgrades so fast that the first new process may not have had it yet.
	for range 3 {
		p.goodUpgrade()
		p.goodUpgrade()
		p.goodUpgrade()
	}
	wantNewMiner(t, p.addr, "alice")
	admin.await("the last process owns the node", func() bool { return holder() != owner })
	rival.stop(t)
	if got := miners[0].Extranonce1()[:2]; got != hexByte(id) {
		t.Errorf("extranonce of server %s, want %s", got, hexByte(id))
	}
	admin.put(coin, "bcc")
	wantMining(t, miners, "bcc")
}

func hexByte(id string) string {
	n, _ := strconv.Atoi(id)
	text := strconv.FormatInt(int64(n), 16)
	return "00"[len(text):] + text
}

// TestUpgradeWithoutZooKeeper: sessions relay while ZooKeeper is away, those
// that wait for it go on waiting, and changes made meanwhile are followed.
func TestUpgradeWithoutZooKeeper(t *testing.T) {
	server := zkServer(t)
	admin := newZKAdmin(t, server.Addr())
	proxy := newZKProxy(t, server.Addr())
	btc, bcc := twoPools(t)
	c := zkProcessConfig(proxy.Addr(), btc, bcc)
	coins := c.ZKSwitcherWatchDir
	admin.put(coins+"alice", "btc")
	admin.put(coins+"bob", "bcc")
	admin.put(coins+"carol", "btc")

	// Before ZooKeeper was ever there: requests wait for the server ID.
	proxy.Cut()
	p := startProcess(t, c, nil)
	early := startMiner(t, stratumtest.MinerOptions{Addr: p.addr, Worker: "alice.early", Rate: 20})
	pipelined := startMiner(t, stratumtest.MinerOptions{Addr: p.addr, Worker: "bob.early", Rate: 20, Pipelined: true, Configure: 0x1fffe000})
	time.Sleep(50 * time.Millisecond) // no answer tells that they wait
	n := p.logged()
	p.goodUpgrade()
	p.waitLogFrom(n, `upgraded .* handshaking=[12] `) // one may not be accepted yet
	proxy.Restore()
	wantMining(t, []*stratumtest.Miner{early}, "btc")
	wantMining(t, []*stratumtest.Miner{pipelined}, "bcc")
	id := p.waitLog(`server_id=([1-9]\d*)`)[1]

	miners := startMiners(t, p.addr, "alice", 3)
	carol := startMiners(t, p.addr, "carol", 2)
	for range 2 {
		proxy.Cut()
		p.goodUpgrade()
		wantMining(t, append(append([]*stratumtest.Miner{early, pipelined}, miners...), carol...), "")
		waiting := startMiner(t, stratumtest.MinerOptions{Addr: p.addr, Worker: "bob.new", Rate: 20})
		waitUntil(t, "subscribed", func() bool { return waiting.Stats().Extranonce1 != "" })
		time.Sleep(50 * time.Millisecond)
		p.goodUpgrade() // now with a session that waits for its coin
		admin.put(coins+"alice", "bcc")
		admin.remove(coins + "carol")
		wantMining(t, miners, "btc")
		proxy.Restore()
		wantMining(t, miners, "bcc")
		wantMining(t, []*stratumtest.Miner{waiting, pipelined}, "bcc")
		wantMining(t, carol, "btc")
		admin.put(coins+"carol", "bcc")
		wantMining(t, carol, "bcc")
		admin.put(coins+"carol", "btc")
		admin.put(coins+"alice", "btc")
		wantMining(t, append(miners, carol...), "btc")
		wantNewMiner(t, p.addr, "alice")
		admin.await("the server ID is held", func() bool {
			names := admin.children(c.ZKServerIDAssignDir)
			return len(names) == 1 && names[0] == id
		})
	}
	checkPool(t, btc)
	checkPool(t, bcc)
}

// A fixed server ID's node goes from process to process as an automatic one's
// does, also when the configuration goes from one to the other.
func TestUpgradeFixedServerID(t *testing.T) {
	server := zkServer(t)
	admin := newZKAdmin(t, server.Addr())
	btc, bcc := twoPools(t)
	c := zkProcessConfig(server.Addr(), btc, bcc)
	c.ServerID = 9
	admin.put(path.Join(c.ZKSwitcherWatchDir, "alice"), "btc")
	p := startProcess(t, c, nil)
	node := c.ZKServerIDAssignDir + "9"
	admin.await("the ID is claimed", func() bool { _, ok := admin.get(node); return ok })
	miners := startMiners(t, p.addr, "alice", 3)
	rival := startRival(t, server.Addr(), node)
	for _, id := range []uint8{9, 9, 0, 9} {
		before, _ := admin.get(node)
		c.ServerID = id
		p.writeConfig(c)
		p.goodUpgrade()
		admin.await("the new process owns the node", func() bool {
			now, ok := admin.get(node)
			return ok && now.Owner != before.Owner
		})
		wantMining(t, miners, "btc")
	}
	for range 3 {
		p.goodUpgrade()
		p.goodUpgrade()
	}
	rival.stop(t)
	for _, id := range p.logLines(serverIDLine) {
		if id != "9" {
			t.Errorf("server ID %s", id)
		}
	}
	if lines := p.logLines(`(held by somebody else|without being claimed|taken by somebody else)`); len(lines) > 0 {
		t.Errorf("logged: %q", lines)
	}
}

// Two switchers with one ServerID: the second serves, and log, metric and page
// tell of it.
func TestServerIDTakenIsShown(t *testing.T) {
	server := zkServer(t)
	admin := newZKAdmin(t, server.Addr())
	btc, bcc := twoPools(t)
	c := zkProcessConfig(server.Addr(), btc, bcc)
	c.ServerID, c.ZKSessionTimeoutSeconds = 9, 1
	admin.put(path.Join(c.ZKSwitcherWatchDir, "alice"), "btc")
	startProcess(t, c, nil)
	admin.await("the ID is claimed", func() bool { _, ok := admin.get(c.ZKServerIDAssignDir + "9"); return ok })
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, unusedAddr(t)
	second := startProcess(t, c, nil)
	wantNewMiner(t, second.addr, "alice")
	second.waitLog(`^E.* server ID 9 is held by somebody else, host ".*" listening at "127.0.0.1:0", session 0x\w+: `)
	taken := figure(t, debugText(t, c.HTTPDebugListenAddr, "/metrics"), `(?m)^stratum_switcher_server_id_taken (\S+)`)
	if taken != 1 {
		t.Errorf("stratum_switcher_server_id_taken is %v", taken)
	}
	eventually(t, "an event", func() bool {
		return strings.Contains(debugText(t, c.HTTPDebugListenAddr, "/api/events"), "server ID is held by somebody else")
	})
}
