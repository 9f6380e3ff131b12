package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// testStatus is a status listener of a switcher in the test process.
type testStatus struct {
	*statusServer
	t testing.TB
}

func startStatusOf(t testing.TB, coins *memoryCoins, pools []*stratumtest.Pool, change ...func(*Config)) (*testSwitcher, *testStatus) {
	t.Helper()
	m := startSwitcher(t, coins, pools, func(c *Config) {
		c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
		for _, f := range change {
			f(c)
		}
	})
	return m, statusOf(t, m)
}

// statusOf serves the status of a switcher with these settings.
func statusOf(t testing.TB, m *testSwitcher) *testStatus {
	t.Helper()
	s, err := startStatus(m.config, m.sessionManager)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return &testStatus{s, t}
}

func (s *testStatus) url(path string) string { return "http://" + s.addr.String() + path }

func (s *testStatus) do(method, path, host string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply, string(content)
}

func (s *testStatus) get(path string) string {
	s.t.Helper()
	reply, content := s.do("GET", path, "")
	if reply.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s", path, reply.Status, content)
	}
	return content
}

func (s *testStatus) json(path string, into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.get(path)), into); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
}

// metric waits until a series has a value that the condition accepts.
func (s *testStatus) metric(series string, condition func(float64) bool) {
	s.t.Helper()
	eventually(s.t, "metric "+series, func() bool {
		for line := range strings.Lines(s.get("/metrics")) {
			if rest, ok := strings.CutPrefix(line, series+" "); ok {
				var v float64
				_, err := fmt.Sscan(rest, &v)
				return err == nil && condition(v)
			}
		}
		return false
	})
}

func is(want float64) func(float64) bool      { return func(v float64) bool { return v == want } }
func atLeast(want float64) func(float64) bool { return func(v float64) bool { return v >= want } }

type accountsReply struct {
	Accounts        []accountRow
	Matching, Total int
}

func (s *testStatus) accountRows(query string) accountsReply {
	s.t.Helper()
	var reply accountsReply
	s.json("/api/accounts?"+query, &reply)
	return reply
}

