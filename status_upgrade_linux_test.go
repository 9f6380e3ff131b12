//go:build linux && e2e && !portable_relay

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// What the page knows of miners and of the past goes through an upgrade.
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

	get := func(web, path string, into any) {
		t.Helper()
		reply, err := http.Get(web + path)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		content, err := io.ReadAll(reply.Body)
		if err == nil {
			err = json.Unmarshal(content, into)
		}
		if err != nil {
			t.Fatalf("%s: %v: %s", path, err, content)
		}
	}
	var before, after struct{ Miners []shownMiner }
	var status statusReply
	var events struct{ Events []eventReply }
	get("http://"+p.WaitLog(`http addr=(\S+)`)[1], "/api/search?q=alice", &before)
	n := p.Logged()
	p.Upgrade()
	web := "http://" + p.WaitLogFrom(n, `http addr=(\S+)`)[1]
	get(web, "/api/search?q=alice", &after)
	if len(before.Miners) != 1 || len(after.Miners) != 1 {
		t.Fatalf("found %+v before, %+v after", before, after)
	}
	b, a := before.Miners[0], after.Miners[0]
	if a.Session != b.Session || a.Address != b.Address || a.Agent != b.Agent || a.Since != b.Since || a.Accepted < b.Accepted || a.LastShare < b.LastShare {
		t.Errorf("before %+v, after %+v", b, a)
	}
	get(web, "/api/status", &status)
	if status.Upgrades != 1 || status.PauseMS < 0 || status.Sessions != 1 || status.LastUpgrade == 0 {
		t.Errorf("status %+v", status)
	}
	var rows accountsReply
	get(web, "/api/accounts", &rows)
	if len(rows.Accounts) != 1 || rows.Accounts[0].LastSwitch == 0 {
		t.Errorf("sub-accounts %+v", rows)
	}
	get(web, "/api/events", &events)
	for _, what := range []string{"upgraded", "coin changed"} {
		if !slices.ContainsFunc(events.Events, func(e eventReply) bool { return e.What == what }) {
			t.Errorf("no event %q in %+v", what, events.Events)
		}
	}
	testkit.CheckMiner(t, miner)
}
