package main

import (
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Shares are shown at the address that they went to. Those of a backup are not in
// the row of the address that is out.
func TestStatusSharesOfABackup(t *testing.T) {
	t.Parallel()
	first := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 3})
	backup := startPool(t, stratumtest.PoolOptions{Name: "btc-backup", ShareBits: 3})
	m, s := startStatusOf(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{first}, func(c *Config) {
		btc := c.StratumServerMap["btc"]
		btc.BackupURLs = []string{backup.Addr()}
		c.StratumServerMap["btc"] = btc
	})
	miner := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1", Manual: true})
	waitPool(t, miner, "btc")
	submit := func(n int, refused bool) {
		t.Helper()
		for range n {
			if code, err := miner.Submit(waitContext(t), nil); (code != 0) != refused || err != nil {
				t.Fatal(code, err)
			}
		}
	}
	submit(3, false)
	first.Close()
	waitPool(t, miner, "btc-backup")
	submit(5, false)
	backup.SetModes(stratumtest.Modes{RejectShares: true})
	submit(2, true)

	var status statusReply
	s.json("/api/status", &status)
	if len(status.Coins) != 1 || len(status.Coins[0].Pools) != 2 {
		t.Fatalf("unexpected coins %+v", status.Coins)
	}
	c := status.Coins[0]
	for i, want := range [][3]uint64{{3, 3, 0}, {7, 5, 2}} {
		p := c.Pools[i]
		if got := [3]uint64{p.Submitted, p.Accepted, p.Refused}; got != want {
			t.Errorf("%s has %v submitted, accepted and refused shares, want %v", p.Address, got, want)
		}
		sum := uint64(0)
		for _, n := range p.Reasons {
			sum += n
		}
		if sum != p.Refused {
			t.Errorf("%s has %d refused shares, by reason %v", p.Address, p.Refused, p.Reasons)
		}
		for name, n := range map[string]uint64{"submitted": p.Submitted, "accepted": p.Accepted, "refused": p.Refused} {
			s.metric(fmt.Sprintf(`stratum_switcher_pool_shares_%s_total{coin="btc",pool="%s"}`, name, p.Address), is(float64(n)))
		}
	}
	if c.Submitted != 10 || c.Accepted != 8 || c.Refused != 2 {
		t.Errorf("the coin has wrong counts %+v", c)
	}
}

// A change to a coin without a pool, or to none, is not a switch, because nobody
// has moved.
func TestStatusNoSwitchWithoutAPool(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc})
	miner := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1", Manual: true})
	waitPool(t, miner, "btc")
	row := func(wanted string) (found accountRow) {
		t.Helper()
		eventually(t, "alice is to mine "+wanted, func() bool {
			rows := s.accountRows("filter=alice").Accounts
			if len(rows) == 1 {
				found = rows[0]
			}
			return len(rows) == 1 && found.Wanted == wanted
		})
		return found
	}
	for _, coin := range []string{"xyz", "", "btc"} {
		coins.set("alice", coin)
		if a := row(coin); a.LastSwitch != 0 || a.Moving {
			t.Errorf("coin %q: unexpected row %+v", coin, a)
		}
	}
	coins.set("alice", "bcc")
	waitPool(t, miner, "bcc")
	switched := row("bcc").LastSwitch
	if switched == 0 {
		t.Error("a switch is not shown")
	}
	coins.set("alice", "xyz")
	if a := row("xyz"); a.LastSwitch != switched {
		t.Errorf("the last switch was at %d, but is shown as %d", switched, a.LastSwitch)
	}
}
