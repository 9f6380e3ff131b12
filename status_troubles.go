package main

import (
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

// This file finds the sub-accounts with which something is wrong, so that operators
// need not look for them among thousands.

const (
	// troubleRefused is the percentage of refused shares that counts as trouble.
	troubleRefused = 5

	// troubleSwitch is how long after a change of coin miners may still be at another
	// coin before that counts as trouble.
	troubleSwitch = time.Minute
)

// accountTroubles describes in words what is wrong with a sub-account at the moment. A
// failed connection alone is not listed, because the next attempt may succeed.
func (m *sessionManager) accountTroubles(r *accountRow, now time.Time) (troubles []string) {
	if r.Miners == 0 {
		return nil
	}
	elsewhere := 0
	for coin, n := range r.Mining {
		if coin != r.Wanted {
			elsewhere += n
		}
	}
	switch {
	case r.Wanted == "":
		troubles = append(troubles, "coin deleted")
	case m.pools[r.Wanted] == nil:
		troubles = append(troubles, "coin without a pool")
	case elsewhere > 0 && now.Sub(time.Unix(r.LastSwitch, 0)) >= troubleSwitch:
		troubles = append(troubles, countMiners(elsewhere)+" not at "+r.Wanted)
	}
	if r.manyRefused && r.Refused != nil && *r.Refused >= troubleRefused {
		troubles = append(troubles, fmt.Sprintf("%.0f %% refused", *r.Refused))
	}
	if whollyKnown(r.work.rates, hashrate.QuarterHour) == 0 && whollyKnown(r.work.rates, hashrate.Hour) > 0 {
		troubles = append(troubles, "no accepted share in 15 min")
	}
	return troubles
}

// whollyKnown returns the hashrate over a window, or -1 if part of it is not known.
func whollyKnown(work rates, w hashrate.Window) float64 {
	if v, ok := work[w].Value(); ok && work[w].Knowledge == hashrate.FullyKnown {
		return v
	}
	return -1
}
