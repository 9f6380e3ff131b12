package daemontest

import (
	"strconv"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// zkProcessConfig is a configuration with ZooKeeper at addr, in directories of
// the test's own.
func ZKConfig(addr string, pools ...*stratumtest.Pool) *Config {
	root := "/upgrade" + strconv.FormatInt(zktest.Roots.Add(1), 10)
	c := FileConfig(pools...)
	c.ServerID, c.CoinFile = 0, ""
	c.ZKBroker = []string{addr}
	c.ZKSwitcherWatchDir, c.ZKServerIDAssignDir, c.ZKAutoRegWatchDir = root+"/coins/", root+"/ids/", root+"/autoreg/"
	c.ZKUserCaseInsensitiveIndex = ""
	c.EnableUserAutoReg = false
	c.ZKSessionTimeoutSeconds = 10
	return c
}