func TestStatusShowsWhatMinersDo(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc", "bob": "bcc", "lost": "xyz"})
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc})
	alice := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.rig1", UserAgent: "cgminer/4.11", Rate: 50})
	bob := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "bob.rig1", Manual: true})
	waitPool(t, alice, "btc")
	waitPool(t, bob, "bcc")
	waitAccepted(t, alice, 3)

	s.metric(`stratum_switcher_sessions{coin="btc",phase="relaying"}`, is(1))
	s.metric(`stratum_switcher_pool_sessions{coin="bcc",pool="`+bcc.Addr()+`"}`, is(1))
	s.metric(`stratum_switcher_shares_submitted_total{coin="btc"}`, atLeast(3))
	s.metric(`stratum_switcher_shares_accepted_total{coin="btc"}`, atLeast(3))
	s.metric(`stratum_switcher_shares_refused_total{coin="btc"}`, is(0))
	s.metric(`stratum_switcher_pool_dials_total{coin="btc",pool="`+btc.Addr()+`"}`, is(1))
	s.metric(`stratum_switcher_pool_breaker_state{coin="btc",pool="`+btc.Addr()+`",state="closed"}`, is(1))
	s.metric(`stratum_switcher_received_bytes_total{from="miners"}`, atLeast(100))
	s.metric(`stratum_switcher_received_bytes_total{from="pools"}`, atLeast(100))
	s.metric(`stratum_switcher_coin_source_connected{source="file"}`, is(1))

	// Prometheus sees an increase only in a series that it has seen before.
	s.metric(`stratum_switcher_switches_total{coin="bcc"}`, is(0))
	s.metric(`stratum_switcher_switch_moved_miners_total{coin="bcc"}`, is(0))
	s.metric(`stratum_switcher_switch_late_shares_total{coin="bcc",ended="lost"}`, is(0))
	s.metric(`stratum_switcher_switch_refused_work_total{coin="bcc",minute="after"}`, is(0))
	s.metric(`stratum_switcher_version_rolling_losses_total{coin="btc",how="narrower"}`, is(0))
	s.metric(`stratum_switcher_version_rolling_closed_total{coin="btc"}`, is(0))

	coins.set("alice", "bcc")
	waitPool(t, alice, "bcc")
	s.metric(`stratum_switcher_switches_total{coin="bcc"}`, is(1))
	s.metric(`stratum_switcher_switch_duration_seconds_count`, is(1))
	s.metric(`stratum_switcher_sessions{coin="bcc",phase="relaying"}`, is(2))

	// This is a share that the pool refuses.
	bcc.SetModes(stratumtest.Modes{RejectShares: true})
	if code, err := bob.Submit(waitContext(t), nil); code == 0 || err != nil {
		t.Fatalf("the share was answered with %d, %v", code, err)
	}
	s.metric(`stratum_switcher_shares_refused_total{coin="bcc"}`, atLeast(1))

	// These miners are turned away.
	for _, worker := range []string{"nobody.1", "lost.1"} {
		w := dialSubscribed(t, m.addr)
		w.SendLine(`{"id":2,"method":"mining.authorize","params":["` + worker + `","x"]}`)
		w.Line(testWait)
	}
	s.metric(`stratum_switcher_handshake_failures_total{reason="unknown_sub_account"}`, is(1))
	s.metric(`stratum_switcher_handshake_failures_total{reason="coin_without_pool"}`, is(1))

	var events struct{ Events []eventReply }
	s.json("/api/events", &events)
	for _, want := range []eventReply{
		{Kind: "switch", Level: "good", What: "coin changed", Account: "alice", Coin: "btc", To: "bcc"},
		{Kind: "refusal", Level: "bad", What: "unknown_sub_account", Account: "nobody"},
		{Kind: "refusal", Level: "bad", What: "coin_without_pool", Account: "lost"},
	} {
		if !slices.ContainsFunc(events.Events, func(e eventReply) bool {
			e.Detail, e.First, e.Last, e.Count = "", 0, 0, 0
			return e == want
		}) {
			t.Errorf("there is no event %+v in %+v", want, events.Events)
		}
	}

	var found struct {
		Miners []shownMiner
		More   bool
	}
	id := alice.Extranonce1()
	for _, query := range []string{"ALICE", "lice.rig", id, alice.Addr()} {
		s.json("/api/search?q="+query, &found)
		if len(found.Miners) != 1 || found.More {
			t.Fatalf("the search for %q found %+v", query, found)
		}
		f := found.Miners[0]
		if f.Worker != "alice.rig1" || f.Account != "alice" || f.Agent != "cgminer/4.11" || f.Session != id || f.Address != alice.Addr() ||
			f.Coin != "bcc" || f.Pool != bcc.Addr() || f.Phase != "relaying" || f.Submitted < 3 || f.Accepted < 3 ||
			time.Since(time.Unix(f.Since, 0)) > time.Minute || f.LastShare < f.Since {
			t.Errorf("the search for %q found %+v", query, f)
		}
	}
	s.json("/api/search?q=127.0.0.1", &found)
	if len(found.Miners) < 2 {
		t.Errorf("the search by address found %+v", found)
	}
	s.json("/api/search?q=nothing", &found)
	if len(found.Miners) != 0 {
		t.Errorf("the search for an unknown name found %+v", found)
	}

	rows := s.accountRows("filter=ALI").Accounts
	if len(rows) != 1 || rows[0].Account != "alice" || rows[0].Wanted != "bcc" || rows[0].Mining["bcc"] != 1 || rows[0].Miners != 1 || rows[0].LastSwitch == 0 {
		t.Errorf("unexpected rows %+v", rows)
	}

	var status statusReply
	s.json("/api/status", &status)
	if host, _ := os.Hostname(); status.Host != host || status.UTCOffset%60 != 0 {
		t.Errorf("the host is %q, %d s from UTC", status.Host, status.UTCOffset)
	}
	if status.Sessions < 2 || status.Phases["relaying"] != 2 || !status.Ready || status.ServerID != 1 || len(status.Coins) != 2 ||
		status.Coins[0].Coin != "bcc" || status.Coins[0].Sessions != 2 || status.Coins[0].Pools[0].Breaker != "closed" {
		t.Errorf("unexpected status %+v", status)
	}
	var past journal.Series
	s.json("/api/history", &past)
	if len(past.Times) == 0 || len(past.Coins["btc"].Sessions) != len(past.Times) {
		t.Errorf("unexpected history %+v", past)
	}
}

