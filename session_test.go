package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func TestSessionMinesAndSwitches(t *testing.T) {
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	for _, opts := range []stratumtest.MinerOptions{
		{Worker: "alice.plain"},
		{Worker: "alice.pipelined", Pipelined: true, Configure: 0x1fffe000},
		{Worker: "alice.strings", IDs: stratumtest.IDStrings, ExtranonceSubscribe: true, SuggestDifficulty: 1},
		{Worker: "alice.same", IDs: stratumtest.IDSame, Configure: 0x1fffe000},
	} {
		t.Run(opts.Worker, func(t *testing.T) {
			coins.set("alice", "btc")
			opts.Addr = sw.addr
			m := startMiner(t, opts)
			waitPool(t, m, "btc")
			extranonce := m.Extranonce1()
			for _, pool := range []string{"bcc", "btc", "bcc"} {
				waitAccepted(t, m, 3)
				coins.set("alice", pool)
				waitPool(t, m, pool)
				waitAccepted(t, m, 3)
			}
			if m.Extranonce1() != extranonce {
				t.Errorf("the extranonce changed from %s to %s", extranonce, m.Extranonce1())
			}
			checkMiner(t, m)
		})
	}
	checkPool(t, btc)
	checkPool(t, bcc)
}
