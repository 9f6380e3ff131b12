//go:build linux && e2e

package e2e

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// After an upgrade, unanswered requests of the switcher, and requests of the miner
// with the same ids, are still known, for the link in use and for a former one.
func TestUpgradeKeepsOwnRequests(t *testing.T) {
	t.Parallel()
	sc, p, btc := startScene(t, 600, "btc", "bcc")
	sc.Miner.SendLine(`{"id":3,"method":"mining.authorize","params":["alice.2"]}`)
	btc.ExpectMethod("mining.authorize")
	btc.SendLine(testkit.GoodAnswer("3"))
	sc.Miner.ExpectLine(testkit.GoodAnswer("3"))
	p.SetCoins(map[string]string{"alice": "bcc"})
	bcc := sc.Serve("bcc", "bcc-1")
	bcc.ExpectLine(`{"id":2147400002,"method":"mining.authorize","params":["alice.2"]}`)
	sc.ExpectWork("bcc-1")
	sc.Miner.SendLine(stratumtest.ShareLine("2147400002", "bcc-1"))
	bcc.ExpectLine(stratumtest.ShareLine("2147400003", "bcc-1"))
	sc.Share(btc, "2147400002", "btc-1") // on that link the switcher does not use this id
	p.GoodUpgrade()
	sc.Miner.SendLine(stratumtest.ShareLine(`"2147400002"`, "bcc-1"))
	bcc.ExpectLine(stratumtest.ShareLine("2147400004", "bcc-1"))
	bcc.SendLine(testkit.GoodAnswer("2147400002")) // the answer for the worker
	bcc.SendLine(testkit.GoodAnswer("2147400004"))
	sc.Miner.ExpectLine(testkit.GoodAnswer(`"2147400002"`))
	sc.Answered(btc, "2147400002")
	bcc.SendLine(testkit.GoodAnswer("2147400003"))
	sc.Miner.ExpectLine(testkit.GoodAnswer("2147400002"))
}
