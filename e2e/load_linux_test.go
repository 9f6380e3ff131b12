//go:build linux && e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TestLoadSwitchesCostNoShare is the load of docs/reliability.md: shares without
// end while all miners are moved back and forth. Every share is answered, none goes
// to a pool that does not know its job, and nobody is disconnected.
func TestLoadSwitchesCostNoShare(t *testing.T) {
	miners, rate, switches := 500, 1000.0, 3
	if *daemontest.Long {
		miners, rate, switches = 2000, 4000, 6
	}
	t.Run("any shares", func(t *testing.T) {
		t.Parallel()
		loadSwitches(t, miners, rate, switches, stratumtest.PoolOptions{SkipWork: true}, stratumtest.MinerOptions{CheatHash: true})
	})
	t.Run("mined", func(t *testing.T) {
		t.Parallel()
		loadSwitches(t, miners/5, rate/5, switches, stratumtest.PoolOptions{ShareBits: 6, VersionMask: 0x1fffe000, JobInterval: 700 * time.Millisecond, CleanEvery: 1000},
			stratumtest.MinerOptions{Configure: 0x1fffe000, LateShares: 0.5, LateAfter: 30 * time.Millisecond})
	})
}

func loadSwitches(t *testing.T, miners int, rate float64, switches int, opts stratumtest.PoolOptions, miner stratumtest.MinerOptions) {
	pools := make([]*stratumtest.Pool, 2)
	for i, name := range []string{"btc", "bcc"} {
		o := opts
		o.Name = name
		pools[i] = testkit.StartPool(t, o)
	}
	p := daemontest.Start(t, daemontest.FileConfig(pools...), map[string]string{"alice": "btc"})
	f := testkit.FleetOf(t, p.Addr, "alice", miners, 0, miner)
	f.SetRate(rate)
	began := time.Now()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for i := range switches {
		<-tick.C
		coin := pools[(i+1)%2].Name()
		ordered := time.Now()
		p.SetCoins(map[string]string{"alice": coin})
		last, err := f.WaitPool(testkit.LongWaitContext(t), coin)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("switch %d: the last of %d miners after %v", i+1, miners, last.Sub(ordered).Round(time.Millisecond))
	}
	time.Sleep(time.Until(began.Add(time.Duration(switches) * 2 * time.Second)))
	st := testkit.SettleFleet(t, f)
	var accepted, rejected uint64
	for _, pool := range pools {
		ps := pool.Stats()
		accepted, rejected = accepted+ps.Accepted, rejected+ps.Rejected
		for i, r := range pool.Rejects() {
			if i < 5 {
				t.Errorf("pool %s rejected a share with code %d, %s: %s", pool.Name(), r.Code, r.Reason, r.Line)
			}
		}
		checkFaultsButTwice(t, pool)
	}
	t.Logf("%d shares, %d accepted, %d rejected %v, %d late, %d not submitted for lack of time", st.Submitted, st.Accepted, st.Rejected, st.RejectedByCode, lateShares(f), st.Missed)
	if st.Accepted != accepted || st.Rejected != rejected || st.Rejected != 0 || st.Submitted != st.Accepted {
		t.Errorf("miners counted %d accepted and %d rejected of %d shares, pools %d and %d", st.Accepted, st.Rejected, st.Submitted, accepted, rejected)
	}
	if min := uint64(rate * float64(2*switches) * 0.5); st.Submitted < min {
		t.Errorf("only %d shares were submitted, want at least %d, half of the intended load", st.Submitted, min)
	}
	if st.Switches != uint64(miners*switches) {
		t.Errorf("miners moved %d times, want %d", st.Switches, miners*switches)
	}
}

func lateShares(f *stratumtest.Fleet) (n uint64) {
	for _, m := range f.Miners() {
		n += m.Stats().Late
	}
	return n
}

// Two sub-accounts are switched at once. The small one does not wait for the large
// one, and the log has one line for each when it is done.
func TestLoadFairBetweenAccounts(t *testing.T) {
	large := 1000
	if *daemontest.Long {
		large = 3000
	}
	pools := make([]*stratumtest.Pool, 2)
	for i, name := range []string{"btc", "bcc"} {
		pools[i] = testkit.StartPool(t, stratumtest.PoolOptions{Name: name, SkipWork: true})
	}
	c := daemontest.FileConfig(pools...)
	c.MaxPoolDials = 16 // so few that miners have to queue on any machine
	c.MaxPoolDialsPerSecond = 2000
	p := daemontest.Start(t, c, map[string]string{"large": "btc", "small": "btc"})
	cheat := stratumtest.MinerOptions{CheatHash: true}
	farm := testkit.FleetOf(t, p.Addr, "large", large, 0, cheat)
	user := testkit.FleetOf(t, p.Addr, "small", 10, 0, cheat)
	const tries = 3
	late := 0 // how many switches were unfair; a busy machine may delay one of them
	for i := 0; i < 2+late && late < tries; i++ {
		coin := pools[(i+1)%2].Name()
		logged := p.Logged()
		p.SetCoins(map[string]string{"large": coin, "small": coin})
		for _, f := range []*stratumtest.Fleet{user, farm} {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			if _, err := f.WaitPool(ctx, coin); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		ms := make(map[string]int)
		for account, n := range map[string]int{"large": large, "small": 10} {
			m := p.WaitLogFrom(logged, fmt.Sprintf(`switch account="%s" to="%s" miners=%d failed_links=0 ms=(\d+): done`, account, coin, n))
			ms[account], _ = strconv.Atoi(m[1])
		}
		t.Logf("to %s: %d miners in %d ms, 10 in %d ms", coin, large, ms["large"], ms["small"])
		// Because they take turns, the 10 are moved together with about the first
		// 10 of the large one.
		if ms["small"] > ms["large"]/4+20 {
			if late++; late == tries {
				t.Errorf("to %s: the small sub-account needed %d ms, the large one %d, and about as much %d times", coin, ms["small"], ms["large"], tries)
			}
		}
		// Each switch has a line at its beginning and one at its end, and there are
		// none for miners. The cost of the previous switch is logged when the coin
		// changes again.
		lines := slices.DeleteFunc(p.LinesFrom(logged, `switch account=|session=|link failed`), func(line string) bool { return strings.Contains(line, ": cost") })
		if len(lines) != 4 {
			t.Errorf("to %s: the log has %d lines, want those of the switch only: %q", coin, len(lines), lines[:min(8, len(lines))])
		}
	}
	testkit.SettleFleet(t, farm)
	testkit.SettleFleet(t, user)
}
