//go:build linux && e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Pools with TLS and without serve the same miners: at the first connect, in
// switches back and forth, and by a new link after the pool has dropped its
// connections.
func TestTLSPools(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000})
	own := w.pool(stratumtest.PoolOptions{Name: "own", ShareBits: 4, Own: &stratumtest.OwnExtranonce{Len: 4, Size: 12}})
	bcc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4})
	c := w.config([]*stratumtest.Pool{bcc}, btc, own)
	c.PoolsPick(own)
	c.ExtraNonce2Size = 8
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	fleet := testkit.FleetOf(t, d.Addr, "alice", 20, 200, stratumtest.MinerOptions{Configure: 0x1fffe000})
	for _, coin := range []string{"btc", "bcc", "own", "btc", "own", "bcc", "btc"} {
		d.SetCoins(map[string]string{"*": coin})
		if _, err := fleet.WaitPool(testkit.LongWaitContext(t), coin); err != nil {
			t.Fatal(err)
		}
		testkit.WantMining(t, fleet.Miners(), coin)
	}
	testkit.SettleFleet(t, fleet)
	for _, p := range []*stratumtest.Pool{btc, bcc, own} {
		testkit.CheckPool(t, p)
	}
	btc.CloseConnections()
	fleet.SetRate(200)
	testkit.WantMiningAfterLoss(t, fleet.Miners(), "btc")
	testkit.Must(t, btc.WaitConnections(testkit.LongWaitContext(t), 20))
}

// A pool with a bad certificate counts as one that cannot be dialled: the reason is
// reported and the backup is used.
func TestTLSPoolWithBadCertificate(t *testing.T) {
	t.Parallel()
	w, strange := newTLSWorld(t), testkit.NewAuthority(t)
	for _, test := range []struct {
		name, reason string
		opts         stratumtest.PoolOptions
	}{
		{"expired", "expired", stratumtest.PoolOptions{TLS: w.ServerUntil(time.Now().Add(-time.Hour), poolHost)}},
		{"name", "wrong name", stratumtest.PoolOptions{TLS: w.Server("other.test")}},
		{"authority", "unknown authority", stratumtest.PoolOptions{TLS: strange.Server(poolHost)}},
		{"plain", "(?:not TLS|reset|closed)", stratumtest.PoolOptions{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opts.Name, test.opts.ShareBits = "bad", 4
			bad := testkit.StartPool(t, test.opts)
			good := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
			c := w.config(nil, good)
			pool := c.StratumServerMap["btc"]
			pool.BackupURLs = []string{pool.URL}
			pool.URL = "stratum+ssl://" + bad.Addr()
			c.StratumServerMap["btc"] = pool
			d := daemontest.Start(t, c, map[string]string{"*": "btc"}, "-v=2")
			for i := range 5 {
				m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: fmt.Sprintf("alice.%d", i)})
				testkit.WaitPool(t, m, "btc")
				testkit.WaitAccepted(t, m, 1)
			}
			d.WaitLog(`pool taken out coin="btc" pool=stratum\+ssl://\S+: TLS handshake failed: ` + test.reason)
		})
	}
}
