package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A sub-account whose miners are refused has one line at once, and then one a
// minute with their number. Many names do not take endless memory.
func TestRefusedAccounts(t *testing.T) {
	var r refusedAccounts
	now := time.Now()
	addr := netip.MustParseAddrPort("192.0.2.7:999")
	if line := r.note("alice", "doge", addr, now); line != `refused code=301 account="alice" miners=1 last=192.0.2.7: its coin "doge" is not in StratumServerMap: correct the entry of the sub-account, or add the coin` {
		t.Errorf("the first line is %s", line)
	}
	for range 5 {
		if line := r.note("alice", "doge", addr, now.Add(time.Second)); line != "" {
			t.Errorf("there is another line at once: %s", line)
		}
	}
	if lines := r.due(now.Add(30 * time.Second)); len(lines) > 0 {
		t.Errorf("lines came too early: %q", lines)
	}
	if lines := r.due(now.Add(61 * time.Second)); len(lines) != 1 || !strings.Contains(lines[0], "miners=5 ") {
		t.Errorf("after a minute, got lines %q", lines)
	}
	if r.due(now.Add(3 * time.Minute)); len(r.accounts) != 0 {
		t.Errorf("%d accounts are not forgotten", len(r.accounts))
	}
	for i := range 2 * maxRefusedAccounts {
		r.note(fmt.Sprint("name", i), "doge", addr, now)
	}
	if len(r.accounts) > maxRefusedAccounts+1 {
		t.Errorf("%d accounts are stored", len(r.accounts))
	}
	if lines := r.due(now.Add(2 * time.Minute)); len(lines) != 1 || !strings.Contains(lines[0], fmt.Sprintf("miners=%d ", maxRefusedAccounts-1)) {
		t.Errorf("got lines %q for further sub-accounts", lines)
	}
}

// A miner that is refused because its coin has no pool is counted for its sub-account.
func TestRefusedAccountsOfSessions(t *testing.T) {
	btc := miningPool(t, "btc", "")
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "doge"}), []*stratumtest.Pool{btc}, nil)
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.1"})
	eventually(t, "the refusal is counted", func() bool {
		r := &sw.refusedAccounts
		r.mu.Lock()
		defer r.mu.Unlock()
		a := r.accounts["alice"]
		return a != nil && a.coin == "doge" && !a.logged.IsZero() && a.last.Addr() == netip.MustParseAddr("127.0.0.1")
	})
	m.Close()
}
