//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A miner that has lost version rolling still counts as one after an upgrade, and
// is closed if the new configuration says so.
func TestUpgradeKeepsLostVersionRolling(t *testing.T) {
	t.Parallel()
	wide := testkit.StartPool(t, stratumtest.PoolOptions{Name: "wide", ShareBits: 3, VersionMask: 0x1fffe000})
	narrow := testkit.StartPool(t, stratumtest.PoolOptions{Name: "narrow", ShareBits: 3, VersionMask: 0x00ffe000})
	c := daemontest.FileConfig(wide, narrow)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr, c.DrainSeconds = true, testkit.UnusedAddr(t), 1
	p := daemontest.Start(t, c, map[string]string{"alice": "wide"})
	miner := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.1", Configure: 0x1fffe000, Rate: 20})
	testkit.WaitPool(t, miner, "wide")
	p.SetCoins(map[string]string{"alice": "narrow"})
	testkit.WaitPool(t, miner, "narrow")
	lost := func() string {
		reply, err := http.Get("http://" + c.HTTPDebugListenAddr + "/api/search?q=alice.1")
		if err != nil {
			return err.Error()
		}
		defer reply.Body.Close()
		var found struct {
			Miners []struct {
				Lost string `json:"lost_version_rolling"`
			}
		}
		if err := json.NewDecoder(reply.Body).Decode(&found); err != nil || len(found.Miners) != 1 {
			return "no miner"
		}
		return found.Miners[0].Lost
	}
	testkit.WaitUntil(t, "the loss shows", func() bool { return lost() == "narrower" })
	p.GoodUpgrade()
	testkit.WaitUntil(t, "the loss shows after the upgrade", func() bool { return lost() == "narrower" })
	testkit.WantAccepted(t, miner, 1)

	c.ReconnectOnLostVersionRolling = true
	p.WriteConfig(c)
	p.GoodUpgrade()
	testkit.WaitUntil(t, "the miner is closed", func() bool { return miner.Stats().Disconnected })
	again := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.1", Configure: 0x1fffe000, Rate: 20})
	testkit.WaitPool(t, again, "narrow")
	testkit.WantAccepted(t, again, 60) // for longer than a round of the loop
	if got := lost(); got != "" {
		t.Errorf("the miner that has negotiated again shows %q, want no loss", got)
	}
}
