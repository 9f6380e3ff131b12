//go:build linux && e2e

package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// zkChaosCoins is a ZooKeeper that is restarted.
type zkChaosCoins struct {
	t      *testing.T
	world  *zkWorld
	server *zktest.Server
}

func (z zkChaosCoins) set(coins map[string]string, account string) {
	z.world.Put(z.world.coin(account), coins[account])
}

func (z zkChaosCoins) settle() {}

func (z zkChaosCoins) disturb(rng *rand.Rand) {
	if rng.IntN(2) == 0 {
		z.server.Stop()
	} else {
		z.server.Kill()
	}
	time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
	if err := z.server.Start(); err != nil {
		z.t.Fatal(err)
	}
}

// TestChaosZooKeeper is TestChaos with coins from a ZooKeeper that is restarted and killed.
func TestChaosZooKeeper(t *testing.T) {
	t.Parallel()
	testChaos(t, func(c *chaos, config *daemontest.Config) chaosSource {
		server, err := zktest.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		world := newZKWorld(t, server)
		for account, coin := range c.coins {
			world.Put(world.coin(account), coin)
		}
		config.CoinFile, config.ZKBroker, config.ZKSwitcherWatchDir = "", []string{c.machine.proxy(server.Addr()).Addr()}, world.root+"/coins/"
		config.ZKUserCaseInsensitiveIndex, config.EnableUserAutoReg, config.ZKAutoRegWatchDir = "", false, ""
		return zkChaosCoins{t, world, server}
	})
}
