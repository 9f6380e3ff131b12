package main

import (
	"slices"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func TestAccountTroubles(t *testing.T) {
	m := &sessionManager{pools: map[string]*pool{"btc": {}, "bcc": {}}}
	now := time.Unix(1_000_000, 0)
	long, lately := now.Add(-time.Hour).Unix(), now.Add(-time.Second).Unix()
	much, little := 5.0, 4.99
	at := func(minutes, hour float64, k hashrate.Knowledge) (r rates) {
		r[hashrate.QuarterHour] = hashrate.Rate{PerSecond: minutes, Knowledge: k}
		r[hashrate.Hour] = hashrate.Rate{PerSecond: hour}
		return r
	}
	well := at(5, 5, hashrate.FullyKnown)
	for name, tt := range map[string]struct {
		row  accountRow
		work rates
		want []string
	}{
		"all is well":               {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 9}, Refused: &little}, well, nil},
		"nobody is there":           {accountRow{Wanted: "", Refused: &much, manyRefused: true}, at(0, 5, hashrate.FullyKnown), nil},
		"deleted":                   {accountRow{Miners: 2, Mining: map[string]int{"btc": 2}}, well, []string{"coin deleted"}},
		"not configured":            {accountRow{Wanted: "ltc", Miners: 2, Mining: map[string]int{"btc": 2}}, well, []string{"coin without a pool"}},
		"a switch is under way":     {accountRow{Wanted: "bcc", Miners: 9, Mining: map[string]int{"btc": 9}, LastSwitch: lately}, well, nil},
		"a switch does not end":     {accountRow{Wanted: "bcc", Miners: 9, Mining: map[string]int{"btc": 1, "bcc": 8}, LastSwitch: long}, well, []string{"1 miner not at bcc"}},
		"miners are just coming":    {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 7}, LastSwitch: long}, well, nil},
		"refused":                   {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 9}, Refused: &much, manyRefused: true}, well, []string{"5 % refused"}},
		"a few are refused":         {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 9}, Refused: &much}, well, nil},
		"no share":                  {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 9}}, at(0, 5, hashrate.FullyKnown), []string{"no accepted share in 15 min"}},
		"never a share":             {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 9}}, at(0, 0, hashrate.FullyKnown), nil},
		"shares of unknown hashes":  {accountRow{Wanted: "btc", Miners: 9, Mining: map[string]int{"btc": 9}}, at(0, 5, hashrate.PartlyKnown), nil},
		"all that can be at a time": {accountRow{Miners: 9, Refused: &much, manyRefused: true}, at(0, 5, hashrate.FullyKnown), []string{"coin deleted", "5 % refused", "no accepted share in 15 min"}},
	} {
		tt.row.work.rates = tt.work
		if got := m.accountTroubles(&tt.row, now); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestTroubledSubAccountsAreFound(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc", "bob": "bcc"})
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc})
	for _, name := range []string{"alice", "bob"} {
		waitPool(t, startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: name + ".1"}), map[string]string{"alice": "btc", "bob": "bcc"}[name])
	}
	coins.set("alice", "nocoin")
	var got struct {
		accountsReply
		Troubled int
	}
	eventually(t, "the trouble", func() bool {
		s.json("/api/accounts?troubled=1", &got)
		return got.Troubled == 1
	})
	if len(got.Accounts) != 1 || got.Matching != 1 || got.Total != 2 || got.Accounts[0].Account != "alice" || !slices.Equal(got.Accounts[0].Troubles, []string{"coin without a pool"}) {
		t.Errorf("unexpected troubled sub-accounts %+v", got)
	}
	if all := s.accountRows(""); len(all.Accounts) != 2 {
		t.Errorf("unexpected sub-accounts %+v", all)
	}
}
