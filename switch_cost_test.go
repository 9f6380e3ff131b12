package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

// setSpan shortens the minute before and after a switch.
func (m *testSwitcher) setSpan(d time.Duration) {
	m.accounts.mu.Lock()
	defer m.accounts.mu.Unlock()
	m.accounts.span = d
}

// switchEvent waits until the event of a switch contains something, and returns it.
func (m *testSwitcher) switchEvent(t *testing.T, from, to, text string) (found journal.Event) {
	t.Helper()
	eventually(t, "switch from "+from+" to "+to+" with "+text, func() bool {
		for _, e := range m.monitor.events.All() {
			if e.Kind == journal.Switch && e.Coin == from && e.To == to {
				found = e
				return strings.Contains(e.Detail, text)
			}
		}
		return false
	})
	return found
}

func (sc *scene) costing() *switchRun {
	sc.sw.accounts.mu.Lock()
	a := sc.sw.accounts.accounts["alice"]
	sc.sw.accounts.mu.Unlock()
	return a.costing.Load()
}

// lateOf returns how many late shares of each outcome are counted.
func (r *switchRun) lateOf() (late [lateEnds]uint64) {
	for end := range r.late {
		late[end] = r.late[end].Load()
	}
	return late
}

// The outcomes of late shares and the refused work are those of manual arithmetic.
// Shares that were on their way when the switch came are not late.
func TestWhatASwitchCosts(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", func(c *Config) {
		c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	}, "btc", "bcc")
	status := statusOf(t, sc.sw)
	sc.passOn(btc, setDifficulty("8"))
	sc.passOn(btc, jobLine("btc-2", false))
	sc.Share(btc, "10", "btc-2")
	sc.refused(btc, "10", `[21,"Job not found",null]`) // 8 before the switch
	sc.Share(btc, "11", "btc-2")                       // on its way

	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Answered(btc, "11")
	sc.Share(btc, "12", "btc-2")
	sc.Answered(btc, "12")
	sc.Share(btc, "13", "btc-1")
	sc.refused(btc, "13", `[21,"Job not found",null]`) // 1 after the switch
	sc.Share(bcc, "14", "bcc-1")
	sc.refused(bcc, "14", `[22,"Duplicate share",null]`) // 1 after the switch, not late
	sc.Share(bcc, "15", "nobody-knows")
	sc.refused(bcc, "15", `[21,"Job not found",null]`) // 1 after the switch
	sc.Share(bcc, "16", "bcc-1")
	sc.Answered(bcc, "16")
	sc.Share(btc, "17", "btc-2")
	btc.Close() // before it has answered
	sc.Miner.ExpectLine(lostAnswer("17"))
	sc.Miner.SendLine(shareLine("18", "btc-2"))
	sc.Miner.ExpectLine(lostAnswer("18"))

	r := sc.costing()
	if r == nil {
		t.Fatal("no cost is counted")
	}
	if late := r.lateOf(); late != [lateEnds]uint64{lateFormerAccepted: 1, lateFormerRefused: 1, lateNewRefused: 1, lateLost: 2} {
		t.Errorf("unexpected late shares %v", late)
	}
	// The minute is over now.
	sc.sw.accounts.mu.Lock()
	sc.sw.accounts.span = time.Nanosecond
	sc.sw.accounts.mu.Unlock()
	sc.sw.accounts.spanOver(sc.sw.accounts.accounts["alice"], r)
	if sc.costing() != nil {
		t.Error("the cost is still counted")
	}
	e := sc.sw.switchEvent(t, "btc", "bcc", "late shares")
	for _, want := range []string{
		"1 miner moved in ", " ms; late shares: 1 accepted by the former pool, 1 refused by the former pool, 1 refused by the new pool, 2 lost with a connection; refused work: ",
		hashrate.FormatWork(3*float64(hashrate.UnitBitcoin)) + " in the ", hashrate.FormatWork(8*float64(hashrate.UnitBitcoin)) + " in the ",
	} {
		if !strings.Contains(e.Detail, want) {
			t.Errorf("the event says %q, want %q in it", e.Detail, want)
		}
	}
	if e.Level != journal.Good {
		t.Errorf("the event is %v", e.Level)
	}
	status.metric(`stratum_switcher_switch_moved_miners_total{coin="bcc"}`, is(1))
	status.metric(`stratum_switcher_switch_late_shares_total{coin="bcc",ended="lost"}`, is(2))
	status.metric(`stratum_switcher_switch_late_shares_total{coin="bcc",ended="new_accepted"}`, is(0))
	status.metric(`stratum_switcher_switch_refused_work_total{coin="bcc",minute="before"}`, is(8*float64(hashrate.UnitBitcoin)))
	status.metric(`stratum_switcher_switch_refused_work_total{coin="bcc",minute="after"}`, is(3*float64(hashrate.UnitBitcoin)))
	// Later shares do not count for this switch.
	sc.Share(bcc, "19", "bcc-1")
	sc.refused(bcc, "19", `[21,"Job not found",null]`)
	if late := r.lateOf(); late[lateNewRefused] != 1 {
		t.Errorf("unexpected late shares in the end: %v", late)
	}
}

