//go:build linux && e2e

package e2e

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// startScene starts a raw miner at the daemon and the first of the scripted pools,
// with the job NAME-1. Former links drain for the given number of seconds.
func startScene(t *testing.T, drain int, pools ...string) (*testkit.Scene, *daemontest.Daemon, *stratumtest.Raw) {
	t.Helper()
	sc := testkit.NewScene(t, pools...)
	c := daemontest.FileConfig()
	c.DrainSeconds = drain
	for name, pool := range sc.Pools {
		c.StratumServerMap[name] = daemontest.PoolConfig{URL: pool.Addr(), UserSuffix: name}
	}
	p := daemontest.Start(t, c, map[string]string{"alice": pools[0]})
	sc.Miner = stratumtest.DialRaw(t, p.Addr)
	return sc, p, sc.Begin(pools[0])
}
