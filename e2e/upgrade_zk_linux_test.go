//go:build linux && e2e

package e2e

import (
	"errors"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// rival tries to create a node again and again without a pause.
type rival struct {
	stopped, ended chan struct{}
	tries          atomic.Int64
	won            atomic.Bool
}

func startRival(t *testing.T, addr, node string) *rival {
	admin := zktest.NewAdmin(t, addr)
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
		t.Errorf("the rival got the server ID in try %d", r.tries.Load())
	}
	t.Logf("%d tries to get the server ID", r.tries.Load())
}

// TestUpgradeServerID: the ID's node passes from process to process without a
// moment in which somebody else could get it.
func TestUpgradeServerID(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	btc, bcc := testkit.TwoPools(t)
	c := daemontest.ZKConfig(server.Addr(), btc, bcc)
	coin := path.Join(c.ZKSwitcherWatchDir, "alice")
	admin.Put(coin, "btc")
	p := daemontest.Start(t, c, nil)
	id := p.WaitLog(`server_id=(\d+)`)[1]
	node := c.ZKServerIDAssignDir + id
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	rival := startRival(t, server.Addr(), node)
	holder := func() int64 {
		t.Helper()
		n, ok := admin.Get(node)
		if !ok {
			t.Fatal("the server ID has no node")
		}
		return n.Owner
	}
	owner := holder()

	// Upgrades that are refused or undone do not affect the node.
	p.InstallOther("exit")
	p.WantNoUpgrade("exit status 3")
	p.Install(daemontest.Build(t, "one"))
	if now := holder(); now != owner {
		t.Errorf("the node belongs to session %x, want %x as before", now, owner)
	}
	for range 5 {
		p.GoodUpgrade()
		admin.Await("the new process owns the node", func() bool { return holder() != owner })
		owner = holder()
		testkit.WantMining(t, miners, "btc")
		if names := admin.Children(c.ZKServerIDAssignDir); len(names) != 1 || names[0] != id {
			t.Errorf("server IDs %q, want %s", names, id)
		}
	}
	// There are two upgrades so quickly that the first new process may not have
	// claimed the node yet.
	for range 3 {
		p.GoodUpgrade()
		p.GoodUpgrade()
		p.GoodUpgrade()
	}
	testkit.WantNewMiner(t, p.Addr, "alice")
	admin.Await("the last process owns the node", func() bool { return holder() != owner })
	rival.stop(t)
	if got := miners[0].Extranonce1()[:2]; got != hexByte(id) {
		t.Errorf("extranonce of server %s, want %s", got, hexByte(id))
	}
	admin.Put(coin, "bcc")
	testkit.WantMining(t, miners, "bcc")
}

func hexByte(id string) string {
	n, _ := strconv.Atoi(id)
	text := strconv.FormatInt(int64(n), 16)
	return "00"[len(text):] + text
}

// TestUpgradeWithoutZooKeeper: while ZooKeeper is unreachable, sessions relay,
// those that wait for it go on waiting, and changes made meanwhile take effect
// afterwards.
func TestUpgradeWithoutZooKeeper(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	proxy := zktest.StartProxy(t, server.Addr())
	btc, bcc := testkit.TwoPools(t)
	c := daemontest.ZKConfig(proxy.Addr(), btc, bcc)
	coins := c.ZKSwitcherWatchDir
	admin.Put(coins+"alice", "btc")
	admin.Put(coins+"bob", "bcc")
	admin.Put(coins+"carol", "btc")

	// ZooKeeper has never been reachable, so requests wait for the server ID.
	proxy.Cut()
	p := daemontest.Start(t, c, nil)
	idle := p.Descriptors()
	early := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.early", Rate: 20})
	pipelined := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "bob.early", Rate: 20, Pipelined: true, Configure: 0x1fffe000})
	// Two are their sockets, or one is a dial to ZooKeeper.
	testkit.WaitUntil(t, "two more descriptors", func() bool { return p.Descriptors() >= idle+2 })
	time.Sleep(50 * time.Millisecond) // nothing shows that they wait
	n := p.Logged()
	p.GoodUpgrade()
	p.WaitLogFrom(n, `upgraded .* handshaking=[12] `) // one connection may not be accepted yet
	proxy.Restore()
	testkit.WantMining(t, []*stratumtest.Miner{early}, "btc")
	testkit.WantMining(t, []*stratumtest.Miner{pipelined}, "bcc")
	id := p.WaitLog(`server_id=([1-9]\d*)`)[1]

	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	carol := testkit.StartMiners(t, p.Addr, "carol", 2)
	for range 2 {
		proxy.Cut()
		p.GoodUpgrade()
		testkit.WantMining(t, append(append([]*stratumtest.Miner{early, pipelined}, miners...), carol...), "")
		waiting := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "bob.new", Rate: 20})
		testkit.WaitUntil(t, "subscribed", func() bool { return waiting.Stats().Extranonce1 != "" })
		time.Sleep(50 * time.Millisecond)
		p.GoodUpgrade() // now with a session that waits for its coin
		admin.Put(coins+"alice", "bcc")
		admin.Remove(coins + "carol")
		testkit.WantMining(t, miners, "btc")
		proxy.Restore()
		testkit.WantMining(t, miners, "bcc")
		testkit.WantMining(t, []*stratumtest.Miner{waiting, pipelined}, "bcc")
		testkit.WantMining(t, carol, "btc")
		admin.Put(coins+"carol", "bcc")
		testkit.WantMining(t, carol, "bcc")
		admin.Put(coins+"carol", "btc")
		admin.Put(coins+"alice", "btc")
		testkit.WantMining(t, append(miners, carol...), "btc")
		testkit.WantNewMiner(t, p.Addr, "alice")
		admin.Await("the server ID is held", func() bool {
			names := admin.Children(c.ZKServerIDAssignDir)
			return len(names) == 1 && names[0] == id
		})
	}
	testkit.CheckPool(t, btc)
	testkit.CheckPool(t, bcc)
}

