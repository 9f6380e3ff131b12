//go:build linux && e2e

package e2e

import (
	"slices"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// What the page knows about miners and about the past survives an upgrade.
func TestStatusAfterUpgrade(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc, bcc)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	miner := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.rig1", UserAgent: "cgminer/4.11"})
	testkit.WaitPool(t, miner, "btc")
	p.SetCoins(map[string]string{"alice": "bcc"})
	testkit.WaitPool(t, miner, "bcc")
	testkit.WaitAccepted(t, miner, 3)

	var before, after struct{ Miners []pageMiner }
	var status pageStatus
	var events struct{ Events []pageEvent }
	getJSON(t, "http://"+p.WaitLog(`http addr=(\S+)`)[1]+"/api/search?q=alice", &before)
	n := p.Logged()
	p.Upgrade()
	web := "http://" + p.WaitLogFrom(n, `http addr=(\S+)`)[1]
	getJSON(t, web+"/api/search?q=alice", &after)
	if len(before.Miners) != 1 || len(after.Miners) != 1 {
		t.Fatalf("the search found %+v before the upgrade and %+v after it", before, after)
	}
	b, a := before.Miners[0], after.Miners[0]
	if a.Session != b.Session || a.Address != b.Address || a.Agent != b.Agent || a.Since != b.Since || a.Accepted < b.Accepted || a.LastShare < b.LastShare {
		t.Errorf("the miner was %+v before the upgrade and is %+v after it", b, a)
	}
	getJSON(t, web+"/api/status", &status)
	if status.Upgrades != 1 || status.PauseMS < 0 || status.Sessions != 1 || status.LastUpgrade == 0 {
		t.Errorf("unexpected status %+v", status)
	}
	var rows pageAccounts
	getJSON(t, web+"/api/accounts", &rows)
	if len(rows.Accounts) != 1 || rows.Accounts[0].LastSwitch == 0 {
		t.Errorf("unexpected sub-accounts %+v", rows)
	}
	getJSON(t, web+"/api/events", &events)
	for _, what := range []string{"upgraded", "coin changed"} {
		if !slices.ContainsFunc(events.Events, func(e pageEvent) bool { return e.What == what }) {
			t.Errorf("there is no event %q in %+v", what, events.Events)
		}
	}
	testkit.CheckMiner(t, miner)
}