// No miner may choose a label: only names of the program and of the configuration
// are in metrics.
func TestMetricsLabelsAreBounded(t *testing.T) {
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"evilaccount": "btc", "evilcoin": "evilname"})
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc})
	miner := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "evilaccount.evilworker", UserAgent: "evilagent"})
	waitPool(t, miner, "btc")
	w := dialSubscribed(t, m.addr)
	w.SendLine(`{"id":2,"method":"evilmethod","params":[]}`)
	w.SendLine(`{"id":3,"method":"mining.authorize","params":["evilcoin.1","x"]}`)
	w.Line(testWait)
	w.Line(testWait)
	coins.set("evilaccount", "evilname")
	s.metric(`stratum_switcher_switches_without_pool_total`, is(1))
	if text := s.get("/metrics"); strings.Contains(text, "evil") {
		t.Errorf("a miner's word is in the metrics:\n%s", text)
	}
}

var metricName = regexp.MustCompile(`^# TYPE (\S+) (\S+)`)

// knownMetrics returns the names in /metrics, including those that histograms
// consist of.
func knownMetrics(t testing.TB, s *testStatus) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for line := range strings.Lines(s.get("/metrics")) {
		if m := metricName.FindStringSubmatch(line); m != nil {
			names[m[1]] = true
			if m[2] == "histogram" {
				names[m[1]+"_bucket"], names[m[1]+"_sum"], names[m[1]+"_count"] = true, true, true
			}
		}
	}
	return names
}

func TestStatusOnlyAnswersWhatItShould(t *testing.T) {
	btc, bcc := twoPools(t)
	_, s := startStatusOf(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc})
	tests := []struct {
		method, path, host string
		status             int
	}{
		{"GET", "/", "", 200},
		{"GET", "/", "localhost:6060", 200},
		{"GET", "/", "[::1]:6060", 200},
		{"GET", "/", "rebound.example.com:6060", 403},
		{"GET", "/metrics", "rebound.example.com", 403},
		{"POST", "/", "", 405},
		{"POST", "/api/status", "", 405},
		{"DELETE", "/metrics", "", 405},
		{"POST", "/debug/pprof/profile", "", 405},
		{"GET", "/nothing", "", 404},
		{"GET", "/api/", "", 404},
		{"GET", "/healthz", "", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/api/accounts?sort=password", "", 400},
		{"GET", "/api/accounts?limit=501", "", 400},
		{"GET", "/api/accounts?filter=" + strings.Repeat("x", 201), "", 400},
		{"GET", "/api/miners", "", 400},
		{"GET", "/api/miners?account=nobody", "", 404},
		{"GET", "/api/miners?account=nobody&sort=password", "", 400},
		{"GET", "/api/miners?account=nobody&limit=0", "", 400},
		{"GET", "/api/miners?account=nobody&limit=501", "", 400},
		{"GET", "/api/miners?account=nobody&offset=-1", "", 400},
		{"GET", "/api/miners?account=nobody&offset=99999999999999999999", "", 400},
		{"GET", "/api/miners?account=" + strings.Repeat("x", 201), "", 400},
		{"POST", "/api/miners?account=nobody", "", 405},
		{"GET", "/api/search", "", 400},
		{"GET", "/api/search?q=" + strings.Repeat("x", 201), "", 400},
		{"GET", "/api/events?kind=x", "", 400},
		{"GET", "/debug/pprof/", "", 200},
		{"GET", "/debug/pprof/goroutine?debug=1", "", 200},
		{"GET", "/debug/pprof/profile?seconds=9999", "", 400},
	}
	for _, tt := range tests {
		reply, content := s.do(tt.method, tt.path, tt.host)
		name := fmt.Sprintf("%s %.40s host %q", tt.method, tt.path, tt.host)
		if reply.StatusCode != tt.status {
			t.Errorf("%s: got %s %.200s, want %d", name, reply.Status, content, tt.status)
		}
		if reply.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(reply.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: unexpected headers %v", name, reply.Header)
		}
	}
	reply, page := s.do("GET", "/", "")
	policy := reply.Header.Get("Content-Security-Policy")
	if strings.Contains(policy, "unsafe") || strings.Count(policy, "'sha256-") != 2 {
		t.Errorf("unexpected policy %q", policy)
	}
	if outside := regexp.MustCompile(`(?:src|href)="(?:https?:)?//|@import|url\(|innerHTML|insertAdjacentHTML|document\.write| on[a-z]+=| style="`).FindString(page); outside != "" {
		t.Errorf("the page has %q", outside)
	}
}