// If no link to the former pool is left, a share for one of its jobs goes to the
// new pool, and counts as late until the minute is over.
func TestLateSharesWithoutAFormerLink(t *testing.T) {
	sc, _ := startScene(t, "bitcoin", func(c *Config) { c.DrainSeconds = 0 }, "btc", "bcc")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(bcc, "10", "btc-1")
	sc.refused(bcc, "10", `[21,"Job not found",null]`)
	sc.Share(bcc, "11", "btc-1")
	sc.Answered(bcc, "11")
	sc.Share(bcc, "12", "bcc-1")
	sc.Answered(bcc, "12")
	if late := sc.costing().lateOf(); late != [lateEnds]uint64{lateNewRefused: 1, lateNewAccepted: 1} {
		t.Errorf("unexpected late shares %v", late)
	}
}

// If the coin changes while the cost of the previous switch is counted, that count
// ends. Each switch has its own late shares.
func TestOverlappingSwitches(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc", "bch")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(btc, "10", "btc-1")
	sc.Answered(btc, "10")
	first := sc.costing()
	bch := sc.switchTo("bch", "bch-1")
	e := sc.sw.switchEvent(t, "btc", "bcc", "then the coin changed again")
	if want := "late shares: 1 accepted by the former pool;"; !strings.Contains(e.Detail, want) || e.Level != journal.Good {
		t.Errorf("the event has level %v and says %q, want %q in it", e.Level, e.Detail, want)
	}
	second := sc.costing()
	if second == nil || second == first {
		t.Fatal("the second switch is not counted on its own")
	}
	sc.Share(bcc, "11", "bcc-1")
	sc.refused(bcc, "11", `[23,"Low difficulty share",null]`)
	sc.Share(btc, "12", "btc-1")
	sc.Answered(btc, "12")
	sc.Share(bch, "13", "bch-1")
	sc.Answered(bch, "13")
	if late := second.lateOf(); late != [lateEnds]uint64{lateFormerAccepted: 1, lateFormerRefused: 1} {
		t.Errorf("unexpected late shares of the second switch: %v", late)
	}
	if late := first.lateOf(); late != [lateEnds]uint64{lateFormerAccepted: 1} {
		t.Errorf("unexpected late shares of the first switch: %v", late)
	}
	// The count also ends when the last miner leaves, and when the coin is set to
	// one without a pool.
	sc.Miner.Close()
	e = sc.sw.switchEvent(t, "bcc", "bch", "then the last miner left")
	if !strings.Contains(e.Detail, "1 accepted by the former pool, 1 refused by the former pool") {
		t.Errorf("the event says %q", e.Detail)
	}
}

// If some miners of a switch have not moved, its cost is reported when the last one
// has, however long that takes. The work of the minute is recorded on time.
func TestCostOfASlowSwitch(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setSpan(10 * time.Millisecond)
	sc.sw.coins.set("alice", "bcc")
	next := sc.Pools["bcc"].Next() // this pool does not answer for a while
	sc.Share(btc, "10", "btc-1")
	sc.refused(btc, "10", `[21,"Job not found",null]`)
	r := sc.costing()
	eventually(t, "the minute is over", func() bool {
		sc.sw.accounts.mu.Lock()
		defer sc.sw.accounts.mu.Unlock()
		return r.after > 0
	})
	if sc.costing() != r {
		t.Error("the cost was reported before the miner has moved")
	}
	_ = next
	sc.Miner.Close()
	sc.sw.switchEvent(t, "btc", "bcc", "0 miners moved, then the last miner left; no late shares; refused work: ")
}

