package main

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// down makes an address refuse connections until it is taken out.
func (lab *healthLab) down(at string) {
	lab.t.Helper()
	for i := 1; i <= breakerFailures; i++ {
		lab.step(i, healthStep{do: "out", who: "+x.1", at: at, ev: evidenceConnect, want: i == breakerFailures})
	}
	lab.step(0, healthStep{do: "state", at: at, want: breakerOpen})
}

// waitUntilProbing lets an address's pause pass, which must be between least and
// most.
func (lab *healthLab) waitUntilProbing(least, most time.Duration) {
	lab.t.Helper()
	e, began := lab.endpoint("a"), lab.at
	for lab.h.state(e, true) == breakerOpen {
		if lab.h.begin(lab.dialer("y.1"), e, true) != nil {
			lab.t.Fatal("an address that is out may be dialled")
		}
		lab.at = lab.at.Add(10 * time.Millisecond)
	}
	if pause := lab.at.Sub(began); pause < least-10*time.Millisecond || pause > most+10*time.Millisecond {
		lab.t.Errorf("the pause is %v, want %v to %v", pause, least, most)
	}
	lab.step(0, healthStep{do: "state", want: breakerProbing})
}

// probes begins all the tries that an address allows, up to twice the number of
// probes.
func (lab *healthLab) probes() (begun []*attempt) {
	for i := range 2 * breakerProbes {
		if a := lab.h.begin(lab.dialer(fmt.Sprintf("probe.%d", i)), lab.endpoint("a"), false); a != nil {
			begun = append(begun, a)
		}
	}
	return begun
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	lab := newHealthLab(t)
	// Failures that are not in a row do not open it.
	for i := range 10 {
		lab.step(i, healthStep{do: "out", who: "+x.1", ev: evidenceConnect, want: false})
		lab.step(i, healthStep{do: "out", who: "+x.1", ev: evidenceConnect, want: false})
		a := lab.h.begin(lab.dialer("+x.1"), lab.endpoint("a"), false)
		a.connected()
		if a.ready() {
			t.Fatal("a success closed a breaker that was not open")
		}
		a.abandon()
	}
	lab.down("a")
	lab.waitUntilProbing(breakerPauseFirst/2, 3*breakerPauseFirst/2)
	probes := lab.probes()
	if len(probes) != breakerProbes {
		t.Fatalf("%d probes were allowed", len(probes))
	}
	probes[0].abandon()
	if probes[0] = lab.h.begin(lab.dialer("z.1"), lab.endpoint("a"), false); probes[0] == nil {
		t.Fatal("the place of a probe that was given up is not free")
	}
	if !probes[0].ready() {
		t.Fatal("the first success does not report that it closed the breaker")
	}
	lab.step(0, healthStep{do: "state", want: breakerClosed})
	if probes[1].ready() {
		t.Fatal("the second success reports it too")
	}
	probes[2].abandon()
	if n := len(lab.probes()); n != 2*breakerProbes {
		t.Fatalf("after the breaker closed, %d may dial", n)
	}
	if n := lab.endpoint("a").breaker.probes; n != 0 {
		t.Errorf("%d probes are counted, want none", n)
	}
}

// Each failed probe makes the pause longer, up to a limit, and frees its place.
func TestBreakerPauses(t *testing.T) {
	lab := newHealthLab(t)
	lab.down("a")
	for pause := breakerPauseFirst; ; pause *= 2 {
		pause = min(pause, breakerPauseSilent)
		lab.waitUntilProbing(pause/2, 3*pause/2)
		probes := lab.probes()
		if len(probes) != breakerProbes {
			t.Fatalf("%d probes were allowed after a pause of %v", len(probes), pause)
		}
		for _, a := range probes {
			if f := a.failed(evidenceConnect, nil); f.takenOut {
				t.Error("a failed probe is reported as if the address had been in use")
			}
		}
		if pause == breakerPauseSilent {
			break
		}
	}
	// A link that gets ready lets all through and keeps the pause. A link that is
	// stable resets the pause.
	lab.waitUntilProbing(breakerPauseSilent/2, 3*breakerPauseSilent/2)
	lab.step(0, healthStep{do: "ready", who: "r.1"})
	lab.down("a")
	lab.waitUntilProbing(breakerPauseSilent/2, 3*breakerPauseSilent/2)
	lab.step(0, healthStep{do: "ready", who: "s.1"})
	lab.step(0, healthStep{do: "stable", who: "s.1"})
	lab.down("a")
	lab.waitUntilProbing(breakerPauseFirst/2, 3*breakerPauseFirst/2)
}

