//go:build linux && e2e

package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// guest is a miner that connects in the middle of a fault and leaves without
// notice.
type guest struct {
	miner *stratumtest.Miner
	came  time.Time
}

// visitStats adds up the visits that are over.
type visitStats struct {
	stratumtest.FleetStats
	refused map[string]int
}

// addTo adds the visitors' shares to a sum.
func (v *visitStats) addTo(sum *stratumtest.FleetStats) {
	sum.Submitted += v.Submitted
	sum.Accepted += v.Accepted
	sum.Rejected += v.Rejected
	sum.Switches += v.Switches
	sum.Unanswered += v.Unanswered
	for code, n := range v.RejectedByCode {
		sum.RejectedByCode[code] += n
	}
}

// come makes a miner of the account connect.
func (c *torture) come(account int) {
	c.t.Helper()
	c.visitors++
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{
		Addr: c.p.Addr, Worker: fmt.Sprintf("acc%d.v%d", account, c.visitors), Rate: 2, Configure: 0x1fffe000,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.here = append(c.here, guest{m, time.Now()})
}

// leave makes the visitor that came first leave, and wants it to have been treated
// as the documentation says.
func (c *torture) leave() {
	c.t.Helper()
	if len(c.here) == 0 {
		return
	}
	v := c.here[0]
	c.here = c.here[1:]
	v.miner.Close()
	st := v.miner.Stats()
	switch refusal := st.AuthorizeError; {
	case strings.Contains(refusal, "301"):
		// The coin of its account was noSuchCoin at some time.
		c.visits.refused["301"]++
	case strings.Contains(refusal, "302"):
		c.visits.refused["302"]++
		if c.troubled.Before(v.came.Add(-10 * time.Second)) {
			c.t.Errorf("miner %s: %s, although all pools had worked for %v", v.miner.Worker(), refusal, v.came.Sub(c.troubled))
		}
	case refusal != "":
		c.t.Errorf("miner %s: %s", v.miner.Worker(), refusal)
	case st.Disconnected || len(st.Violations) > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Reconnects > 0:
		c.t.Errorf("miner %s: %+v", v.miner.Worker(), st)
	}
	for code, n := range st.RejectedByCode {
		c.visits.RejectedByCode[code] += n
		if code != 20 && code != 21 {
			c.t.Errorf("miner %s: %d shares rejected with code %d, the last: %s", v.miner.Worker(), n, code, st.LastReject)
		}
	}
	c.visits.Miners++
	c.visits.Submitted += st.Submitted
	c.visits.Accepted += st.Accepted
	c.visits.Rejected += st.Rejected
	c.visits.Switches += st.Switches
	c.visits.Unanswered += st.Unanswered
}
