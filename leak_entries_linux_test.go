//go:build linux && e2e && !portable_relay

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// entries counts the entries of everything for which the switcher has a map or
// list.
func entries(m *sessionManager, s *coins.ZooKeeper, recorder *statusRecorder) map[string]int {
	n := make(map[string]int)
	m.mu.Lock()
	n["sessions"], n["sub-accounts"], n["waiting for the server ID"] = len(m.sessions), m.accounts.size(), len(m.waitingID)
	m.mu.Unlock()
	n["admitted"], n["draining"] = int(m.admitted.Load()), int(m.draining.Load())

	m.ids.mu.Lock()
	n["session IDs"], n["session IDs marked"], n["session IDs of another server"] = int(m.ids.inUse), int(m.ids.used.Count()), len(m.ids.retired)
	m.ids.mu.Unlock()

	n["dials waiting"] = m.gate.waitingAccounts()
	m.gate.mu.Lock()
	n["addresses of dials"], n["turns"], n["dials under way"] = len(m.gate.addresses), len(m.gate.turns), m.gate.held
	m.gate.mu.Unlock()

	for _, l := range m.loops {
		l.Call(func() {
			held := l.Held()
			n["stalled sockets"] += held.Stalled
			n["sockets"] += held.Sockets
			n["timers"] += len(held.Timers)
		})
	}
	recorder.step(&survey{}, time.Now()) // as its goroutine does regularly
	recorder.mu.Lock()
	n["rates"] = len(recorder.rates)
	recorder.mu.Unlock()

	maps.Copy(n, s.Entries())
	return n
}

// After short sessions of all kinds, each map and list is as long as before.
func TestShortSessionsLeaveNoEntries(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	shape := daemontest.ShortConfig(daemontest.ZKConfig(server.Addr(), daemontest.ShortPool(t)))
	c := ownConfig(t, shape)
	for i := range testkit.ShortAccounts {
		admin.Put(fmt.Sprintf("%suser%d", c.ZKSwitcherWatchDir, i), "btc")
	}
	source, err := newCoinSource(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newSessionManager(c, source)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listen(c.ListenAddr)
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	source.Start(m)
	m.serve(ln)
	t.Cleanup(func() {
		m.close()
		source.Close()
	})
	zk, recorder := source.(*coins.ZooKeeper), newStatusRecorder(m)

	run := func(n, firstRegistered int) {
		t.Helper()
		registrar := daemontest.StartRegistrar(admin, shape)
		short := testkit.StartShortSessions(ln.Addr().String(), 100, testkit.ShortVisits(func(i int) string {
			return fmt.Sprintf("reg%d.rig", firstRegistered+i/97%40)
		}))
		for i := range n {
			short.Next <- i
		}
		short.Finish(t)
		daemontest.AwaitSettled(t, func() string {
			if now := entries(m, zk, recorder); now["sub-accounts"]+now["sockets"]+now["registrations"] > 0 {
				return fmt.Sprint(now)
			}
			return ""
		})
		registrar.TakeBack()
		if len(registrar.Registered) == 0 {
			t.Error("no sub-account was registered")
		}
	}
	run(2000, 0)
	var before map[string]int
	daemontest.AwaitSettled(t, func() string {
		if before = entries(m, zk, recorder); before["coins known"] != testkit.ShortAccounts {
			return fmt.Sprint(before)
		}
		return ""
	})
	for _, name := range []string{"sessions", "admitted", "draining", "session IDs", "session IDs marked", "dials waiting", "dials under way", "stalled sockets",
		"rates", "queries", "queries for a coin", "queries for a name", "names by case", "registrations", "waiting for the server ID"} {
		if before[name] != 0 {
			t.Errorf("%s has %d entries although there is no session", name, before[name])
		}
	}
	run(4000, 1000)
	daemontest.AwaitSettled(t, func() string {
		if now := entries(m, zk, recorder); !maps.Equal(now, before) {
			return fmt.Sprintf("%v, before %v", now, before)
		}
		return ""
	})
	t.Logf("%v", before)
}

// ownConfig is a configuration for tests of the built daemon, as the daemon reads it.
func ownConfig(t testing.TB, c *daemontest.Config) *Config {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	own, err := parseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return own
}
