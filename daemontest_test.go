package main

import (
	"encoding/json"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
)

// The configuration that tests of the built daemon write has the same keys and
// defaults as the daemon's.
func TestDaemontestConfig(t *testing.T) {
	pool := StratumServerInfo{URL: "a:1", UserSuffix: "s", BackupURLs: []string{"b:2"}, ExtraNonce: "pool", Worker: "w", Password: "p",
		TLSServerName: "n", TLSCAFile: "f", TLSFingerprint: "00", TLSVerify: new(bool)}
	own := defaultConfig()
	own.StratumServerMap = map[string]StratumServerInfo{"btc": pool}
	own.CoinFile, own.ExtraNonce2Size, own.TrustedProxies, own.AgentUserAgents = "c", 4, []string{"10.0.0.0/8"}, []string{"agent"}
	own.TLSCertFile, own.TLSKeyFile, own.TLSRequired = "c", "k", true
	own.MaxSessions, own.MaxSessionsPerIP, own.MaxConnectsPerSecond = 1, 2, 3
	written := daemontest.DefaultConfig()
	written.StratumServerMap = map[string]daemontest.PoolConfig{"btc": daemontest.PoolConfig(pool)}
	written.CoinFile, written.ExtraNonce2Size, written.TrustedProxies, written.AgentUserAgents = "c", 4, []string{"10.0.0.0/8"}, []string{"agent"}
	written.TLSCertFile, written.TLSKeyFile, written.TLSRequired = "c", "k", true
	written.MaxSessions, written.MaxSessionsPerIP, written.MaxConnectsPerSecond = 1, 2, 3
	a, err := json.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(written)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("the daemon's configuration is %s, that of its tests %s", a, b)
	}
}
