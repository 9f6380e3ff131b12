//go:build linux && !portable_relay

package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// TestFormerPoolsApart: pools whose names and passwords look the same when
// they are joined are not the same.
func TestFormerPoolsApart(t *testing.T) {
	sw := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{startPool(t, stratumtest.PoolOptions{Name: "btc"})}, nil)
	one := sw.formerPool("btc", &StratumServerInfo{URL: "127.0.0.1:1", UserSuffix: "btc", Worker: "a b", Password: "c"})
	two := sw.formerPool("btc", &StratumServerInfo{URL: "127.0.0.1:1", UserSuffix: "btc", Worker: "a", Password: "b c"})
	again := sw.formerPool("btc", &StratumServerInfo{URL: "127.0.0.1:1", UserSuffix: "btc", Worker: "a", Password: "b c"})
	if one == nil || two == nil || one == two || two != again || two.password != "b c" {
		t.Errorf("got %+v, %+v, %+v", one, two, again)
	}
}
