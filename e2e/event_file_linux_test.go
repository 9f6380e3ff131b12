//go:build linux && e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// fileEvents reads an event file, whose lines must all be whole.
func fileEvents(t *testing.T, path string) (events []eventfile.Event) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		if line[len(line)-1] != '\n' {
			break // this line is still being written
		}
		var e eventfile.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

func countEvents(events []eventfile.Event, kind eventfile.Kind, what string) (n int) {
	for _, e := range events {
		if e.Kind == kind && (what == "" || e.What == what) {
			n++
		}
	}
	return n
}

// Upgrades lose no event and the file may be moved away. A full disk loses events,
// which are counted, and costs no miner anything. A switch during which the program
// is upgraded counts as one switch.
func TestEventFile(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	disk := tmpfs(t, "256k")
	path := filepath.Join(disk, "events.json")
	c := daemontest.FileConfig(btc, bcc)
	c.EventFile = path
	coins := map[string]string{"alice": "btc", "bob": "btc"}
	p := daemontest.Start(t, c, coins)
	miners := testkit.StartMiners(t, p.Addr, "alice", 20)
	await := func(what string, path string, kind eventfile.Kind, which string, n int) []eventfile.Event {
		t.Helper()
		var events []eventfile.Event
		testkit.WaitUntil(t, what, func() bool {
			events = fileEvents(t, path)
			return countEvents(events, kind, which) >= n
		})
		return events
	}
	await("all are connected", path, eventfile.KindConnected, "", 20)

	// The upgrades follow each other, so that each has events before and after it.
	for i := range 3 {
		coins["alice"] = []string{"bcc", "btc"}[i%2]
		p.SetCoins(coins)
		await("the switch begins", path, eventfile.KindSwitch, "begins", i+1)
		p.GoodUpgrade()
		await("all have moved", path, eventfile.KindSwitch, "moved", i+1)
	}
	events := await("the upgrades are noted", path, eventfile.KindUpgrade, "upgraded", 3)
	if n := countEvents(events, eventfile.KindLost, ""); n > 0 {
		t.Errorf("%d lines say that events are missing, want none", n)
	}
	if n := countEvents(events, eventfile.KindSwitch, "cost"); n != 2 {
		t.Errorf("%d switches have reported their cost, want the 2 that were ended by the next one", n)
	}
	moved := 0
	for _, e := range events {
		switch {
		case e.Kind == eventfile.KindUpgrade && (*e.Miners != 20 || *e.Missing != 0 || e.Seconds == nil):
			t.Errorf("unexpected event of an upgrade: %+v", e)
		case e.Kind == eventfile.KindSwitch && e.What == "moved":
			moved++
			if *e.Miners != 20 || *e.Seconds <= 0 {
				t.Errorf("switch %d moved %d miners in %v s, want all of them", moved, *e.Miners, *e.Seconds)
			}
		}
	}

	// The file is moved away, as by logrotate.
	away := filepath.Join(disk, "events.json.1")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	before := len(events)
	var crew []*stratumtest.Miner
	testkit.WaitUntil(t, "the file is made anew", func() bool {
		crew = append(crew, testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "bob.1", Manual: true}))
		testkit.WaitPool(t, crew[len(crew)-1], "btc")
		return countEvents(fileEvents(t, path), eventfile.KindConnected, "") > 0
	})
	testkit.WaitUntil(t, "each is in one of the files", func() bool {
		return countEvents(fileEvents(t, away)[before:], eventfile.KindConnected, "")+countEvents(fileEvents(t, path), eventfile.KindConnected, "") == len(crew)
	})

	// The disk is full, also over an upgrade.
	filler := filepath.Join(disk, "filler")
	if err := fillDisk(filler); err != nil {
		t.Fatal(err)
	}
	gone := 0
	for range 40 { // more than fit into the file's last block
		m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "bob.2", Manual: true})
		testkit.WaitPool(t, m, "btc")
		m.Close()
		gone++
	}
	p.WaitLog(`event file: .*no space left on device; events are lost`)
	p.GoodUpgrade()
	for _, m := range miners {
		testkit.WantAccepted(t, m, 1)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "bob.3", Manual: true})
	testkit.WaitPool(t, m, "btc")
	var lost uint64
	testkit.WaitUntil(t, "the file says what is missing", func() bool {
		lost = 0
		events = fileEvents(t, path)
		for _, e := range events {
			lost += e.Count
		}
		return lost > 0 && events[len(events)-1].Worker == "bob.3"
	})
	m.Close()
	for _, m := range append(miners, crew...) {
		m.Close()
	}
	// Every miner that connected has left, and events that are not in the file are
	// counted.
	testkit.WaitUntil(t, "each event is there or counted", func() bool {
		all := append(fileEvents(t, away), fileEvents(t, path)...)
		there := countEvents(all, eventfile.KindConnected, "") + countEvents(all, eventfile.KindGone, "") + countEvents(all, eventfile.KindUpgrade, "")
		return there+int(lost) == 2*(20+len(crew)+gone+1)+4
	})
}

// Files that are read again are in the event file: the coin file and, at an upgrade, the
// configuration. The first reading of a file is no event, nor is a certificate that an
// upgrade takes over.
func TestEventFileReloads(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	c := w.config([]*stratumtest.Pool{btc})
	c.EventFile = filepath.Join(t.TempDir(), "events.json")
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	startSecuredAs(t, d, w.miner(), 1)
	want := []string{}
	await := func(what, detail string) {
		t.Helper()
		want = append(want, what)
		var got []string
		testkit.WaitUntil(t, what, func() bool {
			got = nil
			for _, e := range fileEvents(t, c.EventFile) {
				if e.Kind == eventfile.KindReload {
					got = append(got, e.What+" "+e.Detail)
				}
			}
			return len(got) >= len(want)
		})
		for i := range got {
			if i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
				t.Fatalf("got the events %q, want %q", got, want)
			}
		}
		if last := got[len(got)-1]; !strings.Contains(last, detail) {
			t.Fatalf("got the event %q, want %q in it", last, detail)
		}
	}
	coinFile := filepath.Join(d.Dir, "coins.json")
	d.Replace(coinFile, []byte(`{"*": `), 0o644)
	await("coin file refused", "coins.json")
	d.SetCoins(map[string]string{"*": "btc", "alice": "btc"})
	await("coin file taken", "coins.json, 2 entries")
	n := d.Logged()
	d.GoodUpgrade()
	d.WaitLogFrom(n, "TLS certificate in use names=switcher.test")
	c.MaxSessions, c.DrainSeconds = 100, 7
	d.WriteConfig(c)
	d.GoodUpgrade()
	await("configuration taken", "changed: DrainSeconds, MaxSessions")
	d.UpgradeWhile(func() { d.Replace(filepath.Join(d.Dir, "config.json"), []byte("{"), 0o644) })
	await("configuration refused", "config.json")
}
