//go:build linux && e2e && !portable_relay

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// What a pool gave counts on when it is out, over restarts and upgrades. A miner
// that is connected keeps what it was given.
func TestExtranonceSizesAreKept(t *testing.T) {
	t.Parallel()
	pool, other := ownPool(t, "own", 4, 12), ownPool(t, "other", 4, 8)
	c := daemontest.FileConfig(pool)
	c.PoolsPick(pool)
	p := daemontest.Start(t, c, map[string]string{"*": "own"})
	wantSize(t, p.Addr, 8)
	miners := testkit.StartMiners(t, p.Addr, "alice", 1)
	if n := pool.Stats().ConnectionsTotal; n != 2 {
		t.Errorf("%d connections, want one that asks and one that mines", n)
	}
	p.GoodUpgrade()
	wantSize(t, p.Addr, 8)
	if n := pool.Stats().ConnectionsTotal; n != 2 {
		t.Errorf("%d connections after the upgrade", n)
	}
	// A new address is asked by the new program. The file cannot be what told
	// the other's size.
	testkit.Must(t, os.Remove(filepath.Join(p.Dir, sizesFile)))
	c = daemontest.FileConfig(pool, other)
	c.PoolsPick(pool, other)
	p.WriteConfig(c)
	p.GoodUpgrade()
	wantSize(t, p.Addr, 4)
	if mine, asked := pool.Stats().ConnectionsTotal, other.Stats().ConnectionsTotal; mine != 2 || asked != 1 {
		t.Errorf("%d and %d connections", mine, asked)
	}
	testkit.WantMining(t, miners, "own")
	for _, m := range miners {
		testkit.CheckMiner(t, m)
	}
	testkit.WaitUntil(t, "the file is written", func() bool { return len(readSizes(filepath.Join(p.Dir, sizesFile))) == 2 })
	p.Kill()
	testkit.CheckPool(t, pool)
	testkit.CheckPool(t, other)

	// Both are out when the next one starts.
	pool.Close()
	other.Close()
	next := daemontest.New(t, p.Dir)
	began := time.Now()
	next.Start("-logtostderr")
	wantSize(t, next.Addr, 4)
	if took := time.Since(began); took > askWait {
		t.Errorf("waited for %v", took)
	}
}

// A directory that cannot be written to is told once, and is no reason for
// anything else to fail.
func TestExtranonceSizesReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	pool := ownPool(t, "own", 4, 8)
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
	wantSize(t, p.Addr, 4)
}

// An upgrade within the second that a pool has to tell its difficulty.
func TestUpgradeDefaultDifficulty(t *testing.T) {
	t.Parallel()
	sc := &scene{t: t, pools: make(map[string]*testkit.ScriptedPool)}
	c := daemontest.FileConfig()
	for _, name := range []string{"btc", "bcc"} {
		sc.pools[name] = testkit.StartScriptedPool(t)
		c.StratumServerMap[name] = daemontest.PoolConfig{URL: sc.pools[name].Addr(), UserSuffix: name}
	}
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	sc.miner = stratumtest.DialRaw(t, p.Addr)
	sc.begin("btc")
	p.SetCoins(map[string]string{"alice": "bcc"})
	link := sc.accept("bcc")
	link.SendLine(testkit.JobLine("bcc-1", true))
	sc.miner.ExpectLine(testkit.JobLine("bcc-1", true))
	p.GoodUpgrade()
	sc.miner.ExpectLine(difficultyLine)
	p.GoodUpgrade()
	sc.miner.ExpectNothing(difficultyGrace + 200*time.Millisecond)
	sc.share(link, "7", "bcc-1")
	sc.answered(link, "7")
}
