//go:build linux && !portable_relay

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// reloads returns the reload events in an event file.
func reloads(t *testing.T, sw *testSwitcher, path string) (got []string) {
	t.Helper()
	sw.monitor.file.Drain(10 * time.Second)
	for _, e := range readEvents(t, path) {
		if e.Kind != eventfile.KindReload {
			t.Errorf("unexpected event %+v", e)
		}
		got = append(got, e.What+": "+e.Detail)
	}
	return got
}

// A TLSCAFile that turns bad is one event, however often it is read, and so is its
// repair.
func TestEventsOfAuthorities(t *testing.T) {
	btc, _ := twoPools(t)
	path := filepath.Join(t.TempDir(), "events.json")
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{btc}, func(c *Config) { c.EventFile = path })
	good, file := testkit.NewAuthority(t).File, filepath.Join(t.TempDir(), "ca.pem")
	c := defaultConfig()
	c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: "stratum+ssl://127.0.0.1:1", TLSCAFile: file}}
	pools, err := newPools(c, sw.health)
	mustDo(t, err)
	told := ""
	for _, step := range []func() error{
		func() error { return nil }, func() error { return nil },
		func() error { return os.Symlink(good, file) }, func() error { return nil },
	} {
		mustDo(t, step())
		told = sw.tlsFiles.readTrusts(pools, told, sw.monitor)
	}
	if got := reloads(t, sw, path); len(got) != 2 || !strings.Contains(got[0], "CA file refused: StratumServerMap.btc.TLSCAFile is ") || got[1] != "CA file taken: " {
		t.Errorf("unexpected events %q", got)
	}
}

// A certificate that is taken or refused is an event. One that a further tunnel process
// takes too is none.
func TestEventsOfCertificates(t *testing.T) {
	btc, _ := twoPools(t)
	path := filepath.Join(t.TempDir(), "events.json")
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{btc}, func(c *Config) { c.EventFile = path })
	pair := func(name string) *tunnel.Pair {
		return &tunnel.Pair{Names: []string{name}, NotAfter: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	}
	first, second, bad := pair("first.test"), pair("second.test"), errors.New("cert.pem: no certificate")
	for _, c := range []tunnel.Certificate{{Err: bad}, {Pair: first}, {Pair: pair("first.test")}, {Pair: first, Err: bad}, {Pair: first}, {Pair: second}} {
		sw.tunnels.certificateReported(c)
	}
	want := []string{
		"certificate refused: cert.pem: no certificate",
		"certificate taken: names=first.test until=2030-01-02 03:04:05",
		"certificate refused: cert.pem: no certificate",
		"certificate taken: names=first.test until=2030-01-02 03:04:05",
		"certificate taken: names=second.test until=2030-01-02 03:04:05",
	}
	if got := reloads(t, sw, path); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got the events %q, want %q", got, want)
	}
}
