package main

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Metrics for Prometheus. Values of labels come from this program and its
// configuration only; miners cannot choose any.

const (
	maxScrapes    = 4 // at a time
	scrapeTimeout = 5 * time.Second
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("stratum_switcher_"+name, help, labels, nil)
}

var (
	descBuild    = desc("build_info", "The running program by version, Go version and chain; always 1.", "version", "goversion", "chain")
	descServerID = desc("server_id", "The server ID, which is the first part of all session IDs; 0 while it is not known.")
	descReady    = desc("ready", "Whether /readyz says that new miners can be served.")
	descStarted  = desc("start_time_seconds", "When this program started, at first or by an upgrade, in Unix time.")

	descSessions    = desc("sessions", "Miners' connections by phase and by the coin they mine; the coin is empty before the first pool link.", "phase", "coin")
	descPoolSession = desc("pool_sessions", "Sessions with a pool link, by the pool's address in use.", "coin", "pool")
	descRolling     = desc("sessions_without_version_rolling", "Sessions that have lost version rolling: stopped (rolled over 100 shares, then none), narrower (mask than at the pool before).", "coin", "how")
	descSessionsMax = desc("sessions_max", "How many sessions the descriptor limit, MaxSessions and the local ports for pools allow.")
	descPorts       = desc("coin_local_ports", "How many connections to a coin's addresses the local port range allows; 0 if not known.", "coin")
	descAccepted    = desc("sessions_total", "Miners' connections that were admitted.")
	descFull        = desc("refused_full_total", "Miners' connections that were refused because sessions_max was reached.")
	descRefused     = desc("refused_connections_total", "Miners' connections that were refused: full (sessions_max), per_ip (MaxSessionsPerIP), rate (MaxConnectsPerSecond).", "reason")
	descDraining    = desc("draining_links", "Links to former pools that are kept for late shares.")
	descAccounts    = desc("sub_accounts", "Sub-accounts with miners here.")
	descDelay       = desc("loop_delay_seconds", "How long the slowest relay loop took to answer when sessions were last counted.")
	descSurveyAge   = desc("survey_age_seconds", "Time since sessions were last counted; it grows while the relay loops do not answer.")

	descFailures = desc("handshake_failures_total", "Miners' handshakes that failed, and errors that miners got as answers in handshakes.", "reason")

	descDials         = desc("pool_dials_total", "Attempts to connect to pools.", "coin", "pool")
	descLinkFails     = desc("pool_link_failures_total", "Attempts to get a pool link that failed, by the address that was dialled.", "coin", "pool", "reason")
	descLinksLost     = desc("pool_links_lost_total", "Pool links in use that ended.", "coin", "pool")
	descPoolSubmitted = desc("pool_shares_submitted_total", "Shares that went to a pool's address.", "coin", "pool")
	descPoolGood      = desc("pool_shares_accepted_total", "Shares that were accepted at a pool's address.", "coin", "pool")
	descPoolBad       = desc("pool_shares_refused_total", "Shares that were refused at a pool's address.", "coin", "pool")
	descBreaker       = desc("pool_breaker_state", "1 for the state that the address's breaker is in: closed (in use), open (not dialled), probing.", "coin", "pool", "state")
	descIPBreaker     = desc("pool_ip_breaker_state", "1 for the state that the breaker of one IP is in, if the pool's name has several: closed, open, probing.", "pool", "ip", "state")
	descBlamed        = desc("pool_failures_by_blame_total", "Pool links that failed or ended soon after they began, by the party blamed: address, user_agent, account, worker, session, machine, nobody.", "coin", "pool", "about")
	descAllLinkFails  = desc("pool_links_failed_total", "All attempts to get a pool link that failed, including those without an address to dial.")
	descDialsWait     = desc("pool_dials_waiting", "Sub-accounts with sessions that wait for their turn to dial.")
	descSubmitted     = desc("shares_submitted_total", "Shares that miners submitted.", "coin")
	descSharesGood    = desc("shares_accepted_total", "Shares that pools accepted. Agents' shares that a pool leaves unanswered are counted as submitted only.", "coin")
	descSharesBad     = desc("shares_refused_total", "Shares that pools refused.", "coin")
	descReasons       = desc("shares_refused_by_reason_total", "Shares that pools refused: stale, duplicate, low_difficulty, unauthorized, other.", "coin", "reason")
	descUnknown       = desc("shares_unknown_total", "Shares whose difficulty is not known, or that no pool answers. The hashrate lacks their work.", "coin")
	descWork          = desc("work_total", "Work of shares of known difficulty, in hashes, by what pools said of them: accepted, or why they refused them.", "coin", "result")
	descHashrate      = desc("hashrate", "Hashes per second computed from accepted shares, as an average over the last 1m, 15m, 1h, 24h; absent while it is not known.", "coin", "window")
	descBytes         = desc("received_bytes_total", "Bytes received from miners, and from the pools at which they mine.", "from")
	descNotUnderstood = desc("lines_not_translated_total", "Jobs and shares that could not be translated and were not passed on.")
	descDropped       = desc("lines_dropped_total", "Lines that were not passed on to the other side.", "reason")

	descLogLost     = desc("log_lines_dropped_total", "Lines that an output of the log dropped, because its queue was full or it could not be written to.", "output")
	descEvents      = desc("event_file_events_total", "Events that were written to EventFile, and events that were lost because there was no room or because they were too many.", "result")
	descLoopStalled = desc("loop_stalled", "1 while a relay loop has not answered for more than 5 s, which /healthz reports.")

	descNoPool = desc("switches_without_pool_total", "Deleted coins, and coin changes to one that is not in StratumServerMap; the miners stay where they are.")

	descSource  = desc("coin_source_connected", "Whether coins are known: ZooKeeper is connected, or the coin file was read.", "source")
	descContact = desc("coin_source_contact_age_seconds", "Time since the last contact with ZooKeeper; absent before the first, and with a coin file.")
	descWatches = desc("coin_source_watches", "Watches set in ZooKeeper.")

	descMissed     = desc("coin_source_missed_changes_total", "Changes of nodes in ZooKeeper that no watch reported, and that were found by reading the nodes again.")
	descUnreadable = desc("coin_source_unreadable_nodes", "Sub-accounts' nodes in ZooKeeper that cannot be read, so that changes of their coins are missed.")
	descIDTaken    = desc("server_id_taken", "Whether another process holds the configured ServerID in ZooKeeper, so that both give miners the same extranonces.")

	descUpgrades     = desc("upgrades_total", "Hot upgrades since the service was first started.")
	descUpgradeFails = desc("upgrade_failures_total", "Upgrades that were refused or undone.")
	descPause        = desc("last_upgrade_pause_seconds", "How long shares waited during the last upgrade; absent if there was none.")
	descLost         = desc("last_upgrade_lost_sessions", "Sessions that the last upgrade could not take over.")
)

