//go:build linux && !portable_relay

package main

import (
	"net/http"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A loop that is stuck is reported at /healthz, /readyz and in the metrics. A loop
// with nothing to do is healthy, and so is one that an upgrade has stopped.
func TestHealthOfStandingLoop(t *testing.T) {
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc})
	looks := func(n int) {
		for range n {
			s.watch.look()
			// Loops that can answer have answered before the next check.
			for _, l := range m.loops[1:] {
				l.Call(func() {})
			}
		}
	}
	want := func(path string, status int) {
		t.Helper()
		if reply, text := s.do("GET", path, ""); reply.StatusCode != status {
			t.Errorf("%s: got %d %q, want %d", path, reply.StatusCode, text, status)
		}
	}
	m.loops[0].Call(func() {})
	want("/healthz", http.StatusOK)
	want("/readyz", http.StatusOK)

	hold, held := make(chan struct{}), make(chan struct{})
	m.loops[0].Post(func() { close(held); <-hold })
	<-held
	looks(stalledChecks + 1)
	if reason := s.watch.stalled(); reason == "" {
		t.Error("the stuck loop is not noticed")
	}
	want("/healthz", http.StatusServiceUnavailable)
	want("/readyz", http.StatusServiceUnavailable)
	m.frozen.Store(true)
	looks(1)
	want("/healthz", http.StatusOK)
	m.frozen.Store(false)
	looks(stalledChecks)
	want("/healthz", http.StatusServiceUnavailable)
	close(hold)
	eventually(t, "well again", func() bool { return s.watch.stalled() == "" })
	want("/healthz", http.StatusOK)
	want("/readyz", http.StatusOK)
}
