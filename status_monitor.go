package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// monitor collects what operators can see besides the log: events, counters and the
// history of the charts. Any goroutine may use it.
type monitor struct {
	events  journal.Events
	history journal.History
	file    *eventfile.File // EventFile; nil without one

	listening   atomic.Bool
	connections atomic.Int64 // admitted connections of miners
	dropped     [dropReasons]atomic.Int64
	failures    handshakeFailureCounts

	switches       *prometheus.CounterVec // by the new coin
	switchSeconds  prometheus.Histogram
	switchMoved    *prometheus.CounterVec // miners, by the new coin
	switchLate     *prometheus.CounterVec // late shares, by the new coin and lateEnd
	switchLost     *prometheus.CounterVec // refused work in hashes, by the new coin and the minute before or after
	rollingLost    *prometheus.CounterVec // miners that lost version rolling, by coin and how they lost it
	rollingClosed  *prometheus.CounterVec // miners that were closed because of that, by coin
	switchesNoPool atomic.Int64           // changes to a coin that is not in StratumServerMap, and deleted entries

	upgradesFailed atomic.Int64
	upgradePause   atomic.Int64 // nanoseconds that nothing was relayed at the last upgrade; -1 if not known
	upgraded       atomic.Int64 // when the last upgrade was, in Unix seconds; 0 if there was none
}

// dropReason is the reason why a line was not passed on.
type dropReason uint8

const (
	dropFormerPool dropReason = iota // from a pool that the miner has left
	dropTooLong                      // the connection is closed as well
	dropNotJSON                      // from a miner or a pool
	dropReasons
)

var dropNames = [dropReasons]string{"former_pool", "too_long", "not_json"}

func newMonitor() *monitor {
	mon := &monitor{
		switches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stratum_switcher_switches_total",
			Help: "Coin changes of sub-accounts with miners connected, by the new coin.",
		}, []string{"coin"}),
		switchSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "stratum_switcher_switch_duration_seconds",
			Help:    "Time from a coin change until the last of the sub-account's miners has moved.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		rollingLost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stratum_switcher_version_rolling_losses_total",
			Help: "Miners that lost version rolling, by the coin that they mined and how: stopped (over 100 shares with rolled versions, then none), narrower (mask than at the previous pool).",
		}, []string{"coin", "how"}),
		rollingClosed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stratum_switcher_version_rolling_closed_total",
			Help: "Miners that were closed by ReconnectOnLostVersionRolling, by coin.",
		}, []string{"coin"}),
		switchMoved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stratum_switcher_switch_moved_miners_total",
			Help: "Miners that switches moved, by the new coin.",
		}, []string{"coin"}),
		switchLate: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stratum_switcher_switch_late_shares_total",
			Help: "Shares that came after a miner's switch for a job of the previous pool, by the new coin and what became of them.",
		}, []string{"coin", "ended"}),
		switchLost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stratum_switcher_switch_refused_work_total",
			Help: "Refused work in hashes of sub-accounts that switched, by the new coin, in the minute before the coin changed and in the minute after.",
		}, []string{"coin", "minute"}),
	}
	mon.upgradePause.Store(-1)
	return mon
}

// countFromZero makes the counters of a coin, because Prometheus sees an increase only
// in a series that it has seen before. Otherwise it would miss the first switch.
func (mon *monitor) countFromZero(coin string) {
	mon.switches.WithLabelValues(coin)
	mon.addCost(&switchCost{switchRun: &switchRun{coin: coin}})
	for how := stratum.RollingStopped; how < stratum.RollingLosses; how++ {
		mon.rollingLost.WithLabelValues(coin, how.String())
	}
	mon.rollingClosed.WithLabelValues(coin)
}

