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
	sc.miner.SendLine(rawSubscribe)
	sc.miner.Line(stratumtest.Patience)
	sc.miner.SendLine(rawAuthorize)
	sc.serve("btc", "btc-1")
	sc.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	sc.expectWork("btc-1")
	move := func(name, job string) *stratumtest.Raw {
		p.setCoins(map[string]string{"alice": name})
		link := sc.serve(name, job)
		sc.expectWork(job)
		return link
	}

	bcc := move("bcc", "bcc-1")
	p.goodUpgrade()
	btc := move("btc", "btc-2")
	p.goodUpgrade()
	sc.share(btc, "10", "btc-1")
	sc.share(bcc, "11", "bcc-1")
	bsv := move("bsv", "bsv-1")
	p.goodUpgrade()
	sc.share(btc, "12", "btc-1")
	sc.share(btc, "13", "btc-2")
	sc.share(bcc, "14", "bcc-1")
	sc.share(bsv, "15", "bsv-1")
	for id, link := range map[string]*stratumtest.Raw{"10": btc, "11": bcc, "12": btc, "13": btc, "14": bcc, "15": bsv} {
		sc.answered(link, id)
	}
}