// An upgrade in the middle of the minute continues with what was counted, including
// a switch that has not ended.
func TestSwitchesGoThroughUpgrades(t *testing.T) {
	b := newRateBook()
	pools := ratePools(t, "btc", "bcc")
	b.adopt(pools)
	book := newAccountBook(newHealth(), newMonitor(), b)
	account := func(book *accountBook, name, wanted, at string) *Session {
		s := &Session{link: &link{pool: pools[at]}}
		book.resume(s, name, wanted, 0)
		return s
	}
	account(book, "alice", "btc", "btc")
	moving := account(book, "bob", "btc", "btc")
	account(book, "bob", "btc", "btc")
	book.mu.Lock()
	alice := book.accounts["alice"]
	book.mu.Unlock()
	alice.shares.Refuse(5, hashrate.RefusalStale)
	book.change("alice", "bcc", true)
	book.change("bob", "bcc", true)
	move := func(book *accountBook, s *Session) {
		former := s.link.pool
		s.link = &link{pool: pools["bcc"]}
		book.linked(s, former)
	}
	move(book, alice.sessions[0])
	move(book, moving)
	alice.shares.Refuse(3, hashrate.RefusalOther)
	alice.costing.Load().late[lateFormerRefused].Add(2)

	text, err := json.Marshal(book.switches())
	if err != nil {
		t.Fatal(err)
	}
	// From here on, the next process reports costs.
	book.spanOver(alice, alice.costing.Load())
	if r := alice.costing.Load(); r == nil || r.after != 0 {
		t.Error("the process that is replaced has reported the cost")
	}
	book.resumeCosts() // as when the upgrade is undone
	if book.handedOver {
		t.Error("costs are no longer reported after an upgrade that was undone")
	}

	var all map[string]switchState
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	next := newRateBook()
	next.adopt(pools)
	book = newAccountBook(newHealth(), newMonitor(), next)
	account(book, "alice", "bcc", "bcc")
	account(book, "bob", "bcc", "bcc")
	last := account(book, "bob", "bcc", "btc")
	all["carol"] = switchState{Coin: "bcc"} // her miners could not be taken over
	book.resumeSwitches(all, pools, time.Second)
	book.mu.Lock()
	alice, bob := book.accounts["alice"], book.accounts["bob"]
	book.mu.Unlock()
	r := alice.costing.Load()
	if r == nil || alice.run != nil || r.moved != 1 || r.took == 0 || time.Since(r.began) < time.Second {
		t.Fatalf("unexpected row of alice's switch: %+v", r)
	}
	alice.shares.Refuse(4, hashrate.RefusalStale)
	r.late[lateFormerRefused].Add(1)
	book.spanOver(alice, r)
	if c := r.cost(); c.lostBefore != 5*float64(hashrate.UnitBitcoin) || c.lostAfter != 7*float64(hashrate.UnitBitcoin) || c.lateCounts[lateFormerRefused] != 3 {
		t.Errorf("unexpected cost of alice's switch: %+v", c)
	}
	if r := bob.run; r == nil || r != bob.costing.Load() || r.moved != 1 || !book.underWay(r.key("bob")) {
		t.Fatalf("unexpected row of bob's switch: %+v", r)
	}
	r = bob.run
	move(book, last)
	if bob.run != nil || r.moved != 2 || r.took < time.Second {
		t.Errorf("unexpected row of bob's switch in the end: %+v", r)
	}
}

// A state file may say anything about switches.
func TestAnyStateOfSwitches(t *testing.T) {
	for _, text := range []string{
		`null`, `{"alice":{}}`, `{"alice":{"Age":-5}}`, `{"alice":{"Age":9223372036854775807,"Coin":"btc"}}`,
		`{"alice":{"Coin":"btc","Late":[1,2,3,4,5,6,7,8,9],"LostBefore":1e308,"LostAfter":1e308,"After":9223372036854775807}}`,
		`{"":{"Coin":"xyz"},"alice":{"Coin":"xyz"}}`, `{"alice":{"Coin":"btc","Moved":-4}}`, `{"alice":{"Coin":"btc","Took":-1}}`, `{"alice":{"Coin":"btc","LostAfter":-1}}`,
	} {
		var all map[string]switchState
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		b := newRateBook()
		pools := ratePools(t, "btc")
		b.adopt(pools)
		book := newAccountBook(newHealth(), newMonitor(), b)
		book.resume(&Session{link: &link{pool: pools["btc"]}}, "alice", "btc", 0)
		book.resumeSwitches(all, pools, -1)
		book.mu.Lock()
		book.cutRun(book.accounts["alice"], "the test is over")
		book.mu.Unlock()
	}
}

// Numbers agree with their nouns and verbs.
func TestCountsInWords(t *testing.T) {
	one, two := &switchRun{moved: 1, failed: 1}, &switchRun{moved: 2, failed: 2}
	for got, want := range map[string]string{
		one.movedText(): "1 miner moved, 1 link failed meanwhile", two.movedText(): "2 miners moved, 2 links failed meanwhile",
		minersStay(0): "0 miners stay", minersStay(1): "1 miner stays", minersStay(2): "2 miners stay",
		countOf(1, "session"): "1 session", countOf(2, "session"): "2 sessions",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	mon := newMonitor()
	mon.switchBegins("alice", "btc", "", 1, false)
	mon.switchBegins("bob", "btc", "xyz", 1, false)
	for _, e := range mon.events.All() {
		if !strings.HasSuffix(e.Detail, "1 miner stays") {
			t.Errorf("got the event %q, want one about 1 miner that stays", e.Detail)
		}
	}
}