func TestReadiness(t *testing.T) {
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	coins.server = 0
	m, s := startStatusOf(t, coins, []*stratumtest.Pool{btc, bcc})
	ready := func() (int, string) {
		reply, text := s.do("GET", "/readyz", "")
		return reply.StatusCode, strings.TrimSpace(text)
	}
	if code, text := ready(); code != 503 || text != "no server ID yet" {
		t.Errorf("without a server ID, got %d %q", code, text)
	}
	m.ServerIDClaimed(7)
	untried := "ready\ncoin bcc: its pool was not tried yet"
	if code, text := ready(); code != 200 || text != untried+"\ncoin btc: its pool was not tried yet" {
		t.Errorf("with a server ID, got %d %q", code, text)
	}
	waitPool(t, startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1"}), "btc")
	if code, text := ready(); code != 200 || text != untried {
		t.Errorf("with a miner, got %d %q", code, text)
	}
	m.monitor.listening.Store(false)
	if code, text := ready(); code != 503 || text != "not listening" {
		t.Errorf("while not listening, got %d %q", code, text)
	}
	s.metric("stratum_switcher_ready", is(0))
}

// Whether ZooKeeper is unreachable or comes back, nobody waits for the readiness.
func TestReadinessWithoutZooKeeper(t *testing.T) {
	c := defaultConfig()
	c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: "127.0.0.1:1"}}
	c.ZKBroker = []string{"127.0.0.1:1"}
	source, err := newCoinSource(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	m, err := newSessionManager(c, source)
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	defer m.closeLoops()
	source.Start(m)
	m.monitor.listening.Store(true)
	s := newStatusServer(m)
	if reason := s.notReady(); !strings.Contains(reason, "ZooKeeper") {
		t.Errorf("not ready because of %q", reason)
	}
}

// Loops that are stopped, as in an upgrade, do not keep readers waiting for long.
// What was counted before is still shown.
func TestStatusWhileLoopsStandStill(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc, bcc})
	miner := startMiner(t, stratumtest.MinerOptions{Addr: m.addr, Worker: "alice.1"})
	waitPool(t, miner, "btc")
	s.metric(`stratum_switcher_sessions{coin="btc",phase="relaying"}`, is(1))
	read := func() time.Duration {
		began := time.Now()
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				if reply, err := http.Get(s.url("/metrics")); err != nil || reply.StatusCode != 200 {
					t.Errorf("got %v, %v", reply, err)
				} else {
					reply.Body.Close()
				}
			})
		}
		readers.Wait()
		return time.Since(began)
	}
	usual := read()
	m.stopLoops()
	if took := read(); took > 2*walkWait+usual {
		t.Errorf("readers waited %v, compared with %v while the loops run", took, usual)
	}
	if reply, _ := s.do("GET", "/api/search?q=alice", ""); reply.StatusCode != 503 {
		t.Errorf("the search was answered with %s", reply.Status)
	}
	for _, l := range m.loops {
		l.Start()
	}
	waitAccepted(t, miner, 3)
	s.metric(`stratum_switcher_survey_age_seconds`, func(v float64) bool { return v < 1 })
	checkMiner(t, miner)
}

