//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// What a link knows about difficulties survives an upgrade, and one from a build
// that did not know any.
func TestWorkInTheStateOfALink(t *testing.T) {
	p := &pool{coin: "btc", addresses: []*poolAddress{{text: "pool:1"}}, links: make([]linkCounts, 1)}
	l := &link{pool: p, address: p.addresses[0], tag: 3, difficultySet: true, ownRequests: stratum.NewOwnRequests()}
	for i, d := range []hashrate.Difficulty{4, 4, 64} {
		l.work.SetDifficulty(d, 100)
		l.jobs.Add(fmt.Append(nil, i), nil, l.work.Job(100), stratum.MaxLinkJobs)
	}
	l.work.SetDifficulty(1024, 110) // this is for the next job
	m := &sessionManager{pools: map[string]*pool{"btc": p}}
	var ss sessionState
	ss.setLink(l.state(m, 130))
	text, err := json.Marshal(&ss)
	if err != nil {
		t.Fatal(err)
	}
	read := func(text []byte) *link {
		var ss sessionState
		if err := json.Unmarshal(text, &ss); err != nil {
			t.Fatal(err)
		}
		st := ss.linkInUse()
		return st.link(p, 7)
	}
	again := read(text)
	for id, want := range []hashrate.Difficulty{4, 4, 64} {
		if got := again.work.Difficulty(again.generationOfJob(fmt.Append(nil, id))); got != want {
			t.Errorf("job %d has difficulty %v, want %v", id, got, want)
		}
	}
	again.jobs.Add([]byte("new"), nil, again.work.Job(8), stratum.MaxLinkJobs)
	if got := again.work.Difficulty(again.generationOfJob([]byte("new"))); got != 1024 {
		t.Errorf("the next job has difficulty %v", got)
	}

	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	delete(members, "Work")
	delete(members, "Generations")
	if text, err = json.Marshal(members); err != nil {
		t.Fatal(err)
	}
	older := read(text)
	if d := older.work.Difficulty(older.generationOfJob([]byte("2"))); d.Known() || !older.difficultySet {
		t.Errorf("a build without difficulties left the difficulty %v, set by the pool %v", d, older.difficultySet)
	}
	older.work.SetDifficulty(32, 9)
	older.jobs.Add([]byte("new"), nil, older.work.Job(9), stratum.MaxLinkJobs)
	for id, want := range map[string]hashrate.Difficulty{"2": hashrate.Unknown, "new": 32} {
		if d := older.work.Difficulty(older.generationOfJob([]byte(id))); d != want {
			t.Errorf("after an older build job %s has difficulty %v, want %v", id, d, want)
		}
	}
}
