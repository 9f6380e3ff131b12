package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Relaying with a translation allocates nothing per line.
func TestTranslateAllocates(t *testing.T) {
	if raceDetector {
		return // the race detector allocates itself
	}
	sw := startSwitcher(t, newMemoryCoins(nil), nil, func(c *Config) { c.StratumServerMap = map[string]StratumServerInfo{"a": {URL: "127.0.0.1:1"}} })
	tr := &stratum.Translation{Coinb1: "f0000001", Before: "00000080", Digits: 6}
	s := &Session{manager: sw.sessionManager, account: &subAccount{name: "alice", shares: new(hashrate.Counter)}, auth: &authorization{authorizationForm: &authorizationForm{}, name: stratum.SplitWorker("alice.w")}}
	job, share := stratumtest.JobWithBranches(1400), []byte(sceneShare(1, "j", "aabbcc"))
	named := func(r *lineRules) *lineRules { return s.linkRules(r.pool, r.suffixed, r) }
	out := make([]byte, 0, 8192)
	for name, r := range map[string]*lineRules{
		"plain name": named(newRules(&pool{picksExtranonce: true}, false, tr, false)),
		"suffix":     named(newRules(&pool{picksExtranonce: true, suffix: "btc"}, true, tr, true)),
		"template":   s.linkRules(&pool{worker: "{account}+{miner}"}, false, nil),
	} {
		if n := testing.AllocsPerRun(100, func() { out, _ = r.job(out[:0], job) }); n > 0 {
			t.Errorf("%s: got %v allocations per job, want none", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { out, _ = r.share(s, out[:0], share) }); n > 0 {
			t.Errorf("%s: got %v allocations per share, want none", name, n)
		}
	}
}
