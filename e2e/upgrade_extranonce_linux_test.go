//go:build linux && e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Miners at pools of all kinds continue over upgrades, while pools rotate their
// extranonce and coins change.
func TestUpgradePoolExtranonce(t *testing.T) {
	t.Parallel()
	for _, kinds := range []string{"both kinds", "pool only"} {
		t.Run(kinds, func(t *testing.T) {
			t.Parallel()
			one, two := testkit.PickingPool(t, "one", 4, 8), testkit.PickingPool(t, "two", 7, 8)
			pools := []*stratumtest.Pool{one, two}
			sizes := []int{4, 6, 5, 8}
			if kinds == "both kinds" {
				pools = append(pools, testkit.StartPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000}))
				sizes = []int{8, 9, 8, 10}
			}
			small := testkit.PickingPool(t, "small", 3, 3)
			pools = append(pools, small)
			c := daemontest.FileConfig(pools...)
			c.PoolsPick(one, two, small)
			if kinds == "pool only" {
				c.ExtraNonce2Size = 3 // so that the small pool has no room
			}
			coins := map[string]string{"alice": "one", "able": "small"}
			for _, p := range pools {
				coins["to"+p.Name()] = p.Name()
			}
			p := daemontest.Start(t, c, coins)
			var miners []*stratumtest.Miner
			for i := range uint32(3) {
				miners = append(miners, testkit.StartMiner(t, stratumtest.MinerOptions{
					Addr: p.Addr, Worker: "alice.w", Rate: 80, Configure: i * 0x0fffe000, IDs: stratumtest.IDStyle(i),
				}))
			}
			able := testkit.StartMiner(t, stratumtest.MinerOptions{
				Addr: p.Addr, Worker: "able.one", Rate: 80, Configure: 0x1fffe000, ExtranonceSubscribe: true, FollowExtranonce: true,
			})
			all := append(miners[:3:3], able)
			testkit.WantAccepted(t, able, 1)
			for i, size := range sizes {
				at := pools[i%(len(pools)-1)] // not the small pool
				coins["alice"] = at.Name()
				coins["able"] = pools[(i+2)%len(pools)].Name()
				p.SetCoins(coins)
				testkit.WantMining(t, miners, at.Name())
				testkit.WantMining(t, all[3:], coins["able"])
				if at != pools[len(pools)-1] && at.Name() != "session" {
					at.RotateExtranonce(size, false)
				}
				small.RotateExtranonce(3+i%2, false)
				p.GoodUpgrade()
				testkit.WantMining(t, miners, at.Name())
				if at.Name() != "session" {
					at.RotateExtranonce(8, false) // a clean job would make shares that are on their way stale
				}
				p.GoodUpgrade()
				testkit.WantMining(t, all, "")
			}
			// New miners get the same shape of extranonce.
			r := stratumtest.DialRaw(t, p.Addr)
			r.SendLine(testkit.RawSubscribe)
			want := `,3],"error":null}`
			if kinds == "both kinds" {
				want = `,4],"error":null}`
			}
			if line := r.Line(testkit.LongWait); len(line) < len(want) || line[len(line)-len(want):] != want {
				t.Errorf("subscribe was answered with %s", line)
			}
			for _, m := range all {
				testkit.CheckMiner(t, m)
			}
			for _, pool := range pools {
				for _, r := range pool.Rejects() {
					t.Errorf("pool %s rejected a share with code %d, %s: %s", pool.Name(), r.Code, r.Reason, r.Line)
				}
				testkit.CheckFaults(t, pool)
			}
		})
	}
}