// metricsHandler serves the metrics from its own registry, not from the library's
// global one.
func (s *statusServer) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		&cachedCollector{Collector: collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})},
		&metricsCollector{s},
		s.manager.monitor.switches,
		s.manager.monitor.switchSeconds,
		s.manager.monitor.switchMoved,
		s.manager.monitor.switchLate,
		s.manager.monitor.switchLost,
		s.manager.monitor.rollingLost,
		s.manager.monitor.rollingClosed,
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            metricsLog{&s.manager.limitedLog},
		DisableCompression:  true,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	})
}

// metricsLog writes the handler's errors to the log, with a limit, because clients
// can cause them.
type metricsLog struct{ limits *journal.LogLimits }

func (l metricsLog) Println(v ...any) {
	l.limits.Errorf("metrics", "metrics: %s", strings.TrimSpace(fmt.Sprintln(v...)))
}

// metricsCollector computes the metrics at each scrape.
type metricsCollector struct{ server *statusServer }

// Describe sends nothing, which makes the collector an unchecked one. A test
// checks its metrics instead.
func (c *metricsCollector) Describe(chan<- *prometheus.Desc) {}

func (c *metricsCollector) Collect(ch chan<- prometheus.Metric) {
	s, m := c.server, c.server.manager
	mon := m.monitor
	add := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) {
		for i := range labels { // a former process's coins need not be valid UTF-8
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { add(d, prometheus.GaugeValue, v, labels) }
	count := func(d *prometheus.Desc, v float64, labels ...string) { add(d, prometheus.CounterValue, v, labels) }

	gauge(descBuild, 1, version, runtime.Version(), m.chain.String())
	gauge(descServerID, float64(m.ids.server()))
	gauge(descReady, oneIf(s.notReady() == ""))
	gauge(descStarted, float64(m.created.UnixMilli())/1000)
	gauge(descSessionsMax, float64(m.sessionsMax()))
	for coin, p := range m.pools {
		gauge(descPorts, float64(p.localPorts()), coin)
	}
	count(descAccepted, float64(mon.connections.Load()))
	refused := m.refusalCounts()
	count(descFull, float64(refused[refusedFull.String()]))
	for reason, n := range refused {
		count(descRefused, float64(n), reason)
	}
	count(descNotUnderstood, float64(m.notUnderstood.Load()))
	gauge(descDraining, float64(m.draining.Load()))
	gauge(descAccounts, float64(m.accounts.size()))
	for reason, n := range mon.failures.byName() {
		count(descFailures, float64(n), reason)
	}
	for reason := range mon.dropped {
		count(descDropped, float64(mon.dropped[reason].Load()), dropNames[reason])
	}
	for output, n := range m.log.lostLines() {
		count(descLogLost, float64(n), output)
	}
	if mon.file != nil {
		count(descEvents, float64(mon.file.Written()), "written")
		count(descEvents, float64(mon.file.Lost()), "lost")
	}
	gauge(descLoopStalled, oneIf(s.watch.stalled() != ""))
	count(descNoPool, float64(mon.switchesNoPool.Load()))
	count(descAllLinkFails, float64(m.linksFailed.Load()))
	gauge(descDialsWait, float64(m.gate.waitingAccounts()))

	source := m.coinSourceStatus()
	gauge(descSource, oneIf(source.Connected), source.Kind)
	count(descMissed, float64(source.Missed))
	gauge(descUnreadable, float64(source.Unreadable))
	gauge(descIDTaken, oneIf(source.IDTaken))
	if source.Kind == coinSourceZooKeeper {
		gauge(descWatches, float64(source.Watches))
		if !source.LastContact.IsZero() {
			gauge(descContact, time.Since(source.LastContact).Seconds())
		}
	}
	count(descUpgrades, float64(m.upgrades()))
	count(descUpgradeFails, float64(mon.upgradesFailed.Load()))
	if pause := mon.upgradePause.Load(); pause >= 0 {
		gauge(descPause, time.Duration(pause).Seconds())
	}
	gauge(descLost, float64(m.lostInUpgrade))

	c.collectSessions(gauge, count)
	c.collectPools(gauge, count)
	c.collectTLS(gauge, count)
}

// addMetric adds one value to the scrape.
type addMetric func(d *prometheus.Desc, v float64, labels ...string)

func (c *metricsCollector) collectSessions(gauge, count addMetric) {
	v := c.server.surveyor.get()
	if v.at.IsZero() {
		return // no survey has been made yet
	}
	gauge(descDelay, v.delay.Seconds())
	gauge(descSurveyAge, time.Since(v.at).Seconds())
	count(descBytes, float64(v.fromMiners), "miners")
	count(descBytes, float64(v.fromPools), "pools")

	type phaseCoin struct {
		phase sessionPhase
		coin  string
	}
	sessions := map[phaseCoin]int{{phaseHandshaking, ""}: 0, {phaseRouting, ""}: 0}
	atPool := make(map[[2]string]int)
	without := make(map[string]*[stratum.RollingLosses]int)
	for _, p := range c.server.manager.allPools() {
		for phase := phaseRelaying; phase < phaseClosed; phase++ {
			sessions[phaseCoin{phase, p.coin}] = 0
		}
		without[p.coin] = new([stratum.RollingLosses]int)
		for _, a := range p.addresses {
			atPool[[2]string{p.coin, a.text}] = 0
		}
	}
	for g, n := range v.groups {
		if g.pool == nil {
			sessions[phaseCoin{g.phase, ""}] += n
			continue
		}
		sessions[phaseCoin{g.phase, g.pool.coin}] += n
		atPool[[2]string{g.pool.coin, g.address.text}] += n
		if lost := without[g.pool.coin]; lost != nil {
			lost[g.rolling] += n
		}
	}
	for coin, lost := range without {
		for how := stratum.RollingStopped; how < stratum.RollingLosses; how++ {
			gauge(descRolling, float64(lost[how]), coin, how.String())
		}
	}
	for k, n := range sessions {
		gauge(descSessions, float64(n), k.phase.String(), k.coin)
	}
	for k, n := range atPool {
		gauge(descPoolSession, float64(n), k[0], k[1])
	}
}

// collectPools collects what is counted for each coin and each pool address. After an
// upgrade, a coin may have former pools; their values are added to those of its
// present pool at the same address.
func (c *metricsCollector) collectPools(gauge, count addMetric) {
	m := c.server.manager
	for coin, shares := range m.rates.byCoin() {
		count(descSubmitted, float64(shares.Submitted), coin)
		count(descSharesGood, float64(shares.Accepted), coin)
		count(descSharesBad, float64(shares.RefusedShares()), coin)
		count(descUnknown, float64(shares.Unknown), coin)
		count(descWork, shares.Work*float64(hashrate.UnitBitcoin), coin, "accepted")
		for why := range hashrate.Refusals {
			count(descReasons, float64(shares.Refused[why]), coin, why.String())
			count(descWork, shares.Lost[why]*float64(hashrate.UnitBitcoin), coin, why.String())
		}
	}
	for coin, rates := range m.rates.coinRates() {
		for w, rate := range rates {
			if perSecond, known := rate.Value(); known {
				gauge(descHashrate, perSecond, coin, hashrate.Window(w).String())
			}
		}
	}
	type links struct {
		dials, lost int64
		failed      [linkFailures]int64
		blamed      [blames]int64
		breaker     breakerState
		shares      hashrate.Totals
	}
	all := make(map[[2]string]*links)
	ips := make(map[[2]string]string) // states
	for _, p := range m.allPools() {
		for i, a := range p.addresses {
			key := [2]string{p.coin, a.text}
			l := all[key]
			if l == nil {
				l = &links{breaker: a.state(!p.picksExtranonce)}
				all[key] = l
			}
			l.dials += p.links[i].dials.Load()
			l.lost += p.links[i].lost.Load()
			l.shares = l.shares.Plus(p.links[i].shares.Totals())
			for about := range l.blamed {
				l.blamed[about] += p.links[i].blamed[about].Load()
			}
			for _, ip := range a.ipStates(!p.picksExtranonce) {
				ips[[2]string{a.text, ip.IP}] = ip.Breaker
			}
			for reason := range l.failed {
				l.failed[reason] += p.links[i].failed[reason].Load()
			}
		}
	}
	for key, l := range all {
		count(descDials, float64(l.dials), key[0], key[1])
		count(descLinksLost, float64(l.lost), key[0], key[1])
		count(descPoolSubmitted, float64(l.shares.Submitted), key[0], key[1])
		count(descPoolGood, float64(l.shares.Accepted), key[0], key[1])
		count(descPoolBad, float64(l.shares.RefusedShares()), key[0], key[1])
		for reason, n := range l.failed {
			count(descLinkFails, float64(n), key[0], key[1], linkFailureNames[reason])
		}
		for about, n := range l.blamed {
			count(descBlamed, float64(n), key[0], key[1], blameNames[about])
		}
		for state, name := range breakerNames {
			gauge(descBreaker, oneIf(breakerState(state) == l.breaker), key[0], key[1], name)
		}
	}
	for key, state := range ips {
		ipState(gauge, key, state)
	}
}

// ipState adds one value for each state that an IP's breaker can have.
func ipState(gauge addMetric, key [2]string, state string) {
	for _, name := range breakerNames {
		gauge(descIPBreaker, oneIf(name == state), key[0], key[1], name)
	}
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}

// cachedCollector bounds the cost of an expensive collector: where the kernel
// can only list descriptors one by one, counting tens of thousands takes
// milliseconds. Collected values are reused for a thousand times as long as
// collecting them took.
type cachedCollector struct {
	prometheus.Collector

	mu      sync.Mutex
	until   time.Time
	metrics []prometheus.Metric
}

func (c *cachedCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began := time.Now(); began.After(c.until) {
		c.metrics = nil
		fresh := make(chan prometheus.Metric)
		go func() { c.Collector.Collect(fresh); close(fresh) }()
		for metric := range fresh {
			c.metrics = append(c.metrics, metric)
		}
		now := time.Now()
		c.until = now.Add(min(1000*now.Sub(began), 15*time.Second))
	}
	for _, metric := range c.metrics {
		ch <- metric
	}
}
