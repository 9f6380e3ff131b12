package stratum

import (
	"fmt"
	"testing"
)

func rolled(bits string) []byte {
	if bits != "" {
		bits = `,"` + bits + `"`
	}
	return fmt.Appendf(nil, `{"id":4,"method":"mining.submit","params":["alice.1","job","00000000","69201234","deadbeef"%s]}`+"\n", bits)
}

func TestRollingStops(t *testing.T) {
	for _, c := range []struct {
		name  string
		bits  []string // version bits of consecutive shares of a miner that has been seen to roll
		stops bool
	}{
		{"no parameter", []string{"", "", ""}, true},
		{"too few to tell", []string{"", ""}, false},
		{"none set", append(make([]string, 0), repeated("00000000", 24)...), true},
		{"none set by chance", append(repeated("00000000", 15), "00002000"), false},
		{"now and then", []string{"", "", "00002000", "", "", "00002000"}, false},
	} {
		var r Rolling
		for range 100 {
			r.ObserveShare(rolled("1fffe000"))
		}
		r.Recheck() // it has not been seen to roll yet
		for range 3 {
			if r.ObserveShare(rolled("")) {
				t.Errorf("%s: a miner counts as stopped after 100 shares only", c.name)
			}
		}
		if r.ObserveShare(rolled("00002000")); r.NeedsShare() {
			t.Errorf("%s: a miner does not count as rolling after over 100 shares", c.name)
		}
		r.Recheck()
		stopped := false
		for _, bits := range c.bits {
			stopped = r.ObserveShare(rolled(bits)) || stopped
		}
		if stopped != c.stops || (r.Loss() == RollingStopped) != c.stops {
			t.Errorf("%s: stopped is %v, loss %v", c.name, stopped, r.Loss())
		}
		if c.stops {
			// A stop is reported once. A share that is rolled ends the loss.
			if r.Recheck(); !r.NeedsShare() || r.ObserveShare(rolled("")) {
				t.Errorf("%s: the stop is reported again", c.name)
			}
			if r.ObserveShare(rolled("00002000")); r.Loss() != RollingKept || r.NeedsShare() {
				t.Errorf("%s: it rolls again, but its loss is %v", c.name, r.Loss())
			}
		}
	}
}

func repeated(text string, n int) (all []string) {
	for range n {
		all = append(all, text)
	}
	return all
}

func TestRollingMask(t *testing.T) {
	var r Rolling
	for _, step := range []struct {
		before, now uint32
		narrower    bool
		loss        RollingLoss
	}{
		{0x1fffe000, 0x1fffe000, false, RollingKept},
		{0x1fffe000, 0x00ffe000, true, RollingNarrower},
		{0x00ffe000, 0x00ffe000, false, RollingNarrower},
		{0x00ffe000, 0x0000e000, false, RollingNarrower}, // the loss is known already
		{0x0000e000, 0x1fffe000, false, RollingKept},
		{0x1fffe000, 0, true, RollingNarrower},
		{0, 0x1fffe000, false, RollingKept},
	} {
		if narrower := r.ObserveMask(step.before, step.now); narrower != step.narrower || r.Loss() != step.loss {
			t.Errorf("from %x to %x: narrower is %v, loss %v", step.before, step.now, narrower, r.Loss())
		}
	}
}

// Any byte of a state file is a valid state to continue from.
func TestRollingAnyState(t *testing.T) {
	for b := range 256 {
		r := Rolling(b)
		for range 200 {
			r.ObserveShare(rolled(""))
			r.Recheck()
		}
		r.ObserveMask(1, 3)
		for range 200 {
			r.ObserveShare(rolled("2000"))
		}
		if r.NeedsShare() || r.Loss() != RollingKept {
			t.Errorf("state %d leads to the impossible state %d", b, r)
		}
		r.ObserveShare([]byte("{"))
		_ = r.Loss().String()
	}
}
