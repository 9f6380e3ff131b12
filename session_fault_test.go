package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// setTiming changes the waiting times while no link is being prepared.
func (m *testSwitcher) setTiming(change func(*timing)) {
	barrier := func() {
		for _, l := range m.loops {
			l.Call(func() {})
		}
	}
	barrier()
	change(&m.timing)
	barrier()
}

// impatient makes links that have failed be tried again at once. A pool that is silent is
// waited for as long as usual, since on a busy machine every pool is silent for a while.
func impatient(t *timing) {
	t.firstJobGrace = 50 * time.Millisecond
	t.switchRetryFirst, t.switchRetryMost = 10*time.Millisecond, 40*time.Millisecond
	t.reconnectFirst, t.reconnectMost = 10*time.Millisecond, 40*time.Millisecond
}

// linksInPreparation counts sessions that prepare a link or are about to.
func (m *testSwitcher) linksInPreparation() int {
	n := 0
	m.eachSession(func(s *Session) {
		if s.linking != nil {
			n++
		}
	})
	return n
}

// waitFailedLinks waits until n more links have failed.
func (m *testSwitcher) waitFailedLinks(t *testing.T, n int64) {
	t.Helper()
	before := m.linksFailed.Load()
	eventually(t, fmt.Sprintf("%d failed links", n), func() bool { return m.linksFailed.Load() >= before+n })
}

// wantSettled waits until the only session relays and prepares no link, and then
// wants it to stay with this pool.
func (m *testSwitcher) wantSettled(t *testing.T, miner *stratumtest.Miner, pool string) {
	t.Helper()
	eventually(t, "no link in preparation", func() bool { return m.linksInPreparation() == 0 && m.sessionsIn(phaseRelaying) == 1 })
	waitAccepted(t, miner, 3)
	if now := miner.Stats().Pool; now != pool {
		t.Errorf("the miner is at pool %s, want %s", now, pool)
	}
}

// poolFaults are the ways in which a pool can be unusable.
var poolFaults = []struct {
	name  string
	spoil func(*stratumtest.Pool)
}{
	{"refuses connections", func(p *stratumtest.Pool) { p.Close() }},
	{"hangs after accept", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{Hang: true}) }},
	{"refuses the worker", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{RefuseWorker: true}) }},
	{"answers another extranonce", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{OtherExtranonce: true}) }},
	{"answers another extranonce2 size", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{Extranonce2Size: 4}) }},
	{"closes after accept", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{CloseAt: stratumtest.StageAccept}) }},
	{"closes after subscribe", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{CloseAt: stratumtest.StageSubscribe}) }},
	{"closes before authorize", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{CloseAt: stratumtest.StageAuthorizeRequest}) }},
	{"closes after authorize", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{CloseAt: stratumtest.StageAuthorize}) }},
	{"sends no job", func(p *stratumtest.Pool) { p.SetModes(stratumtest.Modes{NoJob: true}) }},
}

func heal(t *testing.T, p *stratumtest.Pool) {
	t.Helper()
	p.SetModes(stratumtest.Modes{})
	if err := p.Restart(); err != nil { // nil if it is running
		t.Fatal(err)
	}
}

