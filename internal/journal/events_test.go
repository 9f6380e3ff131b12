package journal

import (
	"fmt"
	"strings"
	"testing"
)

func TestEventsAreFoldedAndBounded(t *testing.T) {
	var l Events
	for range 1000 {
		l.Add(Bad, Key{Kind: Refusal, What: "silent"}, "again")
	}
	l.Add(Note, Key{Kind: Switch, What: "coin changed", Account: "alice", Coin: "btc", To: "bcc"}, "")
	for i := range 10 * EventsKept {
		l.Add(Bad, Key{Kind: Refusal, What: "unknown_sub_account", Account: fmt.Sprint(i)}, strings.Repeat("é", 400))
	}
	l.Add(Bad, Key{Kind: Refusal, What: "silent"}, "once more")
	all := l.All()
	if len(all) != EventsKept+1 {
		t.Fatalf("got %d events", len(all))
	}
	if all[0].Detail != "once more" || all[0].Count != 1 || all[1].Account != fmt.Sprint(10*EventsKept-1) {
		t.Errorf("unexpected first events %+v", all[:2])
	}
	if n := len(all[1].Detail); n > MaxText+len("…") || strings.ContainsRune(all[1].Detail, '\ufffd') {
		t.Errorf("a detail has %d bytes, which is too many", n)
	}
	if last := all[len(all)-1]; last.Account != "alice" {
		t.Errorf("the switch is missing: %+v", last)
	}
	// What a former process hands over is taken unchanged, and only once.
	var next Events
	next.Restore(all)
	next.Restore(append(all, Event{Key: Key{Kind: kinds}}, Event{Level: Level(len(levelNames))}))
	restored := next.All()
	if len(restored) != len(all) {
		t.Fatalf("%d of %d events were restored", len(restored), len(all))
	}
	for i := range all {
		if restored[i] != all[i] {
			t.Fatalf("event %d is %+v, want %+v", i, restored[i], all[i])
		}
	}
}
