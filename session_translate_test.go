package main

import (
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// notifyOf returns a job of about size bytes. As in most jobs, its branches make it
// long.
func notifyOf(size int) []byte {
	var branches []string
	line := func() string {
		return `{"id":null,"method":"mining.notify","params":["5f1a2b","` + strings.Repeat("ab", 32) + `","` + strings.Repeat("01", 60) + `","` + strings.Repeat("02", 90) +
			`",[` + strings.Join(branches, ",") + `],"20000000","17034219","65a0b1c2",false]}` + "\n"
	}
	for len(line()) < size {
		branches = append(branches, `"`+strings.Repeat("cd", 32)+`"`)
	}
	return []byte(line())
}

// Relaying with a translation allocates nothing per line.
func TestTranslateAllocates(t *testing.T) {
	if raceDetector {
		return // the race detector allocates itself
	}
	sw := startSwitcher(t, newMemoryCoins(nil), nil, func(c *Config) { c.StratumServerMap = map[string]StratumServerInfo{"a": {URL: "127.0.0.1:1"}} })
	tr := &stratum.Translation{Coinb1: "f0000001", Before: "00000080", Digits: 6}
	s := &Session{manager: sw.sessionManager, account: &subAccount{name: "alice", shares: new(hashrate.Counter)}, auth: &authorization{name: stratum.SplitWorker("alice.w")}}
	job, share := notifyOf(1400), []byte(ownShare(1, "j", "aabbcc"))
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
