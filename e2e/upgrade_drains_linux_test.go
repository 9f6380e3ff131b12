//go:build linux && e2e

package e2e

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// After upgrades it is still known to which former link a job belongs: jobs that
// were recorded, jobs that were not because no other link drained, and jobs of a
// pool that was visited twice.
func TestUpgradeKeepsJobsOfFormerLinks(t *testing.T) {
	t.Parallel()
	sc, p, _ := startScene(t, 600, "btc", "bcc", "bsv")
	move := func(name, job string) *stratumtest.Raw {
		p.SetCoins(map[string]string{"alice": name})
		link := sc.Serve(name, job)
		sc.ExpectWork(job)
		return link
	}
	sc.VisitTwice(move, p.GoodUpgrade)
}