// An upgrade hands over events and history.
func TestEventsAndHistoryOutliveAnUpgrade(t *testing.T) {
	var l journal.Events
	l.Add(journal.Note, journal.Key{Kind: journal.Switch, What: "coin changed", Account: "alice", Coin: "btc", To: "bcc"}, "")
	for range 3 {
		l.Add(journal.Bad, journal.Key{Kind: journal.Refusal, What: "silent"}, "once more")
	}
	all := l.All()
	state, err := stratum.JSON.Marshal(&runtimeState{Monitor: &monitorState{Events: all, History: []journal.Sample{{At: 5, Coins: map[string]journal.Point{"btc": {Sessions: 1, Submitted: 2, Refused: 3}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var st runtimeState
	if err := stratum.JSON.Unmarshal(state, &st); err != nil {
		t.Fatal(err)
	}
	mon := newMonitor()
	mon.resumed(&st, 10, 0, time.Now(), time.Since(st.FrozenAt), func(journal.Key) bool { return false })
	after := mon.events.All()
	if len(after) != len(all)+1 || after[0].What != "upgraded" || after[1].Detail != "once more" || after[1].Count != 3 || after[1].Key != all[0].Key {
		t.Errorf("there are %d events after the upgrade, the first are %+v", len(after), after[:2])
	}
	if h := mon.history.All(); len(h) != 1 || h[0].Coins["btc"] != (journal.Point{Sessions: 1, Submitted: 2, Refused: 3}) {
		t.Errorf("unexpected history after the upgrade: %+v", h)
	}
}

func TestShareRates(t *testing.T) {
	var r shareRate
	total := hashrate.Totals{}
	for range 3 { // half a minute with 60 shares a minute, of which a tenth is refused
		total.Submitted, total.Accepted = total.Submitted+10, total.Accepted+9
		total.Refused[hashrate.RefusalOther]++
		r.move(total, 10*time.Second)
	}
	if perMinute := r.submitted * 60 / r.weight; perMinute < 59.9 || perMinute > 60.1 {
		t.Errorf("the rate is %v", perMinute)
	}
	for range 60 {
		r.move(total, 10*time.Second)
	}
	if perMinute := r.submitted * 60 / r.weight; perMinute > 0.1 {
		t.Errorf("after ten silent minutes, the rate is %v", perMinute)
	}
	if percent := 100 * r.refused / (r.refused + r.accepted); percent < 9.9 || percent > 10.1 {
		t.Errorf("the refused part is %v", percent)
	}
}

// A sub-account's counts continue when its miners come back. The shares from before are
// not part of its rates.
func TestShareRatesOfMinersThatComeBack(t *testing.T) {
	m := startSwitcher(t, newMemoryCoins(nil), nil, func(c *Config) {
		c.StratumServerMap["btc"] = StratumServerInfo{URL: "127.0.0.1:1"}
	})
	r := newStatusRecorder(m.sessionManager)
	a := m.accounts.expect("alice", "btc")
	for range 100 {
		a.shares.Submit()
		a.shares.Refuse(1, hashrate.RefusalStale)
	}
	m.accounts.forget(a)
	a = m.accounts.expect("alice", "btc")
	a.shares.Submit()
	a.shares.Accept(1)
	r.step(&survey{}, r.last.Add(10*time.Second))
	r.mu.Lock()
	defer r.mu.Unlock()
	if perMinute, refused, many := r.rate(a); perMinute != 6 || refused != 0 || many {
		t.Errorf("%v shares a minute, %v %% refused, many %v; want one share in ten seconds", perMinute, refused, many)
	}
}

func TestAccountOrder(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	m, s := startStatusOf(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc})
	for i := range 600 {
		a := m.accounts.expect(fmt.Sprintf("user%03d", i), "btc")
		m.mu.Lock()
		a.lastSwitch = time.Unix(int64(1000+i), 0)
		m.mu.Unlock()
	}
	got := s.accountRows("sort=switched&desc=1")
	if len(got.Accounts) != maxAccountRows || got.Matching != 600 || got.Total != 600 || got.Accounts[0].Account != "user599" {
		t.Errorf("got %d rows of %d, the first is %+v", len(got.Accounts), got.Matching, got.Accounts[0])
	}
	got = s.accountRows("sort=account&limit=2&filter=5")
	if len(got.Accounts) != 2 || got.Accounts[0].Account != "user005" || got.Accounts[1].Account != "user015" {
		t.Errorf("unexpected rows %+v", got.Accounts)
	}
	for order := range accountOrders {
		s.accountRows("sort=" + order)
	}
}

// Each connection over the limit waits, and none is lost.
func TestStatusConnectionsAreLimited(t *testing.T) {
	btc, bcc := twoPools(t)
	_, s := startStatusOf(t, newMemoryCoins(nil), []*stratumtest.Pool{btc, bcc})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testWait}
	var readers sync.WaitGroup
	for range 4 * httpConnections {
		readers.Go(func() {
			reply, err := client.Get(s.url("/healthz"))
			if err != nil {
				t.Error(err)
				return
			}
			reply.Body.Close()
		})
	}
	readers.Wait()
}
