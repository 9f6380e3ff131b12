package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// readEvents reads an event file.
func readEvents(t testing.TB, path string) (events []eventfile.Event) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		var e eventfile.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// What happens to miners and sub-accounts is in the file, with its figures.
func TestEventsOfMinersAndSwitches(t *testing.T) {
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc", "lost": "xyz"})
	path := filepath.Join(t.TempDir(), "events.json")
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc}, func(c *Config) { c.EventFile = path })
	file := m.monitor.file

	alice := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.rig1", UserAgent: "cgminer/4.11", Manual: true, Password: "secret"})
	waitPool(t, alice, "btc")
	for range 3 {
		if code, err := alice.Submit(waitContext(t), nil); code != 0 || err != nil {
			t.Fatal(code, err)
		}
	}
	bcc.SetModes(stratumtest.Modes{RejectShares: true})
	coins.set("alice", "bcc")
	waitPool(t, alice, "bcc")
	if code, err := alice.Submit(waitContext(t), nil); code == 0 || err != nil {
		t.Fatal(code, err)
	}
	eventually(t, "all have moved", func() bool { return m.switchEvent(t, "btc", "bcc", "moved in").Count == 1 })
	coins.set("alice", "")
	alice.Close()
	lost := stratumtest.DialRaw(t, m.addr)
	lost.SendLine(rawSubscribe)
	lost.SendLine(`{"id":2,"method":"mining.authorize","params":["lost.1","x"]}`)
	lost.Line(stratumtest.Patience)
	lost.Line(stratumtest.Patience)
	lost.ExpectClosed()
	web := stratumtest.DialRaw(t, m.addr)
	web.Send("GET / HTTP/1.1\r\n\r\n")
	web.ExpectClosed()
	eventually(t, "the miners have left", func() bool { return m.sessionCount() == 0 })
	m.monitor.upgradeFailed(errors.New("no such binary"))
	file.Drain(10 * time.Second)

	events := readEvents(t, path)
	find := func(kind eventfile.Kind, what string) eventfile.Event {
		t.Helper()
		for _, e := range events {
			if e.Kind == kind && e.What == what {
				return e
			}
		}
		t.Fatalf("there is no event %s %q in %+v", kind, what, events)
		return eventfile.Event{}
	}
	if e := find(eventfile.KindConnected, ""); e.Account != "alice" || e.Worker != "alice.rig1" || len(e.Session) != 8 || e.Agent != "cgminer/4.11" || e.Coin != "btc" || e.Pool != btc.Addr() || e.Miner == "" {
		t.Errorf("unexpected event of a connected miner: %+v", e)
	}
	if e := find(eventfile.KindSwitch, "begins"); e.Account != "alice" || e.Coin != "btc" || e.To != "bcc" || *e.Miners != 1 {
		t.Errorf("unexpected event of a switch that begins: %+v", e)
	}
	if e := find(eventfile.KindSwitch, "moved"); e.Account != "alice" || e.To != "bcc" || *e.Miners != 1 || *e.Seconds <= 0 {
		t.Errorf("unexpected event of a switch whose miners have moved: %+v", e)
	}
	if e := find(eventfile.KindSwitch, "cost"); e.Cost == nil || *e.Miners != 1 || e.Cost.RefusedAfter <= 0 || e.Cost.RefusedBefore != 0 || len(e.Cost.Late) != int(lateEnds) || e.Detail == "" {
		t.Errorf("unexpected event of a switch's cost: %+v %+v", e, e.Cost)
	}
	find(eventfile.KindSwitch, "coin deleted")
	if e := find(eventfile.KindGone, ""); e.Worker != "alice.rig1" || e.Coin != "bcc" || e.Totals == nil || e.Totals.Submitted != 4 || e.Totals.Accepted != 3 || e.Totals.Work <= 0 || e.Seconds == nil || e.Detail == "" {
		t.Errorf("unexpected event of a miner that has gone: %+v %+v", e, e.Totals)
	} else if n := e.Totals.Refused["low_difficulty"] + e.Totals.Refused["stale"] + e.Totals.Refused["other"] + e.Totals.Refused["duplicate"] + e.Totals.Refused["unauthorized"]; n != 1 {
		t.Errorf("unexpected refused shares of a miner that has gone: %v", e.Totals.Refused)
	}
	if e := find(eventfile.KindRefusal, "coin_without_pool"); e.Worker != "lost.1" || e.Miner == "" {
		t.Errorf("unexpected event of a refusal: %+v", e)
	}
	if e := find(eventfile.KindRefusal, "not_stratum"); e.Miner == "" || e.Worker != "" {
		t.Errorf("unexpected event of the refusal of something that is not Stratum: %+v", e)
	}
	if e := find(eventfile.KindUpgrade, "failed"); e.Detail != "no such binary" {
		t.Errorf("unexpected event of a failed upgrade: %+v", e)
	}
	if content, _ := os.ReadFile(path); bytes.Contains(content, []byte("secret")) {
		t.Error("the file contains a password")
	}
	s.metric(`stratum_switcher_event_file_events_total{result="written"}`, atLeast(float64(len(events))))
	s.metric(`stratum_switcher_event_file_events_total{result="lost"}`, is(0))
}

