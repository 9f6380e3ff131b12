package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// writeRuntimeState encodes st and writes it to a file.
func writeRuntimeState(path string, st *runtimeState) error {
	parts, err := encodeState(st)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := writeStateFile(path, parts); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// sampleState has a value in each field.
func sampleState() *runtimeState {
	r := &requestState{ID: json.RawMessage(`"a"`), Method: "mining.authorize", Params: json.RawMessage(`["alice.1","x"]`), Worker: "w"}
	return &runtimeState{
		Action: runtimeAction, ServerID: 7, Version: runtimeVersion, FrozenAt: time.Unix(1700000000, 5).UTC(), ChainType: "bitcoin",
		Config: defaultConfig(), ListenFD: 9, ListenAddr: "127.0.0.1:1", ServerIDOwner: 0x7fffffffffffffff, ServerIDClaims: []int64{-0x7fffffffffffffff}, NextIndex: 200,
		Wanted: map[string]string{"alice": "btc", "bob": ""}, Upgrades: 3,
		SessionDatas: []sessionState{
			{
				SessionID: 0xffffffff, MiningCoin: "btc", ClientConnFD: 10, ServerConnFD: 11, VersionMask: 0x1fffe000,
				StratumSubscribeRequest: r, StratumAuthorizeRequest: r, Phase: "relaying", HasID: true, Account: "alice", Owed: 3,
				Suggestions: []requestState{*r}, Workers: []requestState{*r}, Again: r, Agent: [][]byte{{0x7f, 1, 6, 0, 0, 0}}, Jobs: []string{"a\"b", "\x00"},
				Drains:       []linkState{{FD: 12, Coin: "bcc", Jobs: []string{"1"}, Partial: []byte("p"), Unsent: []byte{0, 255}}},
				MinerPartial: []byte("half a li"), MinerUnsent: bytes.Repeat([]byte{0, 1, 2, 255}, 1000), PoolPartial: []byte("\xff"), PoolUnsent: []byte("\n"),
			},
			{ClientConnFD: 13, ServerConnFD: -1, Phase: "handshaking"},
		},
	}
}

func TestRuntimeStateRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runtime.json")
	want := sampleState()
	for range 2 { // the second time over an existing file
		if err := writeRuntimeState(path, want); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	got, err := readRuntimeState(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
		t.Errorf("temporary files are left behind: %q", left)
	}
	// What older switchers read has the names that they expect.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Action", "ServerID", "SessionDatas", "SessionID", "MiningCoin", "ClientConnFD", "ServerConnFD",
		"StratumSubscribeRequest", "StratumAuthorizeRequest", "VersionMask", "id", "method", "params", "worker"} {
		if !bytes.Contains(content, []byte(`"`+name+`":`)) {
			t.Errorf("there is no %s in %s", name, content)
		}
	}
}

func TestRuntimeStateWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "runtime.json")
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeRuntimeState(path, sampleState()); err == nil || !strings.HasPrefix(err.Error(), "write state:") {
		t.Errorf("got error %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("files are left behind: %v", entries)
	}
	if err := writeRuntimeState(filepath.Join(dir, "no", "where"), sampleState()); err == nil {
		t.Error("writing to a bad path returned no error")
	}
}

func TestRuntimeStateOlder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runtime.json")
	const older = `{"Action":"upgrade","ServerID":3,"SessionDatas":[{"SessionID":50331776,"MiningCoin":"btc","ClientConnFD":7,"ServerConnFD":8,
		"StratumSubscribeRequest":{"id":1,"method":"mining.subscribe","params":["cgminer/4.10"]},
		"StratumAuthorizeRequest":{"id":2,"method":"mining.authorize","params":["alice.1","x"]},"VersionMask":536862720}]}`
	if err := os.WriteFile(path, []byte(older), 0o644); err != nil {
		t.Fatal(err)
	}
	st, err := readRuntimeState(path)
	if err != nil {
		t.Fatal(err)
	}
	s := st.SessionDatas[0]
	if st.ServerID != 3 || st.Version != 0 || st.ListenAddr != "" || s.SessionID != 50331776 || s.ClientConnFD != 7 || s.ServerConnFD != 8 ||
		s.VersionMask != 0x1fffe000 || string(s.StratumAuthorizeRequest.Params) != `["alice.1","x"]` {
		t.Errorf("got %+v", st)
	}
}

// FuzzRuntimeState: no content makes reading panic, and what is accepted can be
// written again.
func FuzzRuntimeState(f *testing.F) {
	content, err := json.Marshal(sampleState())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(content), ``, `{}`, `null`, `[]`, `{"Action":"upgrade","ServerID":1}`, `{"Action":"upgrade","ServerID":256}`,
		`{"Action":"upgrade","ServerID":1,"SessionDatas":[null,{},{"ClientConnFD":-5,"StratumSubscribeRequest":{"params":"x"}}]}`,
		`{"Action":"upgrade","ServerID":1,"Version":-1}`, `{"Action":"upgrade","ServerID":1,"Config":{"StratumServerMap":null}}`} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "runtime.json")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := readRuntimeState(path)
		if err != nil {
			return
		}
		if st.Action != runtimeAction || st.Version > runtimeVersion {
			t.Errorf("an invalid state was accepted: %+v", st)
		}
		if err := writeRuntimeState(path, st); err != nil {
			t.Errorf("the state cannot be written again: %v", err)
		}
	})
}
