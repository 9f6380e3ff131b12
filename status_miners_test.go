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
		t.Errorf("sorted by name, the miners are %q", names)
	}
	if got.Account != "alice" || got.Total != 3 || got.Offset != 0 || got.Phases["relaying"] != 3 || got.Silent != 0 || got.SilentAt != 600 || got.MaxRows != maxMinerRows {
		t.Errorf("unexpected answer %+v", got)
	}
	rig := got.Miners[1]
	if rig.Account != "alice" || rig.Coin != "btc" || rig.Pool != btc.Addr() || rig.Address != miners["alice.rig2"].Addr() ||
		rig.Session != miners["alice.rig2"].Extranonce1() || rig.Submitted != 1 || rig.LastShare == 0 || rig.Difficulty == nil {
		t.Errorf("unexpected miner %+v", rig)
	}
	if rig.Agent != `</script><img src=x onerror="alert(1)">??` {
		t.Errorf("the user agent is %q", rig.Agent)
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
			t.Errorf("%s: got the miners %q of %d", query, workersOf(got.Miners), got.Total)
		}
	}
	if _, text := s.do("GET", "/api/miners?account=alice&offset=9", ""); !strings.Contains(text, `"miners":[]`) {
		t.Errorf("an empty list is not written as a list: %s", text)
	}
	for _, name := range []string{"ALICE", "alice.rig2", "", "%00"} {
		if reply, text := s.do("GET", "/api/miners?account="+name, ""); reply.StatusCode == http.StatusOK {
			t.Errorf("%q: got %s", name, text)
		}
	}
	miners["alice.rig2"].Close()
	eventually(t, "a miner to be gone", func() bool { return s.minersOf("alice", "").Total == 2 })
}

// Whatever the sessions are like, each order contains all of them once, and desc
// reverses it, except for rows that are equal in everything else.
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
					t.Errorf("%s: %+v and %+v are not in order", name, a, b)
				}
			}
		}
		if !slices.ContainsFunc(rows, func(v *sessionSnapshot) bool { return compare(rows[0], v) != 0 }) {
			t.Errorf("the order %s does not distinguish the rows", name)
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
			t.Fatalf("the first %d of %v are %v", n, rows, got)
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
		{phaseRelaying, 0, 0, false}, // taken over from a build that did not know this
	} {
		v := &sessionSnapshot{phase: tt.phase, since: tt.since, lastShare: tt.lastShare}
		if v.silent(now) != tt.want {
			t.Errorf("wrong result for %+v", tt)
		}
	}
}

// However many readers ask, a sub-account's sessions are read once in a while, and
// what was shown is not stored for long.
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
		t.Error("the sessions were read again at once")
	}
	eventually(t, "the list to be dropped", func() bool { // record drops it
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
	for range 2 { // the second request does not wait
		if _, err := s.miners.get(m.sessionManager, s.stop, "alice"); !errors.Is(err, errLoopsBusy) {
			t.Errorf("while the loops are stopped, got %v", err)
		}
	}
	if reply, _ := s.do("GET", "/api/miners?account=alice", ""); reply.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("while the loops are stopped, got status %s", reply.Status)
	}
}

// After the first few, searches in all sessions are made once a second. A search
// that is repeated has its answer already.
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
		t.Errorf("a search without a turn returned %v", err)
	}
	s.searches.made = time.Now()
	if err := search(over, s.searches.text); err != nil {
		t.Errorf("the same search again returned %v", err)
	}
	if err := search(t.Context(), "another"); err != nil {
		t.Errorf("a search that waits for its turn returned %v", err)
	}
}

// What is shown of a session does not depend on names that miners choose: it is
// bounded and valid JSON.
func TestShownMinerIsBounded(t *testing.T) {
	long := strings.Repeat("\xff<\"", 5000)
	v := sessionSnapshot{
		worker: stratum.WorkerName{Account: long, Miner: long}, userAgent: long, account: long,
		others: slices.Repeat([]string{long}, maxShownWorkers),
	}
	shown := v.shown()
	content, err := stratum.JSON.Marshal(&shown)
	if err != nil || len(content) > 16<<10 || !json.Valid(content) {
		t.Errorf("the miner is shown in %d bytes, %v", len(content), err)
	}
}
