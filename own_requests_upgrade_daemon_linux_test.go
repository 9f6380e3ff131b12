//go:build linux && e2e && !portable_relay

package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Own requests without an answer, and requests of the miner under own ids, are
// known after an upgrade, of the link in use and of a former one.
func TestUpgradeKeepsOwnRequests(t *testing.T) {
	t.Parallel()
	sc := &scene{t: t, pools: make(map[string]*testkit.ScriptedPool)}
	c := daemontest.FileConfig()
	c.DrainSeconds = 600
	for _, name := range []string{"btc", "bcc"} {
		sc.pools[name] = testkit.StartScriptedPool(t)
		c.StratumServerMap[name] = daemontest.PoolConfig{URL: sc.pools[name].Addr(), UserSuffix: name}
	}
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	sc.miner = stratumtest.DialRaw(t, p.Addr)
	btc := sc.begin("btc")
	sc.miner.SendLine(`{"id":3,"method":"mining.authorize","params":["alice.2"]}`)
	btc.ExpectMethod("mining.authorize")
	btc.SendLine(goodAnswer("3"))
	sc.miner.ExpectLine(goodAnswer("3"))
	p.SetCoins(map[string]string{"alice": "bcc"})
	bcc := sc.serve("bcc", "bcc-1")
	bcc.ExpectLine(`{"id":2147400002,"method":"mining.authorize","params":["alice.2"]}`)
	sc.expectWork("bcc-1")
	sc.miner.SendLine(testkit.ShareLine("2147400002", "bcc-1"))
	bcc.ExpectLine(testkit.ShareLine("2147400003", "bcc-1"))
	sc.share(btc, "2147400002", "btc-1") // there it is no own one
	p.GoodUpgrade()
	sc.miner.SendLine(testkit.ShareLine(`"2147400002"`, "bcc-1"))
	bcc.ExpectLine(testkit.ShareLine("2147400004", "bcc-1"))
	bcc.SendLine(goodAnswer("2147400002")) // the worker's
	bcc.SendLine(goodAnswer("2147400004"))
	sc.miner.ExpectLine(goodAnswer(`"2147400002"`))
	sc.answered(btc, "2147400002")
	bcc.SendLine(goodAnswer("2147400003"))
	sc.miner.ExpectLine(goodAnswer("2147400002"))
}
