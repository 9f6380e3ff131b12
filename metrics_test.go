package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// conditional has the metrics that do not always exist.
var conditional = []string{
	"stratum_switcher_coin_source_contact_age_seconds",
	"stratum_switcher_coin_source_watches",
	"stratum_switcher_event_file_events_total",
	"stratum_switcher_last_upgrade_pause_seconds",
	"stratum_switcher_log_lines_dropped_total",
	"stratum_switcher_pool_ip_breaker_state",
	"stratum_switcher_tls_certificate_expiry_timestamp_seconds",
	"stratum_switcher_tls_certificate_refused",
	"stratum_switcher_tls_handshake_failures_total",
	"stratum_switcher_tls_handshakes_total",
	"stratum_switcher_tls_pool_links",
	"stratum_switcher_tls_sessions",
	"stratum_switcher_tunnel_connections",
	"stratum_switcher_tunnel_memory_bytes",
	"stratum_switcher_tunnel_processes",
	"stratum_switcher_version_rolling_closed_total",
	"stratum_switcher_version_rolling_losses_total",
}

var ownMetric = regexp.MustCompile(`\b(?:stratum_switcher|process)_[a-z_]+\b`)

// The alert rules, the dashboard and the manual name only metrics that exist, and the
// manual names all of them.
func TestMetricsNamesInFiles(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc, bcc})
	miner := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1"})
	waitPool(t, miner, "btc")
	m.coins.set("alice", "bcc")
	waitPool(t, miner, "bcc")
	s.metric(`stratum_switcher_sessions{coin="bcc",phase="relaying"}`, is(1))
	known := knownMetrics(t, s)
	for _, name := range conditional {
		known[name] = true
	}
	for _, path := range []string{"deploy/alerts.yml", "deploy/grafana.json", "docs/monitoring.md"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".json") && !json.Valid(content) {
			t.Errorf("%s is not JSON", path)
		}
		if strings.Contains(string(content), "\t") {
			t.Errorf("%s has tabs", path)
		}
		named := ownMetric.FindAllString(string(content), -1)
		if len(named) < 10 {
			t.Errorf("%s names only %d metrics", path, len(named))
		}
		for _, name := range named {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", path, name)
			}
		}
		if strings.HasSuffix(path, ".md") {
			for name := range known {
				base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
				if strings.HasPrefix(name, "stratum_switcher_") && !strings.Contains(string(content), "`"+base) {
					t.Errorf("%s does not explain %s", path, name)
				}
			}
		}
	}
}

// A costly collector is not asked again immediately.
func TestMetricsCachedCollector(t *testing.T) {
	btc, bcc := twoPools(t)
	_, s := startStatusOf(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc})
	s.metric("process_max_fds", atLeast(1))
	began := time.Now()
	for range 20 {
		s.get("/metrics")
	}
	if took := time.Since(began); took > testWait {
		t.Errorf("20 scrapes took %v", took)
	}
}

// After an upgrade, sessions may be at pools of a former configuration.
func TestMetricsOfFormerPools(t *testing.T) {
	btc, bcc := twoPools(t)
	m := startSwitcher(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc}, func(c *Config) {
		c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	})
	former := func(coin, url string) *pool {
		pools, err := newPools(&Config{StratumServerMap: map[string]StratumServerInfo{coin: {URL: url}}}, m.health)
		if err != nil {
			t.Fatal(err)
		}
		p := pools[coin]
		for range 7 {
			p.links[0].shares.Submit()
		}
		p.links[0].dials.Add(3)
		return p
	}
	m.former = map[string]*pool{
		"btc":       former("btc", "127.0.0.1:1"),
		"btc again": former("btc", "127.0.0.1:1"),
		"old":       former("old\xff", "127.0.0.1:2"),
	}
	m.rates.adopt(m.former)
	m.pools["btc"].links[0].shares.Submit()
	server, err := startStatus(m.config, m.sessionManager)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.close)
	s := &testStatus{server, t}
	s.metric(`stratum_switcher_shares_submitted_total{coin="btc"}`, is(15))
	s.metric(`stratum_switcher_pool_dials_total{coin="btc",pool="127.0.0.1:1"}`, is(6))
	s.metric(`stratum_switcher_shares_submitted_total{coin="old?"}`, is(7))
	s.get("/api/status")
}
