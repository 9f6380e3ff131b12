package main

import (
	"context"
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	// answerLimit is how long the demo waits for the answers to the last shares.
	answerLimit = 3 * time.Second

	// A share that is on its way when its pool fails is answered with one of these
	// Stratum error codes: lostCode by the switcher if it cannot know whether the share
	// counted, unknownJobCode by the backup because it does not know the job.
	lostCode, unknownJobCode = 20, 21
)

// verdict waits for the last answers, or for the miners to notice that the switcher has
// ended. It returns an error if a miner lost its connection, or a share other than in an
// outage.
func (d *demo) verdict() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	var sum stratumtest.FleetStats
	var miners int
	var details []string
	for _, a := range d.accounts {
		a.fleet.SetRate(0)
	}
	for _, a := range d.accounts {
		// Answers that do not come are counted below.
		_ = a.fleet.WaitFor(ctx, func(s stratumtest.FleetStats) bool {
			select {
			case <-d.daemon.Ended:
				return s.Disconnected == s.Miners // there are no more answers; wait until all miners have noticed
			default:
				return s.Unanswered == 0
			}
		})
		s := a.fleet.Stats()
		miners += s.Miners
		sum.Accepted += s.Accepted
		sum.Rejected += s.Rejected
		sum.Unanswered += s.Unanswered
		sum.Disconnected += s.Disconnected + s.DialErrors
		sum.Violations += s.Violations
		details = append(details, s.SomeViolations...)
	}
	lost := d.lostWithPool()
	refused := sum.Rejected - lost
	d.screen.refresh(d.table())
	d.screen.event("In %v: %d miners, switches: %d, outages: %d, upgrades: %d.", time.Since(d.began).Round(time.Second),
		miners, d.switches, d.outages, d.upgrades)
	d.screen.event("  %d shares accepted, %d lost with a failed pool, %d refused otherwise, %d never answered; %d connections lost.",
		sum.Accepted, lost, refused, sum.Unanswered, sum.Disconnected)
	if refused+sum.Unanswered+sum.Violations == 0 && sum.Disconnected == 0 {
		d.screen.event("Passed: no miner lost its connection, and no switch and no upgrade cost a share.")
		d.screen.finish(d.table())
		return nil
	}
	d.screen.event("Failed.")
	d.screen.finish(d.table())
	return fmt.Errorf("%d connections lost, %d shares refused, %d never answered, %d violations of the protocol %q; the switcher's log ends with\n%s",
		sum.Disconnected, refused, sum.Unanswered, sum.Violations, details, d.daemon.logTail())
}

// lostAnswers counts the answers with a code that shares get that are lost with a pool.
func (d *demo) lostAnswers() (n uint64) {
	for _, a := range d.accounts {
		codes := a.fleet.Stats().RejectedByCode
		n += codes[lostCode] + codes[unknownJobCode]
	}
	return n
}

// lostWithPool returns how many shares were lost in outages. Answers with the same codes
// at other times do not count.
func (d *demo) lostWithPool() uint64 {
	if d.failing {
		return d.lost + d.lostAnswers() - d.lostBefore
	}
	return d.lost
}
