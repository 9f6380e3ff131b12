//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Own requests without an answer, and requests of the miner under own ids, are
// known after an upgrade, of the link in use and of a former one.
func TestUpgradeKeepsOwnRequests(t *testing.T) {
	t.Parallel()
	sc := &scene{t: t, pools: make(map[string]*scriptedPool)}
	c := fileConfig()
	c.DrainSeconds = 600
	for _, name := range []string{"btc", "bcc"} {
		sc.pools[name] = startScriptedPool(t)
		c.StratumServerMap[name] = StratumServerInfo{URL: sc.pools[name].addr(), UserSuffix: name}
	}
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	sc.miner = stratumtest.DialRaw(t, p.addr)
	btc := sc.begin("btc")
	sc.miner.SendLine(`{"id":3,"method":"mining.authorize","params":["alice.2"]}`)
	btc.ExpectMethod("mining.authorize")
	btc.SendLine(goodAnswer("3"))
	sc.miner.ExpectLine(goodAnswer("3"))
	p.setCoins(map[string]string{"alice": "bcc"})
	bcc := sc.serve("bcc", "bcc-1")
	bcc.ExpectLine(`{"id":2147400002,"method":"mining.authorize","params":["alice.2"]}`)
	sc.expectWork("bcc-1")
	sc.miner.SendLine(shareLine("2147400002", "bcc-1"))
	bcc.ExpectLine(shareLine("2147400003", "bcc-1"))
	sc.share(btc, "2147400002", "btc-1") // there it is no own one
	p.goodUpgrade()
	sc.miner.SendLine(shareLine(`"2147400002"`, "bcc-1"))
	bcc.ExpectLine(shareLine("2147400004", "bcc-1"))
	bcc.SendLine(goodAnswer("2147400002")) // the worker's
	bcc.SendLine(goodAnswer("2147400004"))
	sc.miner.ExpectLine(goodAnswer(`"2147400002"`))
	sc.answered(btc, "2147400002")
	bcc.SendLine(goodAnswer("2147400003"))
	sc.miner.ExpectLine(goodAnswer("2147400002"))
}

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
