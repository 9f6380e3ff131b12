//go:build linux && e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// The size that a pool gave still counts when the pool is out, over restarts and
// upgrades. A miner that is connected keeps the size that it got.
func TestExtranonceSizesAreKept(t *testing.T) {
	t.Parallel()
	pool, other := testkit.PickingPool(t, "own", 4, 12), testkit.PickingPool(t, "other", 4, 8)
	c := daemontest.FileConfig(pool)
	c.PoolsPick(pool)
	p := daemontest.Start(t, c, map[string]string{"*": "own"})
	testkit.WantExtranonce2Size(t, p.Addr, 8)
	miners := testkit.StartMiners(t, p.Addr, "alice", 1)
	if n := pool.Stats().ConnectionsTotal; n != 2 {
		t.Errorf("there were %d connections, want one that asks and one that mines", n)
	}
	p.GoodUpgrade()
	testkit.WantExtranonce2Size(t, p.Addr, 8)
	if n := pool.Stats().ConnectionsTotal; n != 2 {
		t.Errorf("there were %d connections after the upgrade, want no new one that asks", n)
	}
	// The new program asks a new address. The size of the other address cannot come
	// from the file.
	testkit.Must(t, os.Remove(filepath.Join(p.Dir, sizesFile)))
	c = daemontest.FileConfig(pool, other)
	c.PoolsPick(pool, other)
	p.WriteConfig(c)
	p.GoodUpgrade()
	testkit.WantExtranonce2Size(t, p.Addr, 4)
	if mine, asked := pool.Stats().ConnectionsTotal, other.Stats().ConnectionsTotal; mine != 2 || asked != 1 {
		t.Errorf("there were %d and %d connections to the two pools", mine, asked)
	}
	testkit.WantMining(t, miners, "own")
	for _, m := range miners {
		testkit.CheckMiner(t, m)
	}
	testkit.WaitUntil(t, "the file is written", func() bool {
		var sizes map[string]int
		return readJSON(filepath.Join(p.Dir, sizesFile), &sizes) == nil && len(sizes) == 2
	})
	p.Kill()
	testkit.CheckPool(t, pool)
	testkit.CheckPool(t, other)

	// Both pools are out when the next daemon starts.
	pool.Close()
	other.Close()
	next := daemontest.New(t, p.Dir)
	began := time.Now()
	next.Start("-logtostderr")
	testkit.WantExtranonce2Size(t, next.Addr, 4)
	if took := time.Since(began); took > askWait {
		t.Errorf("a miner waited for %v, which is too long", took)
	}
}

// A directory that cannot be written is reported once, and nothing else fails
// because of it.
func TestExtranonceSizesReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	pool := testkit.PickingPool(t, "own", 4, 8)
	c := daemontest.FileConfig(pool)
	c.PoolsPick(pool)
	p := daemontest.New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(map[string]string{"*": "own"})
	// Root may write anywhere, but not replace a folder by a file.
	testkit.Must(t, os.MkdirAll(filepath.Join(p.Dir, sizesFile, "x"), 0o700))
	p.Start("-logtostderr")
	p.WaitLog("extranonce2 sizes of the last run are not known")
	p.WaitLog("extranonce2 sizes are not kept for the next start")
	testkit.WantExtranonce2Size(t, p.Addr, 4)
}

// An upgrade happens within the second that a pool has to send its difficulty.
func TestUpgradeDefaultDifficulty(t *testing.T) {
	t.Parallel()
	sc, p, _ := startScene(t, 5, "btc", "bcc")
	p.SetCoins(map[string]string{"alice": "bcc"})
	link := sc.Accept("bcc")
	link.SendLine(stratumtest.JobLine("bcc-1", true))
	sc.Miner.ExpectLine(stratumtest.JobLine("bcc-1", true))
	p.GoodUpgrade()
	sc.Miner.ExpectLine(testkit.DifficultyLine)
	p.GoodUpgrade()
	sc.Miner.ExpectNothing(difficultyGrace + 200*time.Millisecond)
	sc.Share(link, "7", "bcc-1")
	sc.Answered(link, "7")
}
