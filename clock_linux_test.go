//go:build linux && e2e && !portable_relay

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// getJSON reads a page of the status API.
func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	reply, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// shift moves all times of day in the state by d, as if the clock had been set.
func (st *runtimeState) shift(d time.Duration) {
	seconds := int64(d / time.Second)
	st.FrozenAt = st.FrozenAt.Add(d)
	for i := range st.SessionDatas {
		st.SessionDatas[i].Since += seconds
		st.SessionDatas[i].Share += seconds
	}
	for account := range st.Switched {
		st.Switched[account] += seconds
	}
	for i := range st.Monitor.Events {
		st.Monitor.Events[i].First = st.Monitor.Events[i].First.Add(d)
		st.Monitor.Events[i].Last = st.Monitor.Events[i].Last.Add(d)
	}
	for i := range st.Monitor.History {
		st.Monitor.History[i].At += seconds
	}
}

// The clock is set during an upgrade: nobody is lost, the pause is what it was,
// and the pages show nothing that lies in the future or later than what came
// after it.
func TestUpgradeClockSet(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]time.Duration{
		"back by a day":       24 * time.Hour,
		"back by 50 years":    50 * 365 * 24 * time.Hour,
		"forward by a day":    -24 * time.Hour,
		"forward by 50 years": -50 * 365 * 24 * time.Hour,
	} {
		for _, older := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", older switcher"}[older], func(t *testing.T) {
				t.Parallel()
				upgradeClockSet(t, d, older)
			})
		}
	}
}

// upgradeClockSet has the state's times off by d. older: without the monotonic
// clock's.
func upgradeClockSet(t *testing.T, d time.Duration, older bool) {
	btc, bcc := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc, bcc)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	p.SetCoins(map[string]string{"alice": "bcc"})
	testkit.WantMining(t, miners, "bcc")
	stuck := stratumtest.DialRaw(t, p.Addr) // in the middle of its handshake
	stuck.SendLine(testkit.RawSubscribe)
	stuck.Line(stratumtest.Patience)
	logged := p.Logged()
	p.UpgradeWhile(func() {
		path := filepath.Join(p.Dir, runtimeFile)
		st, err := readRuntimeState(path)
		if err != nil {
			t.Fatal(err)
		}
		st.shift(d)
		if older {
			st.FrozenClock = 0
		}
		if err := writeRuntimeState(path, st); err != nil {
			t.Fatal(err)
		}
	})
	pause := p.WaitLogFrom(logged, `upgraded version=two .* pause_ms=(\S+)`)[1]
	if ms, err := strconv.Atoi(pause); !older && (err != nil || ms < 0 || ms > 60000) || older && d > 0 && pause != "unknown" {
		t.Errorf("pause_ms=%s", pause)
	}
	p.SetCoins(map[string]string{"alice": "btc"})
	testkit.WantMining(t, miners, "btc")
	stuck.SendLine(testkit.RawAuthorize)
	stuck.Line(stratumtest.Patience)

	web := "http://" + p.WaitLogFrom(logged, `http addr=(\S+)`)[1]
	latest := time.Now().Unix() + 1
	var status statusReply
	getJSON(t, web+"/api/status", &status)
	if !older && (status.PauseMS < 0 || status.PauseMS > 60000) || older && d > 0 && status.PauseMS != -1 {
		t.Errorf("pause of %d ms", int64(status.PauseMS))
	}
	var found struct{ Miners []shownMiner }
	getJSON(t, web+"/api/search?q=alice", &found)
	for _, m := range found.Miners {
		if m.Since > latest || m.LastShare > latest {
			t.Errorf("miner %+v", m)
		}
	}
	var rows accountsReply
	getJSON(t, web+"/api/accounts", &rows)
	for _, a := range rows.Accounts {
		if a.LastSwitch > latest {
			t.Errorf("sub-account %+v", a)
		}
	}
	var events struct{ Events []eventReply }
	getJSON(t, web+"/api/events", &events)
	if len(events.Events) == 0 {
		t.Error("no events")
	}
	for _, e := range events.Events {
		if e.First > latest || e.Last > latest {
			t.Errorf("event %+v", e)
		}
	}
	var series journal.Series
	getJSON(t, web+"/api/history", &series)
	if !slices.IsSorted(series.Times) || len(series.Times) > 0 && series.Times[len(series.Times)-1] > latest {
		t.Errorf("charts at %v", series.Times)
	}
	if _, err := os.Stat(filepath.Join(p.Dir, runtimeFile)); err == nil {
		t.Error("the state file is still there")
	}
}
