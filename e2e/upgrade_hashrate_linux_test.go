//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// hashrateOf is a hashrate in the JSON of the status page.
type hashrateOf struct {
	Rate    *float64 `json:"rate"`
	AtLeast bool     `json:"at_least"`
}

// near reports whether the hashrate differs by less than 15 % from all between least
// and most.
func (h hashrateOf) near(least, most float64) bool {
	return h.Rate != nil && !h.AtLeast && *h.Rate > 0.85*least && *h.Rate < 1.15*most
}

// An upgrade interrupts no hashrate: averages continue with what was before, and
// shares after it still count with their difficulty, which the pool sent only once.
func TestUpgradeKeepsHashrates(t *testing.T) {
	t.Parallel()
	pool := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 6})
	c := daemontest.FileConfig(pool)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	const perShare = 64.0 // hashes for a share
	miner := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.1", Rate: 20})
	testkit.WaitPool(t, miner, "btc")
	began := time.Now()
	page := "http://" + c.HTTPDebugListenAddr
	check := func(when string) {
		t.Helper()
		// A miner on a busy machine finds fewer shares than intended, and the answer
		// may come late.
		shares, since := miner.Stats().Accepted, time.Since(began)
		var accounts struct {
			Accounts []struct{ Hashrate map[string]hashrateOf }
		}
		getJSON(t, page+"/api/accounts", &accounts)
		var found struct {
			Miners []struct {
				Recent  hashrateOf `json:"hashrate_15m"`
				Average hashrateOf `json:"hashrate_session"`
				Unknown int        `json:"unknown"`
			}
		}
		getJSON(t, page+"/api/search?q=alice.1", &found)
		least := perShare * float64(shares) / time.Since(began).Seconds()
		most := perShare * float64(miner.Stats().Accepted) / since.Seconds()
		if len(accounts.Accounts) != 1 || len(found.Miners) != 1 {
			t.Fatalf("%s: %+v %+v", when, accounts, found)
		}
		for _, window := range []string{"1m", "15m", "1h", "24h"} {
			if h := accounts.Accounts[0].Hashrate[window]; !h.near(least, most) {
				t.Errorf("%s, the sub-account's hashrate over %s is %v, want about %.0f to %.0f", when, window, text(h), least, most)
			}
		}
		if m := found.Miners[0]; !m.Recent.near(least, most) || !m.Average.near(least, most) || m.Unknown > 0 {
			t.Errorf("%s, the miner's hashrates are %v and %v, want about %.0f to %.0f; %d shares unknown, want none", when, text(m.Recent), text(m.Average), least, most, m.Unknown)
		}
	}
	time.Sleep(time.Until(began.Add(12 * time.Second)))
	check("before the upgrade")
	p.GoodUpgrade()
	time.Sleep(11 * time.Second)
	check("after the upgrade")
	testkit.CheckMiner(t, miner)
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
