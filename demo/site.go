package main

import (
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	shareBits    = 12              // a share is 4,096 hashes of work
	hashrateSpan = 5 * time.Second // the time over which hashrates are averaged
	hashrateMin  = time.Second     // the shortest time for which a hashrate is shown
)

// site is a simulated pool and what the demo shows about it.
type site struct {
	*stratumtest.Pool
	down    bool
	samples []sample // of the last hashrateSpan, oldest first
}

// sample is how many shares a pool had accepted at some time.
type sample struct {
	at       time.Time
	accepted uint64
}

// newSite starts a pool. Its jobs do not make earlier ones stale, so the pool refuses a
// share only if the switcher makes a mistake.
func newSite(name string) (*site, error) {
	p, err := stratumtest.NewPool(stratumtest.PoolOptions{
		Name:        name,
		ShareBits:   shareBits,
		JobInterval: 2 * time.Second,
		CleanEvery:  1 << 30,
		VersionMask: 0x1fffe000,
	})
	if err != nil {
		return nil, err
	}
	return &site{Pool: p}, nil
}

// hashrate returns the work of the pool's shares of the last seconds, in hashes per
// second. It is -1 in the first hashrateMin.
func (s *site) hashrate(now time.Time) float64 {
	s.samples = append(s.samples, sample{now, s.Stats().Accepted})
	for len(s.samples) > 2 && now.Sub(s.samples[1].at) >= hashrateSpan {
		s.samples = s.samples[1:]
	}
	first := s.samples[0]
	over := now.Sub(first.at)
	if over < hashrateMin {
		return -1
	}
	shares := s.samples[len(s.samples)-1].accepted - first.accepted
	return float64(shares) * (1 << shareBits) / over.Seconds()
}

func hashrateText(perSecond float64) string {
	if perSecond < 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f kH/s", perSecond/1000)
}
