//go:build linux && e2e

package e2e

import (
	"bytes"
	"encoding/json"
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

// readState reads a runtime.json without its checksums and its spare copy.
func readState(t *testing.T, path string) (members map[string]any, sessions []any) {
	t.Helper()
	text, err := os.ReadFile(path)
	testkit.Must(t, err)
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	testkit.Must(t, d.Decode(&members))
	sessions = members["SessionDatas"].([]any)
	for _, s := range sessions {
		delete(s.(map[string]any), "Sum")
	}
	for _, member := range []string{"SessionDatas", "Sum", "Spare"} {
		delete(members, member)
	}
	return members, sessions
}

// shiftState moves all times of day in a state by d, as if the clock had been set.
// It returns the names of what it has moved.
func shiftState(t *testing.T, members map[string]any, sessions []any, d time.Duration) (moved []string) {
	t.Helper()
	seconds := func(in map[string]any, member string) {
		switch v := in[member].(type) {
		case nil: // not known
		case json.Number:
			n, err := v.Int64()
			testkit.Must(t, err)
			in[member] = n + int64(d/time.Second)
			moved = append(moved, member)
		default:
			t.Fatalf("%s is %v", member, v)
		}
	}
	moment := func(in map[string]any, member string) {
		at, err := time.Parse(time.RFC3339Nano, in[member].(string))
		testkit.Must(t, err)
		in[member] = at.Add(d)
		moved = append(moved, member)
	}
	moment(members, "FrozenAt")
	for _, s := range sessions {
		seconds(s.(map[string]any), "Since")
		seconds(s.(map[string]any), "Share")
	}
	switched, _ := members["Switched"].(map[string]any)
	for account := range switched {
		seconds(switched, account)
	}
	monitor := members["Monitor"].(map[string]any)
	for _, e := range monitor["Events"].([]any) {
		moment(e.(map[string]any), "First")
		moment(e.(map[string]any), "Last")
	}
	for _, sample := range monitor["History"].([]any) {
		seconds(sample.(map[string]any), "At")
	}
	return moved
}

// The clock is set during an upgrade. Nobody is lost, the pause is as before, and
// the pages show nothing that is in the future or later than what came after it.
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

// upgradeClockSet makes the state's times differ by d. With older, it removes those
// of the monotonic clock.
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
		members, sessions := readState(t, path)
		moved := shiftState(t, members, sessions, d)
		for _, member := range []string{"FrozenAt", "Since", "Share", "alice", "First", "Last"} {
			if !slices.Contains(moved, member) {
				t.Errorf("the state has no %s", member)
			}
		}
		if older {
			delete(members, "FrozenClock")
		}
		content, err := daemontest.StateFile(members, sessions)
		testkit.Must(t, err)
		testkit.WriteFile(t, path, string(content))
	})
	pause := p.WaitLogFrom(logged, `upgraded version=two .* pause_ms=(\S+)`)[1]
	if ms, err := strconv.Atoi(pause); !older && (err != nil || ms < 0 || ms > 60000) || older && d > 0 && pause != "unknown" {
		t.Errorf("unexpected pause_ms=%s in the log", pause)
	}
	p.SetCoins(map[string]string{"alice": "btc"})
	testkit.WantMining(t, miners, "btc")
	stuck.SendLine(testkit.RawAuthorize)
	stuck.Line(stratumtest.Patience)

	web := "http://" + p.WaitLogFrom(logged, `http addr=(\S+)`)[1]
	latest := time.Now().Unix() + 1
	var status pageStatus
	getJSON(t, web+"/api/status", &status)
	if !older && (status.PauseMS < 0 || status.PauseMS > 60000) || older && d > 0 && status.PauseMS != -1 {
		t.Errorf("the page shows a pause of %d ms", status.PauseMS)
	}
	var found struct{ Miners []pageMiner }
	getJSON(t, web+"/api/search?q=alice", &found)
	for _, m := range found.Miners {
		if m.Since == 0 || m.Since > latest || m.LastShare == 0 && m.Agent != "raw/1.0" || m.LastShare > latest {
			t.Errorf("unexpected times of a miner: %+v", m)
		}
	}
	var rows pageAccounts
	getJSON(t, web+"/api/accounts", &rows)
	for _, a := range rows.Accounts {
		if a.LastSwitch == 0 || a.LastSwitch > latest {
			t.Errorf("unexpected times of a sub-account: %+v", a)
		}
	}
	var events struct{ Events []pageEvent }
	getJSON(t, web+"/api/events", &events)
	if len(events.Events) == 0 {
		t.Error("there are no events")
	}
	for _, e := range events.Events {
		if e.First == 0 || e.First > latest || e.Last > latest {
			t.Errorf("unexpected time of an event: %+v", e)
		}
	}
	var series journal.Series
	getJSON(t, web+"/api/history", &series)
	if !slices.IsSorted(series.Times) || len(series.Times) > 0 && series.Times[len(series.Times)-1] > latest {
		t.Errorf("unexpected times of the charts: %v", series.Times)
	}
	if _, err := os.Stat(filepath.Join(p.Dir, runtimeFile)); err == nil {
		t.Error("the state file still exists")
	}
}
