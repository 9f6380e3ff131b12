//go:build linux && e2e

package e2e

import (
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// sharePair compares how long shares take at a daemon under faults and at a control
// daemon, which has the same load at the same time and no faults.
//
// A machine that is busy with other things delays both, but now and then, by
// chance, only one of them. So a fault that has delayed a share is repeated: what
// the fault causes happens again.
type sharePair struct {
	t *testing.T
	// These return how long the slowest share took since their last call.
	faulted, control func() time.Duration
	// limit returns how long a share may take if the control's slowest took
	// control.
	limit func(control time.Duration) time.Duration

	windows []shareWindow
	late    int // windows in which a share took too long
	again   int // how many of them in a row had the same fault
	chance  int // windows in which a share at the control daemon took too long, by the same limit
}

// shareWindow is a span in which both daemons were measured.
type shareWindow struct {
	what             string
	faulted, control time.Duration
}

const (
	// lateInARow is how often in a row a fault has to delay shares to count as the
	// cause. It is once more, up to lateChances more, for each time that the control
	// daemon was late by chance.
	lateInARow  = 3
	lateChances = 5
	// lateOneIn bounds how many windows may be late by chance, if the control daemon
	// never is. Otherwise twice as many may be late as at the control daemon.
	lateOneIn = 20
)

// begin forgets what was measured so far; the next window begins here.
func (p *sharePair) begin() {
	p.faulted()
	p.control()
}

// end ends a fault's window and begins the next. It reports whether the fault is to
// be repeated because a share took too long. The control's previous window counts
// too, because something that delays both daemons may do so on different sides of a
// window's end.
func (p *sharePair) end(what string) (repeat bool) {
	p.t.Helper()
	w := shareWindow{what, p.faulted(), p.control()}
	beside, here, same := w.control, w.faulted, false
	if n := len(p.windows); n > 0 {
		beside, here, same = max(beside, p.windows[n-1].control), max(here, p.windows[n-1].faulted), p.windows[n-1].what == what
	}
	p.windows = append(p.windows, w)
	if w.control > p.limit(here) {
		p.chance++
	}
	if w.faulted <= p.limit(beside) {
		p.again = 0
		return false
	}
	if !same {
		p.again = 0
	}
	p.late++
	p.again++
	p.t.Logf("%s: a share took %v, at the control daemon %v at most", what, w.faulted, beside)
	if p.again >= lateInARow+min(p.chance, lateChances) {
		p.t.Errorf("%s has delayed shares %d times in a row", what, p.again)
		p.again = 0
		return false
	}
	return true
}

// check logs what was measured, and fails the test if too many windows were late.
func (p *sharePair) check() {
	p.t.Helper()
	var faulted, control time.Duration
	for _, w := range p.windows {
		faulted, control = max(faulted, w.faulted), max(control, w.control)
	}
	p.t.Logf("slowest share %v, at the control daemon %v; late in %d of %d windows, and in %d at the control daemon", faulted, control, p.late, len(p.windows), p.chance)
	if most := 2 + len(p.windows)/lateOneIn + 2*p.chance; p.late > most {
		p.t.Errorf("shares were late in %d of %d windows, more than %d", p.late, len(p.windows), most)
	}
}

// slowestOf returns a function that returns how long the slowest share of some
// fleets took since its last call.
func slowestOf(fleets map[string]*stratumtest.Fleet) func() time.Duration {
	return func() (d time.Duration) {
		for _, fleet := range fleets {
			d = max(d, fleet.Latency.Quantile(1))
			fleet.Latency.Reset()
		}
		return d
	}
}
