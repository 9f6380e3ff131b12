//go:build linux && !portable_relay

package main

import (
	"net"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// A session that waits for a coin or a pool is not kept when its miner has gone.
func TestLinuxMinerLeavesWhileItWaits(t *testing.T) {
	for _, leave := range []struct {
		name string
		do   func(*stratumtest.Raw)
	}{
		{"close", (*stratumtest.Raw).Close},
		{"reset", func(r *stratumtest.Raw) { r.Conn().(*net.TCPConn).SetLinger(0); r.Close() }},
		{"half-close", (*stratumtest.Raw).CloseWrite},
	} {
		t.Run(leave.name+" waiting for the coin", func(t *testing.T) {
			sw, _ := startHostile(t)
			sw.coins.mu.Lock()
			sw.coins.hold = true
			sw.coins.mu.Unlock()
			before := descriptors()
			r := dialSubscribed(t, sw.addr)
			r.SendLine(rawAuthorize)
			eventually(t, "routing", func() bool { return sw.sessionsIn(phaseRouting) == 1 })
			leave.do(r)
			sw.wantNothingLeft(t)
			r.Close()
			wantDescriptors(t, before)
			sw.coins.letGo()
		})
		t.Run(leave.name+" waiting for the pool", func(t *testing.T) {
			sw, btc := startHostile(t)
			btc.SetModes(stratumtest.Modes{Hang: true})
			before := descriptors()
			r := dialSubscribed(t, sw.addr)
			r.SendLine(rawAuthorize)
			waitConnections(t, btc, 1)
			leave.do(r)
			sw.wantNothingLeft(t)
			waitConnections(t, btc, 0)
			r.Close()
			wantDescriptors(t, before)
		})
		t.Run(leave.name+" waiting for a ticket", func(t *testing.T) {
			btc := startPool(t, stratumtest.PoolOptions{Name: "btc", Modes: stratumtest.Modes{Hang: true}})
			sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc},
				func(c *Config) { c.MaxPoolDials = 1 })
			first, second := dialSubscribed(t, sw.addr), dialSubscribed(t, sw.addr)
			first.SendLine(rawAuthorize)
			waitConnections(t, btc, 1)
			second.SendLine(rawAuthorize)
			eventually(t, "second waits", func() bool {
				sw.gate.mu.Lock()
				defer sw.gate.mu.Unlock()
				return len(sw.gate.turns) == 1
			})
			leave.do(second)
			eventually(t, "second is gone", func() bool { return sw.sessionCount() == 1 })
			leave.do(first)
			sw.wantNothingLeft(t)
			if n := btc.Stats().ConnectionsTotal; n != 1 {
				t.Errorf("%d connections to the pool, want 1", n)
			}
		})
		t.Run(leave.name+" while the pool is away", func(t *testing.T) {
			sw, btc := startHostile(t)
			r := dialMining(t, sw.addr)
			sw.setTiming(func(tm *timing) { tm.reconnectFirst, tm.reconnectMost = time.Hour, time.Hour })
			btc.Close()
			eventually(t, "reconnecting", func() bool { return sw.sessionsIn(phaseReconnecting) == 1 })
			leave.do(r)
			sw.wantNothingLeft(t)
		})
	}
}
