package hashrate

import (
	"math"
	"testing"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		want      string
	}{
		{0, "0 H/s"}, {1, "1 H/s"}, {1.5, "1.50 H/s"}, {12.34, "12.3 H/s"}, {999, "999 H/s"}, {999.4, "999 H/s"}, {999.5, "1.00 kH/s"},
		{1000, "1.00 kH/s"}, {9994, "9.99 kH/s"}, {9995, "10.0 kH/s"}, {99949, "99.9 kH/s"}, {99950, "100 kH/s"}, {999499, "999 kH/s"}, {999500, "1.00 MH/s"},
		{12.3e12, "12.3 TH/s"}, {234e12, "234 TH/s"}, {1.08e18, "1.08 EH/s"}, {7e23, "700 ZH/s"}, {5e24, "5.00 YH/s"}, {5e28, "50000 YH/s"},
		{-1, "unknown"}, {math.NaN(), "unknown"}, {math.Inf(1), "unknown"},
	} {
		if got := Format(c.perSecond); got != c.want {
			t.Errorf("%v: %q, want %q", c.perSecond, got, c.want)
		}
	}
	if got := FormatWork(12.3e12); got != "12.3 TH" {
		t.Errorf("the work is written %q", got)
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		hashes, seconds float64
		unknown         bool
		want            string
	}{
		{12e12, 1, false, "12.0 TH/s"},
		{12e12, 4, true, "at least 3.00 TH/s"},
		{0, 60, false, "0 H/s"},
		{0, 60, true, "unknown"},
		{12e12, 0, false, "0 H/s"},
	} {
		r := rate(c.hashes, c.seconds, c.unknown)
		if got := r.String(); got != c.want {
			t.Errorf("%+v is written %q", c, got)
		}
		if _, ok := r.Value(); ok != (c.want != "unknown") {
			t.Errorf("%+v counts as having a value: %t", c, ok)
		}
	}
}