// startPickingProcess runs the daemon with a pool that picks the extranonce, where the
// miner is, and a second pool as another coin.
func startPickingProcess(t *testing.T) (p *daemontest.Daemon, s *testkit.PickingScene, second *testkit.ScriptedPool) {
	t.Helper()
	s = &testkit.PickingScene{T: t, Scripted: testkit.StartScriptedPool(t)}
	second = testkit.StartScriptedPool(t)
	c := daemontest.FileConfig()
	c.ExtraNonce2Size = 3 // so that the pools are not asked
	c.StratumServerMap = map[string]daemontest.PoolConfig{
		"own":    {URL: s.Scripted.Addr(), UserSuffix: "own", ExtraNonce: "pool"},
		"second": {URL: second.Addr(), UserSuffix: "second", ExtraNonce: "pool", Worker: "{account}+{miner}", Password: "p"},
	}
	p = daemontest.Start(t, c, map[string]string{"alice": "own"})
	s.Miner = stratumtest.DialRaw(t, p.Addr)
	s.Miner.SendLine(testkit.RawSubscribe)
	s.Miner.Line(testkit.LongWait)
	s.Miner.SendLine(testkit.RawAuthorize)
	s.Pool = s.Scripted.Next()
	s.Handshake("aaaaaaaa", 4, nil, []string{testkit.SceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.Miner.ExpectLine(testkit.SceneJob("a", "01aaaaaaaa", "02", true))
	return p, s, second
}

// One upgrade is between mining.set_extranonce and its job, and others are between
// the shares of before and after. Then there is one while the former pool owes an
// answer, with a late share for it.
func TestUpgradeMidRotation(t *testing.T) {
	t.Parallel()
	p, s, second := startPickingProcess(t)
	s.Pool.SendLine(testkit.SetExtranonce("bb", 6))
	s.Share(3, "a", "80aabbcc")
	p.GoodUpgrade()
	s.Share(4, "a", "80aabbcc")
	s.Pool.Send(testkit.SceneJob("b", "01", "02", false)[:40]) // and half a job
	time.Sleep(20 * time.Millisecond)
	p.GoodUpgrade()
	s.Pool.SendLine(testkit.SceneJob("b", "01", "02", false)[40:])
	s.Miner.ExpectLine(testkit.SceneJob("b", "01bb0000", "02", false))
	s.Share(5, "b", "000080aabbcc")
	p.GoodUpgrade()
	s.Share(6, "a", "80aabbcc")
	s.Pool.SendLine(testkit.SetExtranonce("cc", 5))
	s.Pool.SendLine(testkit.SceneJob("c", "01", "02", false))
	s.Miner.ExpectLine(testkit.SceneJob("c", "01cc00", "02", false))
	p.GoodUpgrade()
	s.Share(7, "a", "80aabbcc")
	s.Share(8, "b", "000080aabbcc")
	s.Share(9, "c", "0080aabbcc")

	// Half a share is sent, then the rest, and then a share whose answer is owed
	// over a switch.
	line := testkit.SceneShare(10, "c", "aabbcc") + "\n"
	s.Miner.Send(line[:50])
	time.Sleep(20 * time.Millisecond)
	p.GoodUpgrade()
	s.Miner.Send(line[50:])
	s.Pool.ExpectLine(testkit.SceneShare(10, "c", "0080aabbcc"))
	p.SetCoins(map[string]string{"alice": "second"})
	to := second.Next()
	to.ExpectMethod("mining.subscribe")
	to.SendLine(`{"id":2147400000,"result":[[],"dd",4],"error":null}`)
	to.ExpectLine(`{"id":2147400001,"method":"mining.authorize","params":["alice+1","p"]}`)
	to.Send(`{"id":2147400001,"result":true,"error":null}` + "\n" + testkit.SceneJob("x", "01", "02", false) + "\n")
	s.Miner.ExpectLine(testkit.SceneJob("x", "01dd", "02", true))
	p.GoodUpgrade()
	s.Miner.SendLine(testkit.SceneShare(11, "b", "aabbcc"))
	s.Pool.ExpectLine(testkit.SceneShare(11, "b", "000080aabbcc"))
	p.GoodUpgrade()
	s.Pool.SendLine(testkit.GoodAnswer("10"))
	s.Miner.ExpectLine(testkit.GoodAnswer("10"))
	s.Miner.SendLine(testkit.SceneShare(12, "x", "aabbcc"))
	to.ExpectLine(`{"id":12,"method":"mining.submit","params":["alice+1","x","80aabbcc","5f000000","00000000"]}`)
	s.Pool.SendLine(testkit.GoodAnswer("11"))
	s.Miner.ExpectLine(testkit.GoodAnswer("11"))
	to.SendLine(testkit.GoodAnswer("12"))
	s.Miner.ExpectLine(testkit.GoodAnswer("12"))
}

// A link's rules are kept whatever the configuration says about its coin, over any
// number of upgrades.
func TestUpgradeFormerPickingPool(t *testing.T) {
	t.Parallel()
	p, s, _ := startPickingProcess(t)
	p.SetCoins(map[string]string{"alice": "second"})
	time.Sleep(10 * time.Millisecond)
	p.SetCoins(map[string]string{"alice": "own"})
	for i := range 3 {
		c := daemontest.FileConfig()
		c.StratumServerMap = map[string]daemontest.PoolConfig{
			"own":   {URL: testkit.UnusedAddr(t), UserSuffix: "changed", Worker: "{suffix}"},
			"third": {URL: fmt.Sprintf("127.0.0.1:%d", i+1)},
		}
		p.WriteConfig(c)
		p.GoodUpgrade()
		line := fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":["al ice.1","a","aabbcc","5f000000","00000000"]}`, i)
		s.Miner.SendLine(line)
		s.Pool.ExpectLine(strings.Replace(line, "aabbcc", "80aabbcc", 1))
	}
	// The pool may still pick another extranonce.
	s.Pool.SendLine(testkit.SetExtranonce("bb", 4))
	s.Pool.SendLine(testkit.SceneJob("b", "01", "02", true))
	s.Miner.ExpectLine(testkit.SceneJob("b", "01bb", "02", true))
	s.Share(20, "b", "80aabbcc")
}

// When a "session" coin is added to "pool" coins, miners keep their extranonce of
// one byte, and new miners get the session ID.
func TestUpgradeToSessionPools(t *testing.T) {
	t.Parallel()
	own := testkit.PickingPool(t, "own", 4, 8)
	session := testkit.StartPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000})
	c := daemontest.FileConfig(own)
	c.PoolsPick(own)
	p := daemontest.Start(t, c, map[string]string{"*": "own"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 2)
	testkit.WantMining(t, miners, "own")
	c = daemontest.FileConfig(own, session)
	c.PoolsPick(own)
	p.WriteConfig(c)
	p.GoodUpgrade()
	p.SetCoins(map[string]string{"*": "session"})
	testkit.WantMining(t, miners, "session")
	miners = append(miners, testkit.StartMiners(t, p.Addr, "alice", 1)...)
	p.SetCoins(map[string]string{"*": "own"})
	testkit.WantMining(t, miners, "own")
	p.SetCoins(map[string]string{"*": "session"})
	p.GoodUpgrade()
	testkit.WantMining(t, miners, "session")
	for i, digits := range []int{2, 2, 8} {
		if x := miners[i].Stats().Extranonce1; len(x) != digits {
			t.Errorf("miner %d has the unexpected extranonce %s", i, x)
		}
	}
	testkit.CheckPool(t, own)
	testkit.CheckPool(t, session)
}
