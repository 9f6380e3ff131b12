//go:build linux && e2e

package e2e

import (
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// chaosOthers are miners beside those of the chaos test: good ones at a pool that
// always works, which nothing may disturb, and bad ones at that and other pools,
// which try to disturb them.
type chaosOthers struct {
	t       *testing.T
	machine *daemonMachine
	good    *bystanders
	bad     *troublemakers
}

// configure makes a configuration for the daemon's machine, with the given pools
// and those of others. The others' accounts are added to the coins.
func (c *chaos) configure(config *daemontest.Config) {
	c.t.Helper()
	own := func(name string) *stratumtest.Pool {
		return testkit.StartPool(c.t, stratumtest.PoolOptions{
			Name: name, Addr: c.machine.unusedAddr(), ShareBits: 5, VersionMask: 0x1fffe000, JobInterval: 500 * time.Millisecond,
		})
	}
	config.ListenAddr = c.machine.ip + ":0"
	config.EnableHTTPDebug, config.HTTPDebugListenAddr = true, c.machine.ownAddr()
	steady, ill := own(steadyCoin), own(illCoin)
	for coin, url := range map[string]string{
		steadyCoin: steady.Addr(), namedCoin: c.machine.named(namedCoin, steady.Addr()), illCoin: c.machine.named(illCoin, ill.Addr()),
	} {
		config.StratumServerMap[coin] = daemontest.PoolConfig{URL: url, UserSuffix: coin}
	}
	for _, p := range c.pools {
		config.StratumServerMap[p.Name()] = daemontest.PoolConfig{URL: c.machine.named(p.Name(), p.Addr()), UserSuffix: p.Name()}
		p.SetTreatments(treatmentsOfTroublemakers())
	}
	steady.SetTreatments(treatmentsOfTroublemakers())
	for account, coin := range bystanderAccounts {
		c.coins[account] = coin
	}
	c.machine.setHosts(c.rng)
	c.others = &chaosOthers{
		t: c.t, machine: c.machine, good: &bystanders{t: c.t, pool: steady},
		bad: newTroublemakers(c.t, ill, c.coins, steadyCoin, c.pools[0].Name()),
	}
}

// start starts the control daemon and makes good miners connect.
func (o *chaosOthers) start(addr string) {
	o.t.Helper()
	pool := testkit.StartPool(o.t, stratumtest.PoolOptions{Name: steadyCoin, ShareBits: 5, VersionMask: 0x1fffe000, JobInterval: 500 * time.Millisecond})
	o.good.controlAddr = daemontest.Start(o.t, daemontest.FileConfig(pool), map[string]string{"good": steadyCoin}).Addr
	o.good.addr, o.bad.addr = addr, addr
	for account, miners := range map[string]int{"good": 20, "fair": 5} {
		o.good.fleet = append(o.good.fleet, testkit.FleetOf(o.t, addr, account, miners, 2*float64(miners), stratumtest.MinerOptions{Configure: 0x1fffe000}))
	}
}

// begin makes new miners connect, good ones and bad ones.
func (o *chaosOthers) begin() {
	o.good.begin()
	o.bad.begin()
}

// end makes them leave, except the good ones of the beginning, and waits until none
// of their links is left.
func (o *chaosOthers) end() {
	o.t.Helper()
	o.bad.end()
	o.good.end()
	stay := 0
	for _, f := range o.good.fleet {
		stay += f.Stats().Miners
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		steady, ill := o.good.pool.Stats().Connections, o.bad.ill.Stats().Connections
		if steady == stay && ill == 0 {
			return
		}
		if time.Now().After(end) {
			o.t.Errorf("%d links to the pool that always works, want one for each of %d miners; %d links to the broken pool, want none", steady, stay, ill)
			return
		}
	}
}

// account checks that new good miners were served as fast as without the others,
// and that the old ones have noticed nothing.
func (o *chaosOthers) account() {
	o.t.Helper()
	o.good.judge()
	o.good.account()
	o.bad.report()
}
