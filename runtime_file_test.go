package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// manySessions returns a state with sessions whose strings contain the separators
// of the file.
func manySessions(n int) *runtimeState {
	st := &runtimeState{Action: runtimeAction, Version: runtimeVersion, ServerID: 3, Wanted: map[string]string{sessionsNone: "btc"}}
	for i := range n {
		st.SessionDatas = append(st.SessionDatas, sessionState{
			SessionID: uint32(i), Account: fmt.Sprintf("a%d,\n{\n]\"SessionDatas\":[\n", i), Agent: [][]byte{[]byte(sessionsNext)},
			StratumAuthorizeRequest: &requestState{ID: json.RawMessage("1"), Method: sessionsEnd, Params: json.RawMessage(`["x\n]"]`)},
		})
	}
	return st
}

func encoded(t *testing.T, st *runtimeState) []byte {
	t.Helper()
	parts, err := encodeState(st)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Join(parts, nil)
}

// What is encoded in parallel is the same JSON for any reader.
func TestStateFileIsOneJSON(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 1000} {
		want := manySessions(n)
		content := encoded(t, want)
		if !json.Valid(content) {
			t.Fatalf("%d sessions: the file is not JSON", n)
		}
		if fast := decodeLines(content) != nil; fast != (n > 0) {
			t.Errorf("%d sessions: the file was decoded by lines: %v", n, fast)
		}
		got, err := decodeState(content)
		if err != nil {
			t.Fatal(err)
		}
		var plain runtimeState
		if err := stratum.JSON.Unmarshal(content, &plain); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, &plain) {
			t.Errorf("%d sessions: reading by lines differs from plain reading", n)
		}
		if len(got.SessionDatas) != n || n > 0 && !reflect.DeepEqual(got.SessionDatas[n-1].Account, want.SessionDatas[n-1].Account) {
			t.Errorf("%d sessions: got %d", n, len(got.SessionDatas))
		}
	}
}

// A file whose lines are split at other places, or that is cut off, is read like
// any JSON.
func TestStateFileOfOtherLines(t *testing.T) {
	content := encoded(t, manySessions(5))
	var compact, indented bytes.Buffer
	if err := json.Compact(&compact, content); err != nil {
		t.Fatal(err)
	}
	if err := json.Indent(&indented, content, "", ""); err != nil {
		t.Fatal(err)
	}
	broken := bytes.Replace(indented.Bytes(), []byte(`"SessionDatas": [`), []byte(`"SessionDatas":[`), 1) // it begins like a file that is split into lines
	for _, other := range [][]byte{compact.Bytes(), indented.Bytes(), broken} {
		st, err := decodeState(other)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.SessionDatas) != 5 || st.SessionDatas[4].SessionID != 4 {
			t.Errorf("got %d sessions", len(st.SessionDatas))
		}
	}
	for cut := range content {
		if _, err := decodeState(content[:cut]); err == nil {
			t.Fatalf("there is no error for a file cut after %d of %d bytes", cut, len(content))
		}
	}
}
