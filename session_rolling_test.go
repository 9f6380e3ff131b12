package main

import (
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A miner whose mask is narrower at the new pool is counted and shown, until it has
// the wide mask again.
func TestNarrowerVersionMask(t *testing.T) {
	t.Parallel()
	wide := startPool(t, stratumtest.PoolOptions{Name: "wide", ShareBits: 3, VersionMask: 0x1fffe000})
	narrow := startPool(t, stratumtest.PoolOptions{Name: "narrow", ShareBits: 3, VersionMask: 0x00ffe000})
	none := startPool(t, stratumtest.PoolOptions{Name: "none", ShareBits: 3, Modes: stratumtest.Modes{NoVersionRolling: true}})
	coins := newMemoryCoins(map[string]string{"alice": "wide"})
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{wide, narrow, none})
	miner := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1", Configure: 0x1fffe000, Rate: 20})
	for _, step := range []struct {
		pool   string
		lost   string
		losses float64 // how many there were so far at this pool
	}{{"wide", "", 0}, {"narrow", "narrower", 1}, {"none", "narrower", 0}, {"narrow", "", 1}, {"wide", "", 0}, {"none", "narrower", 1}} {
		coins.set("alice", step.pool)
		waitPool(t, miner, step.pool)
		waitAccepted(t, miner, 1)
		want := map[string]float64{"narrower": 0, "stopped": 0}
		if step.lost != "" {
			want[step.lost] = 1
		}
		for how, n := range want {
			s.metric(fmt.Sprintf(`stratum_switcher_sessions_without_version_rolling{coin="%s",how="%s"}`, step.pool, how), is(n))
		}
		if step.losses > 0 {
			s.metric(fmt.Sprintf(`stratum_switcher_version_rolling_losses_total{coin="%s",how="narrower"}`, step.pool), is(step.losses))
		}
		eventually(t, fmt.Sprintf("at %s the miner shows %q", step.pool, step.lost), func() bool {
			var found struct{ Miners []shownMiner }
			s.json("/api/search?q=alice.1", &found)
			return len(found.Miners) == 1 && found.Miners[0].Coin == step.pool && found.Miners[0].LostRolling == step.lost
		})
		eventually(t, "so does the coin "+step.pool, func() bool {
			var status statusReply
			s.json("/api/status", &status)
			i := slices.IndexFunc(status.Coins, func(c coinStatus) bool { return c.Coin == step.pool })
			return i >= 0 && status.Coins[i].Sessions == 1 && status.Coins[i].LostRolling["narrower"] == int(want["narrower"])
		})
	}
	checkMiner(t, miner)
}

// rollingShare returns a share with version bits, or without the parameter.
func rollingShare(id int, job, bits string) string {
	if bits != "" {
		bits = `,"` + bits + `"`
	}
	return fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":["alice.1","%s","00000000","69201234","deadbeef"%s]}`, id, job, bits)
}

// lastJob returns the ID of the latest job of the only session.
func lastJob(m *testSwitcher) (id string) {
	m.eachSession(func(s *Session) {
		ids, _, _ := s.link.jobs.State()
		id = ids[len(ids)-1]
	})
	return id
}

// A miner that rolled versions and continues without after a switch is counted and,
// if that is configured, closed once. When it is back it counts as a new miner.
func TestMinerThatStopsRolling(t *testing.T) {
	t.Parallel()
	for _, reconnect := range []bool{false, true} {
		t.Run(fmt.Sprintf("reconnect %v", reconnect), func(t *testing.T) {
			options := func(name string) stratumtest.PoolOptions {
				return stratumtest.PoolOptions{Name: name, ShareBits: 3, VersionMask: 0x1fffe000}
			}
			btc, bcc := startPool(t, options("btc")), startPool(t, options("bcc"))
			coins := newMemoryCoins(map[string]string{"alice": "btc"})
			m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc}, func(c *Config) {
				c.ReconnectOnLostVersionRolling, c.DrainSeconds = reconnect, 0
			})
			miner := stratumtest.DialRaw(t, m.addr)
			miner.SendLine(`{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`)
			miner.SendLine(rawSubscribe)
			miner.SendLine(`{"id":3,"method":"mining.authorize","params":["alice.1","x"]}`)
			submitted := uint64(0)
			share := func(n int, bits string) {
				t.Helper()
				job := lastJob(m)
				for range n {
					submitted++
					miner.SendLine(rollingShare(100+int(submitted), job, bits))
				}
				eventually(t, "the shares are answered", func() bool {
					counted := m.rates.comes("alice").Totals()
					return counted.RefusedShares() == submitted
				})
			}
			state := func() (r stratum.Rolling) {
				m.eachSession(func(s *Session) {
					r = s.rolling
				})
				return r
			}
			eventually(t, "it mines", func() bool { return m.sessionsIn(phaseRelaying) == 1 })
			share(101, "00002000")
			if state().NeedsShare() {
				t.Error("the miner's shares are still examined")
			}
			share(5, "")
			if loss := state().Loss(); loss != stratum.RollingKept {
				t.Errorf("nothing has changed, but the loss is %v", loss)
			}
			coins.set("alice", "bcc")
			eventually(t, "it has moved", func() bool { return m.switchEvent(t, "btc", "bcc", "moved in").Count == 1 })
			share(2, "")
			if loss := state().Loss(); loss != stratum.RollingKept {
				t.Errorf("after two shares, the loss is %v", loss)
			}
			share(1, "")
			s.metric(`stratum_switcher_version_rolling_losses_total{coin="bcc",how="stopped"}`, is(1))
			if !reconnect {
				s.metric(`stratum_switcher_sessions_without_version_rolling{coin="bcc",how="stopped"}`, is(1))
				share(1, "00004000")
				s.metric(`stratum_switcher_sessions_without_version_rolling{coin="bcc",how="stopped"}`, is(0))
				return
			}
			eventually(t, "it is closed", func() bool { return m.sessionCount() == 0 })
			s.metric(`stratum_switcher_version_rolling_closed_total{coin="bcc"}`, is(1))
			again := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1", Configure: 0x1fffe000, Rate: 20})
			waitPool(t, again, "bcc")
			waitAccepted(t, again, 3)
		})
	}
}

// What is known about version rolling takes no memory: the pointers behind a
// session's small fields would be at the same place without its byte.
func TestRollingTakesNoMemory(t *testing.T) {
	var s Session
	end, align := unsafe.Offsetof(s.renewals)+unsafe.Sizeof(s.renewals), unsafe.Alignof(s.handshake)
	without := (end - unsafe.Sizeof(s.rolling) + align - 1) / align * align
	if at := unsafe.Offsetof(s.handshake); at != without {
		t.Errorf("the pointers begin at %d, without it at %d", at, without)
	}
}
