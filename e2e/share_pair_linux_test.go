//go:build linux && e2e

package e2e

import (
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// sharePair compares how long shares take at a daemon under faults with how long
// they take at a control daemon, which has the same load in the same moments and
// no faults. A machine that is busy with other things delays both.
type sharePair struct {
	t *testing.T
	// These return how long the slowest share took since their last call.
	faulted, control func() time.Duration
	windows          []shareWindow
}

// shareWindow is a span in which both daemons were measured.
type shareWindow struct {
	what             string
	faulted, control time.Duration
}

// begin forgets what was measured so far: the next window begins here.
func (p *sharePair) begin() {
	p.faulted()
	p.control()
}

// end ends a window. The next one begins.
func (p *sharePair) end(what string) {
	p.windows = append(p.windows, shareWindow{what, p.faulted(), p.control()})
}

// check wants no share under faults to take longer than limit makes of the
// control's slowest one of that window or of the one before or after it: what
// delays both daemons may do so on different sides of a window's end.
func (p *sharePair) check(limit func(control time.Duration) time.Duration) {
	p.t.Helper()
	var faulted, control, more time.Duration
	for i, w := range p.windows {
		beside := w.control
		for _, near := range p.windows[max(0, i-1):min(len(p.windows), i+2)] {
			beside = max(beside, near.control)
		}
		faulted, control, more = max(faulted, w.faulted), max(control, w.control), max(more, w.faulted-beside)
		if w.faulted > limit(beside) {
			p.t.Errorf("%s: a share took %v, at the control daemon %v at most", w.what, w.faulted, beside)
		}
	}
	p.t.Logf("slowest share %v, at the control daemon %v; in %d windows at most %v more", faulted, control, len(p.windows), more)
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
