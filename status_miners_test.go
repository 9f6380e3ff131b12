package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func (s *testStatus) minersOf(account, query string) (reply minersReply) {
	s.t.Helper()
	s.json("/api/miners?account="+account+"&"+query, &reply)
	return reply
}

func workersOf(miners []shownMiner) (names []string) {
	for _, m := range miners {
		names = append(names, m.Worker)
	}
	return names
}

func TestMinersOfASubAccount(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(map[string]string{"alice": "btc", "bob": "bcc"}), []*stratumtest.Pool{btc, bcc})
	const hostile = `</script><img src=x onerror="alert(1)">` + "\u2028\x01"
	agents := map[string]string{"alice.rig10": "zminer", "alice.rig2": hostile, "alice.Rig1": "bmminer"}
	miners := make(map[string]*stratumtest.Miner)
	for name, agent := range agents {
		miners[name] = startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: name, UserAgent: agent, Manual: true})
		waitPool(t, miners[name], "btc")
	}
	waitPool(t, startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "bob.rig3"}), "bcc")
	if code, err := miners["alice.rig2"].Submit(waitContext(t), nil); code != 0 || err != nil {
		t.Fatal(code, err)
	}

	var got minersReply
	eventually(t, "the share", func() bool {
		got = s.minersOf("alice", "")
		return len(got.Miners) == 3 && got.Miners[1].Accepted == 1
	})
	if names := workersOf(got.Miners); !slices.Equal(names, []string{"alice.Rig1", "alice.rig2", "alice.rig10"}) {
		t.Errorf("by name: %q", names)
	}
	if got.Account != "alice" || got.Total != 3 || got.Offset != 0 || got.Phases["relaying"] != 3 || got.Silent != 0 || got.SilentAt != 600 || got.MaxRows != maxMinerRows {
		t.Errorf("%+v", got)
	}
	rig := got.Miners[1]
	if rig.Account != "alice" || rig.Coin != "btc" || rig.Pool != btc.Addr() || rig.Address != miners["alice.rig2"].Addr() ||
		rig.Session != miners["alice.rig2"].Extranonce1() || rig.Submitted != 1 || rig.LastShare == 0 || rig.Difficulty == nil {
		t.Errorf("%+v", rig)
	}
	if rig.Agent != `</script><img src=x onerror="alert(1)">??` {
		t.Errorf("user agent %q", rig.Agent)
	}
	for query, want := range map[string][]string{
		"desc=1":                      {"alice.rig10", "alice.rig2", "alice.Rig1"},
		"sort=user_agent":             {"alice.rig2", "alice.Rig1", "alice.rig10"},
		"sort=accepted&desc=1":        {"alice.rig2", "alice.Rig1", "alice.rig10"},
		"sort=last_share":             {"alice.Rig1", "alice.rig10", "alice.rig2"},
		"offset=1&limit=1":            {"alice.rig2"},
		"desc=1&offset=2&limit=500":   {"alice.Rig1"},
		"offset=3":                    nil,
		"offset=1000000000&limit=500": nil,
	} {
		if got := s.minersOf("alice", query); !slices.Equal(workersOf(got.Miners), want) || got.Total != 3 {
			t.Errorf("%s: %q of %d", query, workersOf(got.Miners), got.Total)
		}
	}
	if _, text := s.do("GET", "/api/miners?account=alice&offset=9", ""); !strings.Contains(text, `"miners":[]`) {
		t.Errorf("no miners are no list: %s", text)
	}
	for _, name := range []string{"ALICE", "alice.rig2", "", "%00"} {
		if reply, text := s.do("GET", "/api/miners?account="+name, ""); reply.StatusCode == http.StatusOK {
			t.Errorf("%q: %s", name, text)
		}
	}
	miners["alice.rig2"].Close()
	eventually(t, "a miner to be gone", func() bool { return s.minersOf("alice", "").Total == 2 })
}

// Whatever sessions are like, each order holds all of them once and is the other
// way round with desc, except where all else is equal.
func TestMinerOrders(t *testing.T) {
	difficulty := 8.0
	rows := []*sessionSnapshot{
		{},
		{hasID: true, id: 7, worker: stratum.WorkerName{Account: "a", Miner: ".1"}, phase: phaseRelaying, recent: hashrate.Rate{PerSecond: 5}, difficulty: &difficulty},
		{hasID: true, id: 8, worker: stratum.WorkerName{Account: "a", Miner: ".10"}, phase: phaseReconnecting, since: 5, lastShare: 9, addr: netip.MustParseAddrPort("10.0.0.1:9"), shares: hashrate.MinerTotals{Accepted: 1}},
		{hasID: true, id: 9, worker: stratum.WorkerName{Account: "a", Miner: ".2"}, coin: "btc", pool: "p:1", userAgent: "x", shares: hashrate.MinerTotals{Accepted: 3, Refused: [hashrate.Refusals]uint32{1}}},
	}
	for name, compare := range minerOrders {
		for _, a := range rows {
			for _, b := range rows {
				if compare(a, b) != -compare(b, a) || a == b && compare(a, b) != 0 {
					t.Errorf("%s: %+v and %+v", name, a, b)
				}
			}
		}
		if !slices.ContainsFunc(rows, func(v *sessionSnapshot) bool { return compare(rows[0], v) != 0 }) {
			t.Errorf("%s does not tell the rows apart", name)
		}
	}
}

func TestFirstInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		rows := make([]int, r.IntN(200))
		for i := range rows {
			rows[i] = r.IntN(100)
		}
		sorted := slices.Sorted(slices.Values(rows))
		n := 1 + r.IntN(250)
		if got := firstInOrder(slices.Clone(rows), n, cmp.Compare[int]); !slices.Equal(got, sorted[:min(n, len(rows))]) {
			t.Fatalf("the first %d of %v: %v", n, rows, got)
		}
	}
}

func TestSilentMiners(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, tt := range []struct {
		phase            sessionPhase
		since, lastShare int64
		want             bool
	}{
		{phaseRelaying, 1_000_000 - 601, 0, true},
		{phaseRelaying, 1_000_000 - 500, 0, false},
		{phaseRelaying, 100, 1_000_000 - 500, false},
		{phaseReconnecting, 100, 1_000_000 - 600, true},
		{phaseRouting, 100, 200, false},
		{phaseRelaying, 0, 0, false}, // taken over from a build that did not know
	} {
		v := &sessionSnapshot{phase: tt.phase, since: tt.since, lastShare: tt.lastShare}
		if v.silent(now) != tt.want {
			t.Errorf("%+v", tt)
		}
	}
}

// However many ask, a sub-account's sessions are looked at once in a while, and
// what was shown is not kept for long.
func TestMinerListsAreKeptForAMoment(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc, bcc})
	waitPool(t, startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1"}), "btc")
	first, err := s.miners.get(m.sessionManager, s.stop, "alice")
	if err != nil || first == nil {
		t.Fatal(first, err)
	}
	if again, err := s.miners.get(m.sessionManager, s.stop, "alice"); err == nil && again != first && time.Since(first.made) < surveyKeep {
		t.Error("the sessions were looked at again at once")
	}
	eventually(t, "the list to be dropped", func() bool { // by record
		s.miners.mu.Lock()
		defer s.miners.mu.Unlock()
		return len(s.miners.lists) == 0
	})
	m.stopLoops()
	defer func() {
		for _, l := range m.loops {
			l.Start()
		}
	}()
	for range 2 { // the second does not wait
		if _, err := s.miners.get(m.sessionManager, s.stop, "alice"); !errors.Is(err, errLoopsBusy) {
			t.Errorf("with loops that stand still: %v", err)
		}
	}
	if reply, _ := s.do("GET", "/api/miners?account=alice", ""); reply.StatusCode != http.StatusServiceUnavailable {
		t.Error(reply.Status)
	}
}

// Searches in all sessions are made once a second after the first few; one that
// is repeated has its answer already.
func TestSearchesTakeTurns(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc})
	search := func(ctx context.Context, text string) error {
		_, err := s.searches.get(ctx, m.sessionManager, s.stop, text)
		return err
	}
	for i := range searchBurst {
		if err := search(t.Context(), fmt.Sprint("rig", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.searches.turns.tokens = 0
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := search(over, "another"); !errors.Is(err, errSearchOver) {
		t.Errorf("a search without a turn: %v", err)
	}
	s.searches.made = time.Now()
	if err := search(over, s.searches.text); err != nil {
		t.Errorf("the same search again: %v", err)
	}
	if err := search(t.Context(), "another"); err != nil {
		t.Errorf("a search that waits for its turn: %v", err)
	}
}

// What is shown of a session does not depend on names that miners choose: it is
// bounded and can be read as JSON.
func TestShownMinerIsBounded(t *testing.T) {
	long := strings.Repeat("\xff<\"", 5000)
	v := sessionSnapshot{
		worker: stratum.WorkerName{Account: long, Miner: long}, userAgent: long, account: long,
		others: slices.Repeat([]string{long}, maxShownWorkers),
	}
	shown := v.shown()
	content, err := stratum.JSON.Marshal(&shown)
	if err != nil || len(content) > 16<<10 || !json.Valid(content) {
		t.Errorf("%d bytes, %v", len(content), err)
	}
}
