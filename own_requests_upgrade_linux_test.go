//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"reflect"
	"testing"
)

// A link taken over from a build whose own ids were words still has its answers
// kept from the miner.
func TestResumeLinkWithFormerIDs(t *testing.T) {
	var st *ownState
	if o := st.requests(); o == nil || o.next != firstOwnID {
		t.Errorf("own requests %+v", o)
	}
	o := newOwnRequests()
	id, _ := o.issue()
	o.expect(id)
	s := &Session{}
	if wire, ok := s.wireID(&link{own: o, tag: 1}, []byte("2147400000")); !ok || string(wire) != "2147400001" {
		t.Fatalf("sent as %s, %v", wire, ok)
	}
	text, err := json.Marshal(o.state())
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if got := st.requests(); err != nil || !reflect.DeepEqual(got, o) {
		t.Errorf("%s: %+v, want %+v: %v", text, got, o, err)
	}

	b, _, _ := benchSession(t, true)
	b.link.formerAnswers = 2
	before := b.miner.Backlog()
	for _, id := range []string{formerSuggest, formerWorker} {
		line := []byte(goodAnswer(id) + "\n")
		sc := scanPoolLine(line)
		if b.plainPoolLine(line, &sc, func() {}) || b.miner.Backlog() != before {
			t.Errorf("the miner gets the answer to %s", id)
		}
	}
	line := []byte(goodAnswer(formerSuggest) + "\n") // the miner's own from now on
	if sc := scanPoolLine(line); !b.plainPoolLine(line, &sc, func() {}) {
		t.Error("the miner's own answer is kept from it")
	}
}