// A link that was begun before the address was taken out may still get ready. That
// puts the address back in, and the next outage is reported like the first.
func TestBreakerLateSuccess(t *testing.T) {
	lab := newHealthLab(t)
	late := lab.h.begin(lab.dialer("+l.1"), lab.endpoint("a"), false)
	lab.down("a")
	late.connected()
	if !late.ready() {
		t.Error("the success does not report that it closed the breaker")
	}
	lab.step(0, healthStep{do: "state", want: breakerClosed})
	late.stable(true)
	var before []*attempt
	for range 10 {
		before = append(before, lab.h.begin(lab.dialer("+l.2"), lab.endpoint("a"), false))
	}
	lab.down("a")
	lab.waitUntilProbing(breakerPauseFirst/2, 3*breakerPauseFirst/2)
	// Late failures of earlier dials do not use up probes.
	for _, a := range before {
		a.failed(evidenceConnect, nil)
	}
	lab.step(0, healthStep{do: "state", want: breakerOpen})
	lab.waitUntilProbing(breakerPauseFirst, 3*breakerPauseFirst)
	if n := len(lab.probes()); n != breakerProbes {
		t.Errorf("%d probes were allowed", n)
	}
}

// With many sessions at once there are never more probes than allowed, exactly one
// session closes the breaker, and no probe is left over.
func TestBreakerRace(t *testing.T) {
	for range 50 {
		lab := newHealthLab(t)
		lab.down("a")
		lab.at = lab.at.Add(2 * breakerPauseFirst)
		e := lab.endpoint("a")
		var dialers []*dialer
		for i := range 64 {
			dialers = append(dialers, lab.dialer(fmt.Sprintf("d%d.1", i)))
		}
		var probing, most, closed atomic.Int64
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i, d := range dialers {
			all.Go(func() {
				<-begin
				for round := range 20 {
					a := lab.h.begin(d, e, false)
					if a == nil {
						continue
					}
					probe := a.probe != probeNone
					if probe {
						n := probing.Add(1)
						for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
						}
						probing.Add(-1)
					}
					if (i+round)%3 != 0 && a.ready() {
						closed.Add(1)
					}
					a.abandon()
				}
			})
		}
		close(begin)
		all.Wait()
		if most.Load() > breakerProbes || closed.Load() != 1 || e.breaker.probes != 0 || e.sockets != 0 || lab.h.state(e, true) != breakerClosed {
			t.Fatalf("there were up to %d probes, the breaker closed %d times, %d probes and %d sockets are left, %s", most.Load(), closed.Load(), e.breaker.probes, e.sockets, lab.h.state(e, true))
		}
	}
}

func TestPoolPicksAddressesInOrder(t *testing.T) {
	lab := newHealthLab(t)
	p := &pool{picksExtranonce: true}
	for _, text := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"} {
		a, err := newPoolAddress(text, &StratumServerInfo{}, lab.h)
		if err != nil {
			t.Fatal(err)
		}
		p.addresses = append(p.addresses, a)
	}
	s := &Session{
		manager: &sessionManager{health: lab.h}, account: &subAccount{name: "a"},
		auth: &authorization{authorizationForm: &authorizationForm{}, name: stratum.WorkerName{Account: "a", Miner: ".1"}}, phase: phaseReconnecting,
	}
	var begun []*attempt
	want := func(index int, wantProbe bool) {
		t.Helper()
		c := s.choose(&linking{pool: p})
		if index < 0 {
			if c.address != nil || c.obstacle != obstacleOut {
				t.Fatalf("chose %+v, want none", c)
			}
			return
		}
		if c.address != p.addresses[index] {
			t.Fatalf("chose %+v, want %s", c, p.addresses[index].text)
		}
		d := s.dialer(p)
		a := lab.h.begin(&d, c.ips[0], c.override)
		if a == nil || (a.probe != probeNone) != wantProbe {
			t.Fatalf("%s: %+v, want probe=%v", c.address.text, a, wantProbe)
		}
		begun = append(begun, a)
	}
	out := func(index int) {
		e := lab.h.endpoint(netip.MustParseAddrPort(p.addresses[index].text))
		for range breakerFailures {
			lab.h.begin(lab.dialer("+x.1"), e, false).failed(evidenceConnect, nil)
		}
	}
	want(0, false)
	want(0, false)
	out(0)
	want(1, false)
	out(1)
	want(2, false)
	out(2)
	want(-1, false)
	lab.at = lab.at.Add(2 * breakerPauseFirst) // all may be probed, beginning with the first
	begun = nil
	for i := range p.addresses {
		for range breakerProbes - 1 { // an established miner leaves a place for new ones
			want(i, true)
		}
	}
	want(-1, false)
	// The last address is back, so nobody waits for the others.
	begun[len(begun)-1].ready()
	begun[0].abandon()
	want(2, false)
	begun[1].ready()
	want(0, false)
}
