//go:build linux && e2e && !portable_relay

package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Which former link a job is of is known after upgrades too: of jobs that were
// noted, of those that were not because no other link drained, and of those of
// a pool that was visited twice.
func TestUpgradeKeepsJobsOfFormerLinks(t *testing.T) {
	t.Parallel()
	sc := &scene{t: t, pools: make(map[string]*testkit.ScriptedPool)}
	c := daemontest.FileConfig()
	c.DrainSeconds = 600
	for _, name := range []string{"btc", "bcc", "bsv"} {
		sc.pools[name] = testkit.StartScriptedPool(t)
		c.StratumServerMap[name] = daemontest.PoolConfig{URL: sc.pools[name].Addr(), UserSuffix: name}
	}
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	sc.miner = stratumtest.DialRaw(t, p.Addr)
	sc.begin("btc")
	move := func(name, job string) *stratumtest.Raw {
		p.SetCoins(map[string]string{"alice": name})
		link := sc.serve(name, job)
		sc.expectWork(job)
		return link
	}
	sc.visitTwice(move, p.GoodUpgrade)
}
