//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// If a link is taken over from a build whose own ids were words, the answers to its
// requests are still kept from the miner.
func TestResumeLinkWithFormerIDs(t *testing.T) {
	var st *stratum.OwnRequestsState
	fresh := st.Requests()
	if id, ok := fresh.Issue(); id != stratum.FirstOwnID || !ok {
		t.Errorf("the first id of an own request is %d, %v", id, ok)
	}
	o := stratum.NewOwnRequests()
	id, _ := o.Issue()
	o.Expect(id)
	s, l := &Session{}, &link{ownRequests: o, tag: 1}
	if wire, ok := s.wireID(l, []byte("2147400000")); !ok || string(wire) != "2147400001" {
		t.Fatalf("the request was sent as %s, %v", wire, ok)
	}
	text, err := json.Marshal(l.ownRequests.State())
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if got := st.Requests(); err != nil || !reflect.DeepEqual(got, l.ownRequests) {
		t.Errorf("%s: got %+v, want %+v: %v", text, got, l.ownRequests, err)
	}

	b, _, _ := benchSession(t, true)
	b.link.ownRequests.Former = 2
	before := b.miner.Backlog()
	for _, id := range []string{stratum.FormerSuggest, stratum.FormerWorker} {
		line := []byte(goodAnswer(id) + "\n")
		sc := stratum.ScanPoolLine(line)
		if b.plainPoolLine(line, &sc, func() {}) || b.miner.Backlog() != before {
			t.Errorf("the miner gets the answer to %s", id)
		}
	}
	line := []byte(goodAnswer(stratum.FormerSuggest) + "\n") // from now on this id is the miner's
	if sc := stratum.ScanPoolLine(line); !b.plainPoolLine(line, &sc, func() {}) {
		t.Error("the miner's own answer is kept from it")
	}
}
