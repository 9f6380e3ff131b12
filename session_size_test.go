package main

import (
	"testing"
	"unsafe"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Each of these is allocated for every session. Go's allocator rounds sizes up, so
// one byte more than a bound costs 8 to 64 bytes for each session.
func TestSessionSizes(t *testing.T) {
	for _, c := range []struct {
		name      string
		size, max uintptr
	}{
		{"Session", unsafe.Sizeof(Session{}), 384},
		{"link", unsafe.Sizeof(link{}), 128},
		{"attempt", unsafe.Sizeof(attempt{}), 96},
		{"authorization", unsafe.Sizeof(authorization{}), 64},
		{"Subscription", unsafe.Sizeof(stratum.Subscription{}), 48},
		{"OwnRequests in a link", unsafe.Sizeof(stratum.OwnRequests{}), 16},
		{"JobTable in a link", unsafe.Sizeof(stratum.JobTable{}), 32},
	} {
		if c.size > c.max {
			t.Errorf("%s takes %d bytes, want at most %d", c.name, c.size, c.max)
		}
	}
}
