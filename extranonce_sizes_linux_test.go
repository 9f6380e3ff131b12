//go:build linux && !portable_relay

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// What a pool gave counts on when it is out, over restarts and upgrades. A miner
// that is connected keeps what it was given.
func TestExtranonceSizesAreKept(t *testing.T) {
	pool, other := ownPool(t, "own", 4, 12), ownPool(t, "other", 4, 8)
	c := fileConfig(pool)
	withKinds(pool)(c)
	p := startProcess(t, c, map[string]string{"*": "own"})
	wantSize(t, p.addr, 8)
	miners := startMiners(t, p.addr, "alice", 1)
	if n := pool.Stats().ConnectionsTotal; n != 2 {
		t.Errorf("%d connections, want one that asks and one that mines", n)
	}
	p.goodUpgrade()
	wantSize(t, p.addr, 8)
	if n := pool.Stats().ConnectionsTotal; n != 2 {
		t.Errorf("%d connections after the upgrade", n)
	}
	// A new address is asked by the new program. The file can not be what told
	// the other's size.
	mustDo(t, os.Remove(filepath.Join(p.dir, sizesFile)))
	c = fileConfig(pool, other)
	withKinds(pool, other)(c)
	p.writeConfig(c)
	p.goodUpgrade()
	wantSize(t, p.addr, 4)
	if mine, asked := pool.Stats().ConnectionsTotal, other.Stats().ConnectionsTotal; mine != 2 || asked != 1 {
		t.Errorf("%d and %d connections", mine, asked)
	}
	wantMining(t, miners, "own")
	for _, m := range miners {
		checkMiner(t, m)
	}
	waitUntil(t, "the file is written", func() bool { return len(readSizes(filepath.Join(p.dir, sizesFile))) == 2 })
	p.kill()
	checkPool(t, pool)
	checkPool(t, other)

	// Both are out when the next one starts.
	pool.Close()
	other.Close()
	next := newProcess(t, p.dir)
	began := time.Now()
	next.start("-logtostderr")
	wantSize(t, next.addr, 4)
	if took := time.Since(began); took > askWait {
		t.Errorf("waited for %v", took)
	}
}

// A directory that can not be written to is told once, and is no reason for
// anything else to fail.
func TestExtranonceSizesReadOnlyDirectory(t *testing.T) {
	pool := ownPool(t, "own", 4, 8)
	c := fileConfig(pool)
	withKinds(pool)(c)
	p := newProcess(t, t.TempDir())
	p.writeConfig(c)
	p.setCoins(map[string]string{"*": "own"})
	// Root may write anywhere, but not replace a folder by a file.
	mustDo(t, os.MkdirAll(filepath.Join(p.dir, sizesFile, "x"), 0o700))
	p.start("-logtostderr")
	p.waitLog("extranonce2 sizes of before are not known")
	p.waitLog("extranonce2 sizes are not kept for the next start")
	wantSize(t, p.addr, 4)
}

// An upgrade within the second that a pool has to tell its difficulty.
func TestUpgradeDefaultDifficulty(t *testing.T) {
	sc := &scene{t: t, pools: make(map[string]*scriptedPool)}
	c := fileConfig()
	for _, name := range []string{"btc", "bcc"} {
		sc.pools[name] = startScriptedPool(t)
		c.StratumServerMap[name] = StratumServerInfo{URL: sc.pools[name].addr(), UserSuffix: name}
	}
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	sc.miner = stratumtest.DialRaw(t, p.addr)
	sc.begin("btc")
	p.setCoins(map[string]string{"alice": "bcc"})
	link := sc.accept("bcc")
	link.SendLine(jobLine("bcc-1", true))
	sc.miner.ExpectLine(jobLine("bcc-1", true))
	p.goodUpgrade()
	sc.miner.ExpectLine(difficultyLine)
	p.goodUpgrade()
	sc.miner.ExpectNothing(difficultyGrace + 200*time.Millisecond)
	sc.share(link, "7", "bcc-1")
	sc.answered(link, "7")
}
