//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The next process knows which further workers wait for an answer, and no others.
func TestUnansweredWorkersSurviveAnUpgrade(t *testing.T) {
	s, _, _ := benchSession(t, true)
	s.auth = &authorization{&authorizationForm{}, stratum.SplitWorker("alice.1")}
	for _, name := range []string{"alice.2", "alice.3"} {
		if !s.rememberWorker(&extraWorker{method: "mining.authorize", name: stratum.SplitWorker(name)}) {
			t.Fatal("a worker is not kept")
		}
	}
	s.expectWorker(s.workers[1], []byte(`"x"`))
	next := &Session{manager: s.manager, link: s.link, auth: s.auth}
	var states []requestState
	for _, w := range s.workers {
		text, err := json.Marshal(workerState(w.askedState(), w.method, w.name, w.rest))
		var st requestState
		if err == nil {
			err = json.Unmarshal(text, &st)
		}
		if err != nil {
			t.Fatal(err)
		}
		w, err := workerOf(func(full, _ string) stratum.WorkerName { return stratum.SplitWorker(full) }, &st)
		if err != nil {
			t.Fatal(err)
		}
		states, next.workers = append(states, st), append(next.workers, w)
	}
	next.restoreAsked(states)
	if a := next.askedAs(s.link.tag, []byte(`"x"`)); a == nil || a.worker != next.workers[1] || len(next.asked()) != 1 {
		t.Errorf("the next process knows %+v", next.asked())
	}
}

// The same holds for a request to change the first worker's password.
func TestUnansweredPasswordSurvivesAnUpgrade(t *testing.T) {
	s, _, _ := benchSession(t, true)
	s.auth = &authorization{&authorizationForm{method: "mining.authorize", rest: [][]byte{[]byte(`"x"`)}}, stratum.SplitWorker("alice.1")}
	w := &extraWorker{method: "mining.authorize", name: s.auth.name, rest: [][]byte{[]byte(`"d=4096"`), []byte(`"y"`)}}
	s.expectWorker(w, []byte("5"))
	next := &Session{manager: s.manager, link: s.link, auth: s.auth}
	next.restoreAgain(workerState(s.askedAgain().id, w.method, w.name, w.rest))
	a := next.askedAgain()
	if a == nil || string(a.id) != "5" || a.tag != s.link.tag || len(a.worker.rest) != 2 || string(a.worker.rest[0]) != `"d=4096"` {
		t.Errorf("the next process knows %+v", a)
	}
}