// A clock that is set neither makes the time that a miner was connected absurd, nor
// since when the page shows it.
func TestGoneAfterClockJumps(t *testing.T) {
	btc, _ := twoPools(t)
	path := filepath.Join(t.TempDir(), "events.json")
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, func(c *Config) { c.EventFile = path })
	var jump atomic.Int64
	sw.wallClock = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	for _, by := range []time.Duration{-24 * time.Hour, 24 * time.Hour, -100 * 365 * 24 * time.Hour} {
		jump.Store(0)
		miner := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1", Manual: true})
		waitPool(t, miner, "btc")
		jump.Store(int64(by))
		l := sw.loops[0]
		for _, each := range sw.loops {
			each.Call(func() {
				if len(each.allSessions()) > 0 {
					l = each
				}
			})
		}
		l.Call(func() {
			s := l.allSessions()[0]
			ago := sw.wallClock().Unix() - s.snapshot(sw.clock()).since
			if sw.wallClock().Unix() > 0 && (ago < 0 || ago > 60) {
				t.Errorf("clock set by %v: the miner seems to have connected %d s ago", by, ago)
			}
		})
		miner.Close()
		eventually(t, "the miner has left", func() bool { return sw.sessionCount() == 0 })
	}
	sw.monitor.file.Drain(10 * time.Second)
	gone := 0
	for _, e := range readEvents(t, path) {
		if e.Kind == eventfile.KindGone {
			gone++
			if e.Seconds == nil || *e.Seconds < 0 || *e.Seconds > 60 {
				t.Errorf("unexpected seconds in %+v", e)
			}
		}
	}
	if gone != 3 {
		t.Errorf("%d miners have gone, want 3", gone)
	}
}

// -check and the start refuse the same files in the same words.
func TestEventFileIsChecked(t *testing.T) {
	dir := t.TempDir()
	config := func(eventFile string) string {
		path := filepath.Join(dir, "config.json")
		coins, err := json.Marshal(filepath.Join(dir, "coins.json"))
		if err != nil {
			t.Fatal(err)
		}
		name, err := json.Marshal(eventFile)
		if err != nil {
			t.Fatal(err)
		}
		text := `{"ListenAddr": "127.0.0.1:0", "StratumServerMap": {"btc": {"URL": "127.0.0.1:3333"}}, "CoinFile": ` + string(coins) + `, "EventFile": ` + string(name) + `}`
		mustDo(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	mustDo(t, os.WriteFile(filepath.Join(dir, "coins.json"), []byte(`{"alice": "btc"}`), 0o600))
	for _, bad := range []string{dir, filepath.Join(dir, "no", "events.json"), os.DevNull} {
		if err := wantCheckIsStart(t, config(bad)); err == nil {
			t.Errorf("%s is not refused", bad)
		}
	}
	if err := wantCheckIsStart(t, config(filepath.Join(dir, "events.json"))); err != nil {
		t.Error(err)
	}
}
