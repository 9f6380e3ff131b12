package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A sub-account's entry is deleted, or set to a coin without a pool, while its
// miner's first link is being prepared. The miner gets that link, because it is as
// good as any other.
func TestSessionCoinGoneWhileRouting(t *testing.T) {
	for _, coin := range []string{"", "doge"} {
		btc := miningPool(t, "btc", "")
		btc.SetModes(stratumtest.Modes{Hang: true})
		coins := newMemoryCoins(map[string]string{"alice": "btc"})
		sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, nil)
		m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1"})
		eventually(t, "a link is being prepared", func() bool { return btc.Stats().Connections == 1 })
		coins.set("alice", coin)
		btc.SetModes(stratumtest.Modes{})
		for _, l := range sw.loops {
			l.Call(func() {}) // the change has arrived
		}
		if n := sw.sessionCount(); n != 1 {
			t.Errorf("coin %q: there are %d sessions", coin, n)
		}
		m.Close()
	}
}

// An entry that is deleted and created again with the coin that the miners already
// mine moves nobody, so no switch begins.
func TestSessionCoinBackMovesNobody(t *testing.T) {
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1"})
	waitPool(t, m, "btc")
	look := func() (moving bool, switched bool) {
		rows := sw.appendAccountRows(nil, sw.accounts.all())
		if len(rows) != 1 {
			t.Fatalf("there are %d sub-accounts", len(rows))
		}
		return rows[0].Moving, rows[0].LastSwitch != 0
	}
	eventually(t, "the link is counted", func() bool {
		rows := sw.appendAccountRows(nil, sw.accounts.all())
		return len(rows) == 1 && rows[0].Mining["btc"] == 1
	})
	for _, coin := range []string{"", "btc", "doge", "btc"} {
		coins.set("alice", coin)
		if moving, switched := look(); moving || switched {
			t.Errorf("coin %q: miners are moving: %t, have switched: %t", coin, moving, switched)
		}
	}
	waitAccepted(t, m, 1)
	coins.set("alice", "bcc")
	waitPool(t, m, "bcc")
	eventually(t, "the switch is done", func() bool { moving, switched := look(); return !moving && switched })
	if n := btc.Stats().ConnectionsTotal; n != 1 {
		t.Errorf("there were %d links to the pool where the miner already was", n)
	}
}