// The node of a configured server ID passes from process to process as an automatic
// one's does, also when the configuration changes from one to the other.
func TestUpgradeFixedServerID(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	btc, bcc := testkit.TwoPools(t)
	c := daemontest.ZKConfig(server.Addr(), btc, bcc)
	c.ServerID = 9
	admin.Put(path.Join(c.ZKSwitcherWatchDir, "alice"), "btc")
	p := daemontest.Start(t, c, nil)
	node := c.ZKServerIDAssignDir + "9"
	admin.Await("the ID is claimed", func() bool { _, ok := admin.Get(node); return ok })
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	rival := startRival(t, server.Addr(), node)
	for _, id := range []uint8{9, 9, 0, 9} {
		before, _ := admin.Get(node)
		c.ServerID = id
		p.WriteConfig(c)
		p.GoodUpgrade()
		admin.Await("the new process owns the node", func() bool {
			now, ok := admin.Get(node)
			return ok && now.Owner != before.Owner
		})
		testkit.WantMining(t, miners, "btc")
	}
	for range 3 {
		p.GoodUpgrade()
		p.GoodUpgrade()
	}
	rival.stop(t)
	for _, id := range p.LogLines(serverIDLine) {
		if id != "9" {
			t.Errorf("unexpected server ID %s", id)
		}
	}
	if lines := p.LogLines(`(held by somebody else|without being claimed|taken by somebody else)`); len(lines) > 0 {
		t.Errorf("unexpected log lines: %q", lines)
	}
}

// Two switchers have the same ServerID. The second serves, and its log, metric and
// page report the conflict.
func TestServerIDTakenIsShown(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	btc, bcc := testkit.TwoPools(t)
	c := daemontest.ZKConfig(server.Addr(), btc, bcc)
	c.ServerID, c.ZKSessionTimeoutSeconds = 9, 1
	admin.Put(path.Join(c.ZKSwitcherWatchDir, "alice"), "btc")
	daemontest.Start(t, c, nil)
	admin.Await("the ID is claimed", func() bool { _, ok := admin.Get(c.ZKServerIDAssignDir + "9"); return ok })
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	second := daemontest.Start(t, c, nil)
	testkit.WantNewMiner(t, second.Addr, "alice")
	second.WaitLog(`^E.* server ID 9 is held by somebody else, host ".*" listening at "127.0.0.1:0", session 0x\w+: `)
	taken := daemontest.Figure(t, daemontest.DebugText(t, c.HTTPDebugListenAddr, "/metrics"), `(?m)^stratum_switcher_server_id_taken (\S+)`)
	if taken != 1 {
		t.Errorf("stratum_switcher_server_id_taken is %v, want 1", taken)
	}
	testkit.WaitUntil(t, "an event", func() bool {
		return strings.Contains(daemontest.DebugText(t, c.HTTPDebugListenAddr, "/api/events"), "server ID is held by somebody else")
	})
}