func TestSessionStaysWhenNewPoolFails(t *testing.T) {
	t.Parallel()
	for _, fault := range poolFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			btc, bcc := twoPools(t)
			coins := newMemoryCoins(map[string]string{"alice": "btc"})
			sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
			m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1", Configure: 0x1fffe000})
			waitPool(t, m, "btc")
			sw.setTiming(func(tm *timing) {
				impatient(tm)
				tm.poolHandshake = time.Second
				sw.drainTime = 400 * time.Millisecond
			})
			extranonce := m.Extranonce1()

			// The retries move the miner when the pool works.
			fault.spoil(bcc)
			coins.set("alice", "bcc")
			sw.waitFailedLinks(t, 2)
			waitAccepted(t, m, 3)
			if st := m.Stats(); st.Pool != "btc" || st.Switches != 0 {
				t.Errorf("the miner is at %s after %d switches", st.Pool, st.Switches)
			}
			heal(t, bcc)
			waitPool(t, m, "bcc")
			waitAccepted(t, m, 3)

			// The miner does not move if the coin is set back before.
			coins.set("alice", "btc")
			waitPool(t, m, "btc")
			sw.wantSettled(t, m, "btc")
			eventually(t, "no link drains", func() bool { return sw.draining.Load() == 0 })
			fault.spoil(bcc)
			coins.set("alice", "bcc")
			sw.waitFailedLinks(t, 1)
			coins.set("alice", "btc")
			sw.wantSettled(t, m, "btc")
			waitConnections(t, bcc, 0)
			heal(t, bcc)
			handshakes := bcc.Stats().Handshakes
			sw.wantSettled(t, m, "btc")
			if n := bcc.Stats().Handshakes; n != handshakes {
				t.Errorf("there were %d handshakes with bcc after the coin was set back", n-handshakes)
			}

			if m.Extranonce1() != extranonce {
				t.Errorf("the extranonce changed from %s to %s", extranonce, m.Extranonce1())
			}
			if st := m.Stats(); st.Switches != 2 {
				t.Errorf("the miner was switched %d times, want 2", st.Switches)
			}
			checkMiner(t, m)
			checkPool(t, btc)
			checkPool(t, bcc)
		})
	}
}

// threePools starts the miner at btc, with bcc and bsv as other coins.
func threePools(t *testing.T) (sw *testSwitcher, m *stratumtest.Miner, btc, bcc, bsv *stratumtest.Pool) {
	t.Helper()
	btc, bcc = twoPools(t)
	bsv = startPool(t, stratumtest.PoolOptions{Name: "bsv", ShareBits: 4})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw = startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc, bsv}, nil)
	m = steadyMiner(t, sw, "alice.1")
	waitPool(t, m, "btc")
	sw.setTiming(func(tm *timing) {
		impatient(tm)
		tm.poolHandshake = time.Minute // a link that hangs is not given up
	})
	t.Cleanup(func() { checkAfterLoss(t, m, btc, bcc, bsv) })
	return sw, m, btc, bcc, bsv
}

func TestSessionLastCoinWins(t *testing.T) {
	t.Parallel()
	t.Run("another coin during a switch", func(t *testing.T) {
		sw, m, _, bcc, _ := threePools(t)
		bcc.SetModes(stratumtest.Modes{Hang: true})
		sw.coins.set("alice", "bcc")
		waitConnections(t, bcc, 1)
		sw.coins.set("alice", "bsv")
		waitPool(t, m, "bsv")
		waitConnections(t, bcc, 0)
		heal(t, bcc)
		sw.wantSettled(t, m, "bsv")
		if st := m.Stats(); st.Switches != 1 {
			t.Errorf("the miner was switched %d times, want 1", st.Switches)
		}
	})
	t.Run("back during a switch", func(t *testing.T) {
		sw, m, _, bcc, _ := threePools(t)
		bcc.SetModes(stratumtest.Modes{Hang: true})
		sw.coins.set("alice", "bcc")
		waitConnections(t, bcc, 1)
		sw.coins.set("alice", "btc")
		waitConnections(t, bcc, 0)
		heal(t, bcc)
		sw.wantSettled(t, m, "btc")
		if st := m.Stats(); st.Switches != 0 {
			t.Errorf("the miner was switched %d times, want none", st.Switches)
		}
	})
	t.Run("many changes", func(t *testing.T) {
		sw, m, _, _, _ := threePools(t)
		pools := []string{"bcc", "bsv", "btc"}
		for i := range 30 {
			sw.coins.set("alice", pools[i%3])
			if i%7 == 0 {
				waitAccepted(t, m, 1)
			}
		}
		sw.coins.set("alice", "bsv")
		waitPool(t, m, "bsv")
		sw.wantSettled(t, m, "bsv")
	})
	// The value for which the switch began is no longer there.
	for what, coin := range map[string]string{"no such coin": "dogecoin", "entry deleted": ""} {
		t.Run(what+" during a switch", func(t *testing.T) {
			sw, m, _, bcc, _ := threePools(t)
			bcc.SetModes(stratumtest.Modes{Hang: true})
			sw.coins.set("alice", "bcc")
			waitConnections(t, bcc, 1)
			sw.coins.set("alice", coin)
			waitConnections(t, bcc, 0)
			heal(t, bcc)
			sw.wantSettled(t, m, "btc")
			sw.coins.set("alice", "bsv")
			waitPool(t, m, "bsv")
		})
	}
}