// switchBegins records a coin change. known is true if the new coin has a pool.
func (mon *monitor) switchBegins(account, from, to string, miners int, known bool) {
	key := journal.Key{Kind: journal.Switch, What: "coin changed", Account: account, Coin: from, To: to}
	defer func() { mon.recordSwitch(&key, miners) }()
	switch {
	case to == "":
		mon.switchesNoPool.Add(1)
		key.What = "coin deleted"
		mon.events.Add(journal.Bad, key, minersStay(miners))
	case !known:
		mon.switchesNoPool.Add(1)
		key.What = "coin without a pool"
		mon.events.Add(journal.Bad, key, "not in StratumServerMap, "+minersStay(miners))
	case miners == 0:
	default:
		mon.switches.WithLabelValues(to).Inc()
		mon.events.Add(journal.Note, key, countMiners(miners)+" to move")
	}
}

func (r *switchRun) key(account string) journal.Key {
	return journal.Key{Kind: journal.Switch, What: "coin changed", Account: account, Coin: r.from, To: r.coin}
}

func countMiners(n int) string { return countOf(n, "miner") }

// countOf returns a number with a noun, whose plural ends in s.
func countOf(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func minersStay(n int) string {
	if n == 1 {
		return "1 miner stays"
	}
	return countMiners(n) + " stay"
}

// switchDone records that the last miner has moved.
func (mon *monitor) switchDone(account string, run *switchRun) {
	mon.switchSeconds.Observe(run.took.Seconds())
	mon.switchMoved.WithLabelValues(run.coin).Add(float64(run.moved))
	mon.recordMoved(account, run)
	mon.events.Amend(journal.Good, run.key(account), run.movedText())
}

// switchCost records what a switch has cost, whether or not all miners have moved.
func (mon *monitor) switchCost(account string, c *switchCost) {
	mon.addCost(c)
	mon.recordCost(account, c)
	level := journal.Good
	if c.took == 0 {
		level = journal.Note
	}
	mon.events.Amend(level, c.key(account), c.text())
}

func (mon *monitor) addCost(c *switchCost) {
	if c.took == 0 {
		mon.switchMoved.WithLabelValues(c.coin).Add(float64(c.moved))
	}
	for end, n := range c.lateCounts {
		mon.switchLate.WithLabelValues(c.coin, lateEnd(end).String()).Add(float64(n))
	}
	mon.switchLost.WithLabelValues(c.coin, "before").Add(c.lostBefore)
	mon.switchLost.WithLabelValues(c.coin, "after").Add(c.lostAfter)
}

// takenOut records that an address is not dialled for a while, and back that it is
// in use again.
func (mon *monitor) takenOut(coin, pool string, err error) {
	mon.record(eventfile.Event{Kind: eventfile.KindFailover, What: "taken out", Coin: coin, Pool: pool, Detail: err.Error()})
	mon.events.Add(journal.Bad, journal.Key{Kind: journal.Failover, What: "pool taken out", Coin: coin, Pool: pool, About: blameAddress.String()}, err.Error())
}

func (mon *monitor) back(at fmt.Stringer) {
	mon.record(eventfile.Event{Kind: eventfile.KindFailover, What: "back", Pool: at.String()})
	mon.events.Add(journal.Good, journal.Key{Kind: journal.Failover, What: "pool is back", Pool: at.String()}, "")
}

// machineShort records that this machine has run out of descriptors, buffers or local
// ports.
func (mon *monitor) machineShort(pool string, err error) {
	mon.events.Add(journal.Bad, journal.Key{Kind: journal.Process, What: "machine short", Pool: pool, About: blameMachine.String()}, err.Error())
}

// tooLong counts a dropped line if err reports that the line was too long.
func (mon *monitor) tooLong(err error) {
	if errors.Is(err, relay.ErrLineTooLong) {
		mon.dropped[dropTooLong].Add(1)
	}
}

// refusal adds the event that a miner or a connection was refused.
func (mon *monitor) refusal(account, reason, why string) {
	mon.events.Add(journal.Bad, journal.Key{Kind: journal.Refusal, What: reason, Account: account}, why)
}

// linkCounts counts links to one address of one coin's pool, and the shares that
// went there.
type linkCounts struct {
	dials  atomic.Int64
	taken  atomic.Bool // a link to the address was taken over from the previous process
	lost   atomic.Int64
	shares hashrate.Counter
	failed [linkFailures]atomic.Int64
	blamed [blames]atomic.Int64 // failures and unstable links by the party blamed
}

// tried reports whether a link was attempted or taken over, so that the address is
// known to work or to fail.
func (c *linkCounts) tried() bool { return c.dials.Load() > 0 || c.taken.Load() }

// linkFailure is why an attempt to get a pool link failed.
type linkFailure uint8

const (
	linkNotConnected linkFailure = iota
	linkTimeout
	linkWorkerRefused
	linkBadHandshake
	linkTLS
	linkFailures
)

var linkFailureNames = [linkFailures]string{"connect", "timeout", "worker_refused", "handshake", "tls"}

func linkFailureOf(err error) linkFailure {
	var refused *refusedError
	var byTLS *tunnelError
	var errno syscall.Errno
	var network interface{ Timeout() bool } // of the resolver
	switch {
	case errors.As(err, &refused):
		return linkWorkerRefused
	case errors.Is(err, errPoolTimeout):
		return linkTimeout
	case errors.As(err, &byTLS), errors.Is(err, tunnel.ErrBusy), errors.Is(err, errNoTrust):
		return linkTLS
	case errors.As(err, &errno), errors.As(err, &network):
		return linkNotConnected
	}
	return linkBadHandshake
}

// linksTo returns the counts of one of the pool's addresses. For any other address it
// returns fresh counts that are not shown anywhere.
func (p *pool) linksTo(a *poolAddress) *linkCounts {
	for i, known := range p.addresses {
		if known == a {
			return &p.links[i]
		}
	}
	return new(linkCounts)
}

// monitorState is the part of a monitor that the next process gets at an upgrade.
type monitorState struct {
	Events  []journal.Event
	History []journal.Sample
}

func (mon *monitor) state() *monitorState {
	return &monitorState{Events: mon.events.All(), History: mon.history.All()}
}

// resumed takes over the events and counts of the former process, and adds the
// upgrade to them. pause is negative if it is not known. underWay reports whether this
// process continues a switch.
func (mon *monitor) resumed(st *runtimeState, sessions, lost int, now time.Time, pause time.Duration, underWay func(journal.Key) bool) {
	if past := st.Monitor; past != nil {
		for i := range past.Events {
			if e := &past.Events[i]; e.Kind == journal.Switch && e.Level == journal.Note && !underWay(e.Key) {
				e.Detail += "; the switcher was upgraded meanwhile"
				e.Level = journal.Good
			}
		}
		mon.events.Restore(past.Events)
		mon.history.Restore(past.History)
		st.Monitor = nil // so that its memory can be freed
	}
	mon.upgraded.Store(now.Unix())
	level, detail := journal.Good, "version "+version+", "+countOf(sessions, "session")
	e := eventfile.Event{Kind: eventfile.KindUpgrade, What: "upgraded", Detail: "version " + version, Miners: eventfile.Number(sessions), Missing: eventfile.Number(lost)}
	if lost > 0 {
		level, detail = journal.Bad, fmt.Sprintf("%s, %d lost", detail, lost)
	}
	if pause >= 0 {
		mon.upgradePause.Store(int64(pause))
		e.Seconds = eventfile.Number(pause.Seconds())
		detail += fmt.Sprintf(", pause %d ms", pause.Milliseconds())
	}
	mon.record(e)
	mon.events.Add(level, journal.Key{Kind: journal.Process, What: "upgraded"}, detail)
}

func (mon *monitor) upgradeFailed(err error) {
	mon.upgradesFailed.Add(1)
	mon.record(eventfile.Event{Kind: eventfile.KindUpgrade, What: "failed", Detail: err.Error()})
	mon.events.Add(journal.Bad, journal.Key{Kind: journal.Process, What: "upgrade failed"}, err.Error())
}
