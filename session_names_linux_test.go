//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// A link that is taken over gets the names that its pool has authorized, also from
// a build that wrote no rules for names.
func TestResumedLinkRenames(t *testing.T) {
	sw := startSwitcher(t, newMemoryCoins(nil), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: "127.0.0.1:1", UserSuffix: "btc"}}
	})
	for _, c := range []struct {
		name     string
		worker   stratum.WorkerName
		suffixed bool
		want     string // "" means that no line is rewritten
	}{
		{"equal", stratum.WorkerName{Account: "alice", Miner: ".1"}, false, ""},
		{"suffix", stratum.WorkerName{Account: "alice", Miner: ".1"}, true, "alice_btc.1"},
		{"dropped characters", stratum.WorkerName{Account: "alice", Miner: ".1", Sent: "alice.~1"}, false, "alice.1"},
		{"case", stratum.WorkerName{Account: "alice", Miner: ".1", Sent: "Alice.1"}, true, "alice_btc.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Session{manager: sw.sessionManager, account: &subAccount{name: "alice"}, auth: &authorization{authorizationForm: &authorizationForm{}, name: c.worker}}
			check := func(st linkState) {
				t.Helper()
				if err := s.restoreLink(st); err != nil {
					t.Fatal(err)
				}
				r := s.link.rules
				if (r != nil) != (c.want != "") {
					t.Fatalf("unexpected rules %+v", r)
				}
				if r == nil {
					return
				}
				form := func(name string) string {
					return `{"id":7,"method":"mining.submit","params":["` + name + `","j","00","01","02"]}` + "\n"
				}
				if got, ok := r.share(s, nil, []byte(form(c.worker.AsSent()))); !ok || string(got) != form(c.want) {
					t.Errorf("rewritten is %t, with the name %q", ok, got)
				}
			}
			check(linkState{Coin: "btc", FD: -1, Suffixed: c.suffixed}) // the state that an earlier build wrote
			text, err := json.Marshal(s.linkState(s.link))
			var st linkState
			if err == nil {
				err = json.Unmarshal(text, &st)
			}
			if err != nil {
				t.Fatal(err)
			}
			check(st)
		})
	}
}
