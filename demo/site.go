package main

import (
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	shareBits     = 12 // a share is 4096 hashes of work
	hashrateOver  = 5 * time.Second
	hashrateAfter = time.Second // no figure before
)

// site is a simulated pool and what is shown of it.
type site struct {
	*stratumtest.Pool
	down    bool
	samples []sample // of the last seconds, oldest first
}

// sample is how many shares a pool had accepted when.
type sample struct {
	at       time.Time
	accepted uint64
}

// newSite starts a pool. Its jobs never make each other stale, so that every
// refused share would be the switcher's doing.
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

// hashrate is what the pool's shares of the last seconds are worth, in hashes
// per second. It is -1 while too little is known.
func (s *site) hashrate(now time.Time) float64 {
	s.samples = append(s.samples, sample{now, s.Stats().Accepted})
	for len(s.samples) > 2 && now.Sub(s.samples[1].at) >= hashrateOver {
		s.samples = s.samples[1:]
	}
	first := s.samples[0]
	over := now.Sub(first.at)
	if over < hashrateAfter {
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
