package main

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

// sums are the hashrates over a window, added up over coins and over sub-accounts.
func (b *rateBook) sums(w hashrate.Window) (coins, accounts float64) {
	for _, c := range b.coins {
		v, _ := c.averages.Rate(w).Value()
		coins += v
	}
	for _, a := range b.accounts {
		v, _ := a.averages.Rate(w).Value()
		accounts += v
	}
	v, _ := b.absent.Rate(w).Value()
	return coins, accounts + v
}

func ratePools(t *testing.T, coins ...string) map[string]*pool {
	t.Helper()
	c := &Config{StratumServerMap: make(map[string]StratumServerInfo)}
	for i, coin := range coins {
		c.StratumServerMap[coin] = StratumServerInfo{URL: fmt.Sprintf("127.0.0.1:%d", i+1)}
	}
	pools, err := newPools(c, newHealth())
	if err != nil {
		t.Fatal(err)
	}
	return pools
}

// Sub-accounts come and go, more than are kept, and the program is upgraded to a
// configuration without one of the coins. The sum over coins stays equal to the sum
// over sub-accounts, and no work is forgotten too early.
func TestRateBookSumsAgree(t *testing.T) {
	t.Parallel()
	pools := ratePools(t, "btc", "bcc")
	b := newRateBook()
	b.adopt(pools)
	mine := func(account, coin string, d hashrate.Difficulty) {
		b.comes(account).Accept(d)
		if p := pools[coin]; p != nil {
			p.links[0].shares.Accept(d)
		}
	}
	check := func(what string, want float64) {
		t.Helper()
		b.mu.Lock()
		defer b.mu.Unlock()
		for w := range hashrate.Windows {
			coins, accounts := b.sums(w)
			if math.Abs(coins-accounts) > 1e-3*coins || math.Abs(coins-want) > 1e-3*want {
				t.Errorf("%s, over %s: coins have %v and sub-accounts %v, want %v", what, w, coins, accounts, want)
			}
		}
	}
	at := func(now time.Duration) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.advanceTo(now)
	}
	// All begin now, so each window is ten seconds for all of them.
	mine("alice", "btc", 0)
	mine("bob", "bcc", 0)
	for i := range maxAbsent + 100 {
		b.comes(fmt.Sprint("user", i))
		b.leaves(fmt.Sprint("user", i))
	}
	for _, a := range b.accounts {
		a.averages = hashrate.NewAverages(0, a.shares.Totals())
	}
	for _, c := range b.coins {
		c.averages = hashrate.NewAverages(0, hashrate.Totals{Unknown: 1})
	}
	const perSecond = float64(hashrate.UnitBitcoin) / 10
	mine("alice", "btc", 60)
	mine("bob", "bcc", 40)
	mine("user0", "btc", 5)
	b.leaves("user0")
	b.accounts["user0"].left = 0 // it is the first to be forgotten
	at(10 * time.Second)
	check("at first", 105*perSecond)
	if n := len(b.accounts); n != 2+maxAbsent || b.accounts["user0"] != nil {
		t.Errorf("%d sub-accounts are kept", n)
	}

	// The next program's configuration lacks a coin.
	b.since, b.began = 10*time.Second, time.Now()
	text, err := json.Marshal(b.state())
	if err != nil {
		t.Fatal(err)
	}
	var st ratesState
	if err := json.Unmarshal(text, &st); err != nil {
		t.Fatal(err)
	}
	if len(text) > 3<<20 {
		t.Errorf("the state has %d bytes, which is too much", len(text))
	}
	pools = ratePools(t, "btc")
	b = newRateBook()
	b.adopt(pools)
	b.resume(&st, 0)
	check("after an upgrade", 105*perSecond)
	mine("alice", "btc", 95)
	at(20 * time.Second)
	check("after that", 200*perSecond/2)
	if b.pools[poolKey{"bcc", "127.0.0.1:2"}] == nil && b.pools[poolKey{"bcc", "127.0.0.1:1"}] == nil {
		t.Error("the former coin's address is forgotten")
	}
	at(26 * time.Hour)
	if len(b.coins) != 1 || len(b.pools) != 1 || len(b.accounts) != 1 {
		t.Errorf("after a day there are %d coins, %d addresses, %d sub-accounts", len(b.coins), len(b.pools), len(b.accounts))
	}
}

// A state file may say anything about hashrates.
func TestRateBookTakesAnyState(t *testing.T) {
	pools := ratePools(t, "btc")
	for _, text := range []string{
		`null`, `{}`, `{"Clock":-5}`, `{"Clock":9223372036854775807}`,
		`{"Clock":5,"Coins":{"btc":{"Began":9,"Now":3,"Buckets":"AAAA"}},"Charts":{"btc":{"Now":-1}}}`,
		`{"Clock":5,"Pools":{"btc":{"x":{}},"":null},"Accounts":{"alice":{}},"Left":{"alice":9223372036854775807,"bob":-3}}`,
	} {
		var st *ratesState
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			t.Fatal(err)
		}
		b := newRateBook()
		b.adopt(pools)
		b.resume(st, -1)
		b.comes("alice").Accept(4)
		b.advance()
		if b.state() == nil || len(b.coinRates()) == 0 {
			t.Errorf("%s: unexpected rates %+v", text, b.coinRates())
		}
	}
}
