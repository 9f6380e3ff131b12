//go:build linux && e2e

package e2e

import (
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// The network between the daemon and all servers of a ZooKeeper ensemble drops
// every packet, for a moment or until the session has expired. Miners continue to
// mine, new ones are served, and a coin that was changed meanwhile takes effect
// when the network is back. The server ID stays the same.
func TestPartitionFromZooKeeper(t *testing.T) {
	t.Parallel()
	ensemble, err := zktest.StartEnsemble(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ensemble.Close() })
	// These are not parallel, because the ensemble ends with this function.
	t.Run("for a moment", func(t *testing.T) { partition(t, ensemble, false) })
	t.Run("session expired", func(t *testing.T) { partition(t, ensemble, true) })
}

func partition(t *testing.T, ensemble *zktest.Ensemble, expire bool) {
	const timeout = 3
	switcher, far := daemontest.MakeNamespaces(t)
	btc := startPoolProcess(t, switcher, "btc", daemontest.SwitcherIP+":3333")
	bcc := startPoolProcess(t, switcher, "bcc", daemontest.SwitcherIP+":3334")
	admin := zktest.NewAdmin(t, ensemble.Addrs()...)
	c := daemontest.ZKConfig("")
	c.ZKSessionTimeoutSeconds = timeout
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: btc.addr, UserSuffix: "btc"}
	c.StratumServerMap["bcc"] = daemontest.PoolConfig{URL: bcc.addr, UserSuffix: "bcc"}
	// The servers are in the test's own namespace, and their proxies listen in the
	// far one.
	c.ZKBroker = nil
	for _, addr := range ensemble.Addrs() {
		var proxy *zktest.Proxy
		var err error
		daemontest.InNamespace(t, far, func() { proxy, err = zktest.NewProxyAt(daemontest.PoolIP+":0", addr) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Close)
		c.ZKBroker = append(c.ZKBroker, proxy.Addr())
	}
	coin := c.ZKSwitcherWatchDir + "alice"
	admin.Put(coin, "btc")
	p := daemontest.StartIn(t, switcher, c, nil)
	id := p.WaitLog(serverIDLine)[1]
	var miners, late []*stratumtest.Miner
	daemontest.InNamespace(t, switcher, func() { miners = outageMiners(t, p.Addr, "alice", 10) })
	allAt(t, miners, "btc")
	holds := func() bool {
		names := admin.Children(c.ZKServerIDAssignDir)
		return len(names) == 1 && names[0] == id
	}
	admin.Await("the server ID is held", holds)

	for i, to := range []string{"bcc", "btc"} {
		logged := p.Logged()
		daemontest.IP(t, "-n", far, "route", "add", "blackhole", daemontest.SwitcherIP)
		admin.Put(coin, to)
		if expire {
			admin.Await("the session is expired", func() bool { return len(admin.Children(c.ZKServerIDAssignDir)) == 0 })
			p.WaitLogFrom(logged, `zookeeper: connection lost`)
		}
		daemontest.InNamespace(t, switcher, func() { late = outageMiners(t, p.Addr, "alice", 2) })
		miners = append(miners, late...)
		allAt(t, miners, []string{"btc", "bcc"}[i])
		daemontest.IP(t, "-n", far, "route", "del", "blackhole", daemontest.SwitcherIP)
		back := time.Now()
		allAt(t, miners, to)
		t.Logf("all %d miners mined where the coin says %v after the network was back", len(miners), time.Since(back).Round(10*time.Millisecond))
		admin.Await("the server ID is held", holds)
	}
	if ids := p.LogLines(serverIDLine); len(ids) != 1 {
		t.Errorf("got server IDs %v, want one, as before", ids)
	}
	checkKept(t, miners)
	for _, m := range miners {
		if st := m.Stats(); st.Rejected > st.RejectedByCode[21] {
			t.Errorf("miner %s: %+v", m.Worker(), st)
		}
	}
}
