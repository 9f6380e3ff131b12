//go:build linux && !portable_relay

package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Which former link a job is of is known after upgrades too: of jobs that were
// noted, of those that were not because no other link drained, and of those of
// a pool that was visited twice.
func TestUpgradeKeepsJobsOfFormerLinks(t *testing.T) {
	t.Parallel()
	sc := &scene{t: t, pools: make(map[string]*scriptedPool)}
	c := fileConfig()
	c.DrainSeconds = 600
	for _, name := range []string{"btc", "bcc", "bsv"} {
		sc.pools[name] = startScriptedPool(t)
		c.StratumServerMap[name] = StratumServerInfo{URL: sc.pools[name].addr(), UserSuffix: name}
	}
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	sc.miner = stratumtest.DialRaw(t, p.addr)
	sc.begin("btc")
	move := func(name, job string) *stratumtest.Raw {
		p.setCoins(map[string]string{"alice": name})
		link := sc.serve(name, job)
		sc.expectWork(job)
		return link
	}
	sc.visitTwice(move, p.goodUpgrade)
}
