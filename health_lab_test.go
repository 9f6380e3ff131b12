package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// forgetAll resets every address to a state in which nothing has failed.
func (h *health) forgetAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = recordBook{}
	h.machine = shortage{}
	for _, e := range h.endpoints {
		e.breaker, e.mismatch, e.ports = breaker{}, breaker{}, shortage{}
		for _, row := range []*failureRow{&e.refusals, &e.jobless, &e.unsubscribed, &e.byAccount, &e.byWorker, &e.disconnects, &e.disconnectsByWorker, &e.mismatches} {
			row.reset()
		}
	}
}

// healthLab is a health with a clock of its own and some addresses.
type healthLab struct {
	t        *testing.T
	h        *health
	at       time.Time
	accounts map[string]*subAccount
	links    map[string]*attempt
	begun    map[string]*attempt
}

func newHealthLab(t *testing.T) *healthLab {
	lab := &healthLab{
		t: t, h: newHealth(), at: time.Unix(1_800_000_000, 0), accounts: make(map[string]*subAccount),
		links: make(map[string]*attempt), begun: make(map[string]*attempt),
	}
	lab.h.began, lab.h.now = lab.at, func() time.Time { return lab.at }
	lab.h.accountsHere.Store(100)
	return lab
}

func (lab *healthLab) endpoint(name string) *endpoint {
	port := map[string]uint16{"": 1, "a": 1, "b": 2}[name]
	return lab.h.endpoint(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port))
}

// dialer returns the dialer for "account.worker" or "account.worker/user agent". A
// "+" before it makes it an established miner, "back:" one that lost a link there before
// that was stable, and "own:" one of a coin whose pool picks the extranonce. "9:" makes it
// one that needs an extranonce2 of 9 bytes.
func (lab *healthLab) dialer(who string) *dialer {
	d := &dialer{new: true, session: true, userAgent: "ua"}
	if rest, ok := cutPrefix(who, "+"); ok {
		who, d.new, d.served = rest, false, true
	}
	if rest, ok := cutPrefix(who, "back:"); ok {
		who, d.new, d.returning = rest, false, true
	}
	if rest, ok := cutPrefix(who, "own:"); ok {
		who, d.session = rest, false
	}
	if size, rest, ok := strings.Cut(who, ":"); ok {
		fmt.Sscan(size, &d.needs)
		who = rest
	}
	for i := range who {
		if who[i] == '/' {
			who, d.userAgent = who[:i], who[i+1:]
			break
		}
	}
	d.worker = who
	name := stratum.SplitWorker(who).Account
	if lab.accounts[name] == nil {
		lab.accounts[name] = &subAccount{name: name}
	}
	d.account = lab.accounts[name]
	return d
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return s, false
}

// healthStep is something that happens or is wanted.
type healthStep struct {
	do   string        // begin, connect, subscribe, ready, stable, heard, lost, fail, end, wait, may, state, out
	who  string        // the dialer, see there
	ev   evidence      // what fail shows
	wait time.Duration // time that passes before the step
	at   string        // the address; "" means "a"

	want any // breakerState, obstacle or blame; for out, whether the address was taken out
}

func (lab *healthLab) step(i int, st healthStep) {
	t := lab.t
	t.Helper()
	lab.at = lab.at.Add(st.wait)
	e, key := lab.endpoint(st.at), st.who+"@"+st.at
	fail := func(got any) {
		t.Helper()
		t.Errorf("step %d, %s %s %s: got %v, want %v", i, st.do, st.who, st.ev, got, st.want)
	}
	start := func() *attempt {
		a := lab.begun[key]
		if delete(lab.begun, key); a == nil {
			a = lab.h.begin(lab.dialer(st.who), e, true)
		}
		if a == nil {
			t.Fatalf("step %d, %s %s: the dial is not allowed", i, st.do, st.who)
		}
		return a
	}
	switch st.do {
	case "wait":
	case "begin":
		lab.begun[key] = start()
	case "fail", "out":
		f := start().failed(st.ev, nil)
		if st.do == "out" {
			if f.takenOut != st.want.(bool) {
				fail(f.takenOut)
			}
		} else if st.want != nil && f.blame != st.want.(blame) {
			fail(f.blame)
		}
	case "ready", "stable":
		a := lab.links[key]
		if a == nil {
			a = start()
			a.connected()
			a.subscribed()
			a.ready()
			lab.links[key] = a
		}
		if st.do == "stable" {
			a.stable(true)
		}
	case "heard":
		e.heardAt.Store(lab.h.moment(lab.at))
	case "disconnect":
		a := lab.links[key]
		delete(lab.links, key)
		if f := a.failed(evidenceUnstable, nil); st.want != nil && f.blame != st.want.(blame) {
			fail(f.blame)
		}
	case "lost": // a stable link is lost
		a := lab.links[key]
		delete(lab.links, key)
		lab.h.stableEnded(a.dialer.account, e, true)
	case "may":
		if v := lab.h.mayDial(lab.dialer(st.who), e); v.obstacle != st.want.(obstacle) {
			fail(v.obstacle)
		}
	case "suspect":
		if got := lab.h.suspect(lab.dialer(st.who), e); got != st.want.(bool) {
			fail(got)
		}
	case "elsewhere": // whether another address is better
		v := lab.h.mayDial(lab.dialer(st.who), e)
		if got := v.rank(false) <= rankSuspect; got != st.want.(bool) {
			fail(got)
		}
	case "state":
		if got := lab.h.state(e, true); got != st.want.(breakerState) {
			fail(got)
		}
	default:
		t.Fatalf("step %d has the unknown action %s", i, st.do)
	}
}

// times repeats steps for several parties.
func each(st healthStep, who ...string) (steps []healthStep) {
	for _, w := range who {
		st.who = w
		steps = append(steps, st)
	}
	return steps
}