// This pool only knows its users by names with the coin's suffix.
func TestSessionWorkerSuffix(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	bcc := startPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4, RecordLines: true,
		AcceptWorker: func(name string) bool { return name == "alice_bch.rig.7" }})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, func(c *Config) {
		c.StratumServerMap["bcc"] = StratumServerInfo{URL: c.StratumServerMap["bcc"].URL, UserSuffix: "bch"}
	})
	for _, first := range []string{"btc", "bcc"} {
		coins.set("alice", first)
		m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.rig.7", Password: `p"w`, Manual: true})
		waitPool(t, m, first)
		coins.set("alice", "bcc")
		waitPool(t, m, "bcc")
		coins.set("alice", "btc")
		waitPool(t, m, "btc")
		checkMiner(t, m)
		m.Close()
		sw.wantNothingLeft(t)
	}
	if want := []string{"alice_bch.rig.7", "alice_bch.rig.7"}; !slices.Equal(bcc.Authorized(), want) {
		t.Errorf("bcc authorized %q, want %q", bcc.Authorized(), want)
	}
	if want := []string{"alice.rig.7", "alice.rig.7"}; !slices.Equal(bcc.RefusedNames(), want) {
		t.Errorf("bcc refused %q, want %q", bcc.RefusedNames(), want)
	}
	for _, name := range btc.Authorized() {
		if name != "alice.rig.7" {
			t.Errorf("btc authorized %q", name)
		}
	}
	for _, want := range []string{
		`{"id":2147400001,"method":"mining.authorize","params":["alice.rig.7","p\"w"]}`,
		`{"id":2147400002,"method":"mining.authorize","params":["alice_bch.rig.7","p\"w"]}`,
	} {
		if !slices.Contains(bcc.Lines(), want) {
			t.Errorf("bcc did not get %s but %q", want, bcc.Lines())
		}
	}
	checkPool(t, btc)
}

// Pools answer in unusual ways, and the miner notices nothing.
func TestSessionPoolQuirks(t *testing.T) {
	t.Parallel()
	for _, quirk := range []struct {
		name  string
		modes stratumtest.Modes
	}{
		{"authorize answered first", stratumtest.Modes{AuthorizeFirst: true}},
		{"early notify", stratumtest.Modes{EarlyNotify: true, SendVersionMask: true}},
		{"both", stratumtest.Modes{EarlyNotify: true, AuthorizeFirst: true}},
		{"configure ignored", stratumtest.Modes{IgnoreConfigure: true}},
		{"no version rolling", stratumtest.Modes{NoVersionRolling: true}},
		{"version mask sent", stratumtest.Modes{SendVersionMask: true}},
		{"first job not clean", stratumtest.Modes{FirstJobNotClean: true}},
		{"one byte at a time", stratumtest.Modes{Trickle: 50 * time.Microsecond}},
		{"slow", stratumtest.Modes{HandshakeDelay: 40 * time.Millisecond}},
	} {
		t.Run(quirk.name, func(t *testing.T) {
			t.Parallel()
			btc, bcc := twoPools(t)
			btc.NewJob(false)
			bcc.NewJob(false)
			btc.SetModes(quirk.modes)
			bcc.SetModes(quirk.modes)
			coins := newMemoryCoins(map[string]string{"alice": "btc"})
			sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
			sw.setTiming(func(tm *timing) {
				tm.poolHandshake = time.Minute // byte by byte it takes long on a busy machine
				tm.firstJobGrace = 100 * time.Millisecond
				sw.drainTime = 300 * time.Millisecond
			})
			var miners []*stratumtest.Miner
			rolls := !quirk.modes.NoVersionRolling && !quirk.modes.IgnoreConfigure
			for _, opts := range []stratumtest.MinerOptions{
				// The simulated pool refuses shares with version bits, even with
				// mask 0, if it does not know version rolling.
				{Worker: "alice.rolls", Configure: 0x1fffe000, SuggestDifficulty: 1, Manual: !rolls},
				{Worker: "alice.plain", Pipelined: true},
			} {
				opts.Addr = sw.addr
				miners = append(miners, startMiner(t, opts))
			}
			for _, pool := range []string{"btc", "bcc", "btc"} {
				waitUntil(t, "no link drains", func() bool { return sw.draining.Load() == 0 })
				coins.set("alice", pool)
				for _, m := range miners {
					mustDo(t, m.WaitPool(testkit.LongWaitContext(t), pool))
					if m != miners[0] || rolls {
						testkit.WantAccepted(t, m, 2)
					}
				}
			}
			for _, m := range miners {
				checkMiner(t, m)
				if st := m.Stats(); st.Switches != 2 {
					t.Errorf("the miner was switched %d times, want 2", st.Switches)
				}
			}
			want := []uint32{0x1fffe000, 0x00ffe000, 0x1fffe000}
			if !rolls {
				want = []uint32{0}
			}
			if masks := miners[0].Stats().VersionMasks; !slices.Equal(masks, want) {
				t.Errorf("the miner got masks %08x, want %08x", masks, want)
			}
			if masks := miners[1].Stats().VersionMasks; len(masks) > 0 {
				t.Errorf("the miner without version rolling got masks %08x", masks)
			}
			checkPool(t, btc)
			checkPool(t, bcc)
		})
	}
}

// steadyMiner finds shares whatever the answers are.
func steadyMiner(t *testing.T, sw *testSwitcher, worker string) *stratumtest.Miner {
	t.Helper()
	return startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: worker, Rate: 100})
}

// checkAfterLoss is checkMiner for a miner whose pool was lost: shares may be lost
// with the pool, or be too late for the next pool.
func checkAfterLoss(t *testing.T, m *stratumtest.Miner, pools ...*stratumtest.Pool) {
	t.Helper()
	st := m.Stats()
	if st.Disconnected || len(st.Violations) > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Reconnects > 0 {
		t.Errorf("miner %s: disconnected %v %s, violations %q, %d answers doubled, %d to nothing, %d reconnects",
			m.Worker(), st.Disconnected, st.Err, st.Violations, st.Doubled, st.Unknown, st.Reconnects)
	}
	// With code 20 the switcher answers requests that were lost with a pool.
	for code, n := range st.RejectedByCode {
		if code != 21 && code != 20 {
			t.Errorf("miner %s: %d shares rejected with code %d, the last: %s", m.Worker(), n, code, st.LastReject)
		}
	}
	accepted, rejected := uint64(0), uint64(0)
	for _, p := range pools {
		ps := p.Stats()
		accepted += ps.Accepted
		rejected += ps.Rejected
		if n := ps.RejectedByCode[20]; n > 0 {
			t.Errorf("pool %s: %d shares were wrong, %v", p.Name(), n, p.Rejects())
		}
		if ps.Faults > 0 || ps.DuplicateExtranonces > 0 {
			t.Errorf("pool %s: faults %q, duplicate extranonces %d", p.Name(), p.Faults(), ps.DuplicateExtranonces)
		}
	}
	if st.Accepted > accepted || st.RejectedByCode[21] > rejected {
		t.Errorf("miner %s got %d accepted and %d late shares; the pools counted %d and %d",
			m.Worker(), st.Accepted, st.RejectedByCode[21], accepted, rejected)
	}
}

func TestSessionPoolLost(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*testSwitcher, *stratumtest.Miner, *stratumtest.Pool, *stratumtest.Pool) {
		btc, bcc := twoPools(t)
		sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc, bcc}, nil)
		m := steadyMiner(t, sw, "alice.1")
		waitPool(t, m, "btc")
		waitAccepted(t, m, 3)
		sw.setTiming(impatient)
		t.Cleanup(func() { checkAfterLoss(t, m, btc, bcc) })
		return sw, m, btc, bcc
	}
	t.Run("connections closed", func(t *testing.T) {
		sw, m, btc, _ := start(t)
		for n := range 3 {
			btc.CloseConnections()
			eventually(t, "the loss is counted", func() bool { return sw.linksLost.Load() == int64(n+1) })
			waitConnections(t, btc, 1)
			waitAccepted(t, m, 3)
		}
	})
	t.Run("pool restarted", func(t *testing.T) {
		sw, m, btc, _ := start(t)
		sw.setTiming(func(tm *timing) { tm.reconnectFirst, tm.reconnectMost = 100*time.Millisecond, 100*time.Millisecond })
		for range 2 {
			btc.Close()
			eventually(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
			if err := btc.Restart(); err != nil {
				t.Fatal(err)
			}
			waitAccepted(t, m, 3)
		}
	})
	t.Run("lost during a switch", func(t *testing.T) {
		sw, m, btc, bcc := start(t)
		sw.setTiming(func(tm *timing) { tm.poolHandshake = time.Second })
		bcc.SetModes(stratumtest.Modes{Hang: true})
		sw.coins.set("alice", "bcc")
		waitConnections(t, bcc, 1)
		lost := sw.linksLost.Load()
		btc.CloseConnections()
		eventually(t, "the loss is counted", func() bool { return sw.linksLost.Load() == lost+1 })
		// bcc cannot be reached, so the miner returns to btc.
		waitConnections(t, btc, 1)
		waitAccepted(t, m, 3)
		heal(t, bcc)
		waitPool(t, m, "bcc")
		waitAccepted(t, m, 3)
	})
	t.Run("lost while a switch waits for its next try", func(t *testing.T) {
		sw, m, btc, bcc := start(t)
		sw.setTiming(func(tm *timing) { tm.switchRetryFirst, tm.switchRetryMost = time.Hour, time.Hour })
		bcc.Close()
		sw.coins.set("alice", "bcc")
		eventually(t, "the one try has failed", func() bool { return sw.linksFailed.Load() == 1 })
		if err := bcc.Restart(); err != nil {
			t.Fatal(err)
		}
		btc.Close()
		waitPool(t, m, "bcc")
		waitAccepted(t, m, 3)
	})
	t.Run("wanted pool down and old one back", func(t *testing.T) {
		sw, m, btc, bcc := start(t)
		sw.setTiming(func(tm *timing) { tm.reconnectFirst, tm.reconnectMost = 100*time.Millisecond, 100*time.Millisecond })
		bcc.Close()
		sw.coins.set("alice", "bcc")
		sw.waitFailedLinks(t, 1)
		btc.Close()
		eventually(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
		if err := btc.Restart(); err != nil {
			t.Fatal(err)
		}
		waitConnections(t, btc, 1)
		waitAccepted(t, m, 3)
		if pool := m.Stats().Pool; pool != "btc" {
			t.Errorf("the miner is at %s", pool)
		}
		heal(t, bcc)
		waitPool(t, m, "bcc")
		waitAccepted(t, m, 3)
	})
	t.Run("coin set while the pool is away", func(t *testing.T) {
		sw, m, btc, _ := start(t)
		sw.setTiming(func(tm *timing) { tm.reconnectFirst, tm.reconnectMost = time.Hour, time.Hour })
		btc.Close()
		eventually(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
		sw.coins.set("alice", "bcc")
		waitPool(t, m, "bcc")
		waitAccepted(t, m, 3)
	})
	t.Run("pool asks to reconnect", func(t *testing.T) {
		sw, m, btc, _ := start(t)
		sw.setTiming(func(*timing) { sw.drainTime = 20 * time.Millisecond })
		for n := range 3 {
			btc.SendReconnect("evil.example.com", 3333, 0)
			eventually(t, "the link is renewed", func() bool { return btc.Stats().ConnectionsTotal == n+2 })
			waitConnections(t, btc, 1)
			waitAccepted(t, m, 3)
		}
	})
	t.Run("pool sets another extranonce", func(t *testing.T) {
		sw, m, btc, _ := start(t)
		btc.SendSetExtranonce("deadbeef", 4)
		eventually(t, "the link is renewed", func() bool {
			return sw.linksLost.Load() == 1 && btc.Stats().ConnectionsTotal == 2
		})
		waitAccepted(t, m, 3)
	})
	t.Run("pool sends a line without end", func(t *testing.T) {
		sw, m, btc, _ := start(t)
		btc.Broadcast(strings.Repeat("x", 2*stratum.MaxPoolLine))
		eventually(t, "the link is renewed", func() bool {
			return sw.linksLost.Load() == 1 && btc.Stats().ConnectionsTotal == 2
		})
		waitAccepted(t, m, 3)
	})
}

// The pool does not recover. The miner is closed when it has had no link for as
// long as noPool says, so that its own failover can act, and nothing of it is left.
// The pool is only dialled a few times.
func TestSessionPoolGoneForGood(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	const noPool = 300 * time.Millisecond
	for _, what := range []string{"refuses", "hangs"} {
		m := steadyMiner(t, sw, "alice.1")
		waitPool(t, m, "btc")
		waitAccepted(t, m, 1) // the link is stable, so its end is not held against the miner
		sw.setTiming(func(tm *timing) {
			tm.reconnectFirst, tm.reconnectMost = 2*time.Millisecond, 5*time.Millisecond
			tm.poolHandshake = 20 * time.Millisecond
			tm.noPool = noPool
		})
		dials := sw.pools["btc"].links[0].dials.Load()
		lost := time.Now()
		if what == "refuses" {
			btc.Close()
		} else {
			btc.SetModes(stratumtest.Modes{Hang: true})
			btc.CloseConnections()
		}
		select {
		case <-m.Done():
		case <-time.After(testWait):
			t.Fatal("the miner was not closed")
		}
		if after := time.Since(lost); after < noPool {
			t.Errorf("pool %s: the miner was closed after %v, which is too early", what, after)
		}
		if n := sw.pools["btc"].links[0].dials.Load() - dials; n < breakerFailures || n > maxReconnects {
			t.Errorf("pool %s was dialled %d times, want %d to %d", what, n, breakerFailures, maxReconnects)
		}
		sw.wantNothingLeft(t)
		sw.setTiming(func(tm *timing) { *tm = defaultTiming })
		heal(t, btc)
	}
}

// The pool only works for moments. Tries that are made because it seems to be back
// do not count, so the miner is kept for as long as with a pool that is down.
func TestSessionPoolComesAndGoes(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc, bcc}, nil)
	m := steadyMiner(t, sw, "alice.1")
	waitPool(t, m, "btc")
	sw.setTiming(func(tm *timing) { tm.reconnectFirst, tm.reconnectMost = 400*time.Millisecond, 400*time.Millisecond })
	btc.Close()
	eventually(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
	failed := sw.linksFailed.Load()
	eventually(t, "tries out of turn", func() bool {
		sw.poolBack(sw.pools["btc"].addresses[0].ips[0])
		return sw.linksFailed.Load() > failed+2*maxReconnects
	})
	if sw.sessionsIn(phaseReconnecting) != 1 {
		t.Fatal("the miner was closed")
	}
	heal(t, btc)
	accepted := m.Stats().Accepted
	waitAccepted(t, m, accepted+1)
	if n := btc.Stats().Connections; n != 1 {
		t.Errorf("there were %d links", n)
	}
}
