package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
)

// The configuration that tests of the built daemon write has the same keys and
// defaults as the daemon's own.
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
	wantSameJSON(t, own, written)
}

// wantSameJSON compares the JSON text of the daemon's type with that of its tests, key by
// key.
func wantSameJSON(t *testing.T, own, written any) {
	t.Helper()
	a, b := indentedJSON(t, own), indentedJSON(t, written)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("the daemon has the line %s where its tests have %s", a[i], b[i])
			return
		}
	}
	if len(a) != len(b) {
		t.Errorf("the daemon has %d lines, its tests have %d", len(a), len(b))
	}
}

// indentedJSON returns the lines of v as JSON, one key per line.
func indentedJSON(t *testing.T, v any) []string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// The state file that tests of the built daemon write is read like one of the
// daemon's own, and a broken byte costs the session that contains it.
func TestDaemontestStateFile(t *testing.T) {
	type session struct {
		SessionID uint32
		Account   string
	}
	members := map[string]any{"Action": runtimeAction, "Version": runtimeVersion, "ServerID": 3, "Wanted": map[string]string{"alice": "btc"}}
	for _, sessions := range [][]any{nil, {session{1, "alice"}}, {session{1, "alice"}, session{2, "bob"}, session{3, "carol"}}} {
		content, err := daemontest.StateFile(members, sessions)
		if err != nil {
			t.Fatal(err)
		}
		st, err := decodeState(content)
		if err != nil || !isSealed(content) || len(st.SessionDatas) != len(sessions) || st.ServerID != 3 || st.Wanted["alice"] != "btc" || st.unreadable > 0 {
			t.Fatalf("%s\nis read as %+v, %v", content, st, err)
		}
		if len(sessions) == 0 {
			continue
		}
		if decodeLines(content) == nil {
			t.Errorf("%s is not read by lines", content)
		}
		at := bytes.Index(content, []byte("alice\",\"Sum"))
		content[at] = 'b'
		if st, err = decodeState(content); err != nil || len(st.SessionDatas) != len(sessions)-1 || st.unreadable != 1 {
			t.Errorf("%s\nis read as %+v, %v", content, st, err)
		}
		content[at] = 'a'
		content[bytes.Index(content, []byte(`"Wanted"`))] = 'x'
		if st, err = decodeState(content); err != nil || len(st.SessionDatas) != len(sessions) || st.ServerID != 3 {
			t.Errorf("%s\nis read as %+v, %v", content, st, err)
		}
	}
}
