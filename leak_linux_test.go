//go:build linux && !portable_relay

package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

var shortSessionsFlag = flag.Int("short-sessions", 20000, "how many short sessions must leave nothing behind")

// leakSettle is how long what is left of many sessions may take to be gone: the
// memory is given back by a sweep.
const leakSettle = 40 * time.Second

// awaitSettled is eventually with that patience.
func awaitSettled(t *testing.T, what func() string) {
	t.Helper()
	for end := time.Now().Add(leakSettle); ; time.Sleep(20 * time.Millisecond) {
		left := what()
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %s", left)
		}
	}
}

// debugText is what the daemon's HTTP listener says.
func debugText(t *testing.T, debug, what string) string {
	t.Helper()
	res, err := http.Get("http://" + debug + what)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// figure is the number in text that the pattern finds.
func figure(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing like %q in %.2000q", pattern, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// heapBytes is what a daemon's heap holds after a collection.
func heapBytes(t *testing.T, debug string) int {
	t.Helper()
	// Twice: what a first collection finds to have finalizers goes in the next.
	debugText(t, debug, "/debug/pprof/heap?gc=1&debug=1")
	return figure(t, debugText(t, debug, "/debug/pprof/heap?gc=1&debug=1"), heapInUse)
}

// metricsSum adds up all series of a metric.
func metricsSum(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(series, "{"); base == name {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum
}

// holding is all that must not grow with the number of sessions there were.
type holding struct {
	usage
	heap     int // bytes in use after a collection
	watches  int // by the daemon's count
	atBroker int // by ZooKeeper's
}

func (h holding) String() string {
	return fmt.Sprintf("%v, %d KB heap, %d watches (%d in ZooKeeper)", h.usage, h.heap>>10, h.watches, h.atBroker)
}

const (
	forcedGCs = `(?m)^# NumForcedGC = (\d+)`
	heapInUse = `(?m)^# HeapAlloc = (\d+)`
)

// registrar is the service that registers sub-accounts: it gives those whose
// names begin with "reg" a coin, and takes all registered ones back in the end.
type registrar struct {
	t          *testing.T
	admin      *zkAdmin
	config     *Config
	stop       chan struct{}
	ended      sync.WaitGroup
	registered map[string]bool
}

func startRegistrar(t *testing.T, admin *zkAdmin, c *Config) *registrar {
	r := &registrar{t: t, admin: admin, config: c, stop: make(chan struct{}), registered: make(map[string]bool)}
	r.ended.Go(r.run)
	return r
}

func (r *registrar) run() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		for _, name := range r.admin.children(r.config.ZKAutoRegWatchDir) {
			if !strings.HasPrefix(name, "reg") || r.registered[name] {
				continue
			}
			r.admin.put(r.config.ZKSwitcherWatchDir+name, "btc")
			_ = r.admin.TryRemove(r.config.ZKAutoRegWatchDir + name) // may be gone
			r.registered[name] = true
		}
	}
}

// takeBack ends the service and removes what it registered.
func (r *registrar) takeBack() {
	close(r.stop)
	r.ended.Wait()
	for name := range r.registered {
		r.admin.remove(r.config.ZKSwitcherWatchDir + name)
	}
}

// leakScene is a daemon with coins from ZooKeeper and everything that short
// sessions need.
type leakScene struct {
	t      *testing.T
	p      *process
	debug  string
	pool   *stratumtest.Pool
	admin  *zkAdmin
	config *Config
	broker func(word string) (string, error)
	forced int // collections forced until the last run began
}

func shortPool(t *testing.T) *stratumtest.Pool {
	return startPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, AcceptWorker: func(name string) bool {
		return !strings.HasSuffix(name, ".refused")
	}})
}

func startLeakScene(t *testing.T) *leakScene {
	server := zkServer(t)
	s := &leakScene{t: t, admin: newZKAdmin(t, server.Addr()), pool: shortPool(t), broker: server.FourLetters}
	s.config = shortConfig(zkProcessConfig(server.Addr(), s.pool))
	s.debug = unusedAddr(t)
	s.config.EnableHTTPDebug, s.config.HTTPDebugListenAddr = true, s.debug
	for i := range shortAccounts {
		s.admin.put(path.Join(s.config.ZKSwitcherWatchDir, fmt.Sprintf("user%d", i)), "btc")
	}
	s.p = startProcess(t, s.config, nil)
	s.p.waitLog(`server_id=\d+`)
	return s
}

// shortConfig changes what short sessions want otherwise.
func shortConfig(c *Config) *Config {
	c.TrustedProxies = []string{"127.0.0.0/8"}
	c.EnableUserAutoReg = true
	c.AutoRegMaxWaitUsers = 500
	c.ZKUserCaseInsensitiveIndex = path.Dir(path.Clean(c.ZKSwitcherWatchDir)) + "/case/"
	return c
}

// run makes n short sessions and waits until nothing of them is there.
func (s *leakScene) run(n, firstRegistered int) {
	s.t.Helper()
	s.forced = figure(s.t, debugText(s.t, s.debug, "/debug/pprof/heap?debug=1"), forcedGCs)
	registrar := startRegistrar(s.t, s.admin, s.config)
	accepted := s.pool.Stats().Accepted
	began := time.Now()
	short := startShortSessions(s.p.addr, 200, shortVisits(func(i int) string {
		return fmt.Sprintf("reg%d.rig", firstRegistered+i/97%40)
	}))
	for i := range n {
		short.next <- i
	}
	short.finish(s.t)
	took := time.Since(began)
	s.t.Logf("%d short sessions in %v: %.0f/s, %d mined, %d registered", n, took.Round(time.Millisecond), float64(n)/took.Seconds(),
		short.shares.Load(), len(registrar.registered))
	if got := s.pool.Stats().Accepted - accepted; got != uint64(short.shares.Load()) || got < uint64(n/3) {
		s.t.Errorf("the pool took %d shares, the miners sent %d", got, short.shares.Load())
	}
	if len(registrar.registered) == 0 {
		s.t.Error("no sub-account was registered")
	}
	awaitSettled(s.t, s.left)
	registrar.takeBack()
}

// left says what is still there of sessions that are over.
func (s *leakScene) left() string {
	text := debugText(s.t, s.debug, "/metrics")
	for _, name := range []string{"sessions", "pool_sessions", "draining_links", "sub_accounts", "pool_dials_waiting"} {
		if n := metricsSum(text, "stratum_switcher_"+name); n != 0 {
			return fmt.Sprintf("%s %v", name, n)
		}
	}
	if n := s.pool.Stats().Connections; n != 0 {
		return fmt.Sprintf("%d connections to the pool", n)
	}
	if names := s.admin.children(s.config.ZKAutoRegWatchDir); len(names) > 0 {
		return fmt.Sprintf("requests to register %q", names)
	}
	if figure(s.t, debugText(s.t, s.debug, "/debug/pprof/heap?debug=1"), forcedGCs) <= s.forced {
		return "memory to be given back"
	}
	return ""
}

// holds looks at the daemon, which is idle.
func (s *leakScene) holds() (h holding) {
	s.t.Helper()
	h.usage = s.p.usage(s.debug)
	h.watches = figure(s.t, debugText(s.t, s.debug, "/metrics"), `(?m)^stratum_switcher_coin_source_watches (\S+)`)
	h.heap = heapBytes(s.t, s.debug)
	watched, err := s.broker("wchp")
	if err != nil {
		s.t.Fatal(err)
	}
	h.atBroker = strings.Count(watched, path.Dir(path.Clean(s.config.ZKSwitcherWatchDir))+"/")
	return h
}

// Sessions that came and went, in all ways in which they can, leave nothing:
// no descriptor, goroutine, watch or entry, and no memory. What only grows once
// has grown in a first run.
//
// The heap after a collection may be larger by 384 KB, and by a bit for each
// session: that of its session ID, as far as IDs were ever in use. 384 KB are
// what buffers of that size differ from run to run; it is 20 bytes for each of
// 20,000 sessions and less than one byte for each of a million. The private
// memory may be larger by 6 MB, because the allocator gives it back in pieces
// that hold something here and there.
func TestShortSessionsLeaveNothing(t *testing.T) {
	t.Parallel()
	n := *shortSessionsFlag
	if raceDetector {
		n = min(n, 4000)
	}
	const heapSlack, privateSlack = 384 << 10, 6 << 10
	s := startLeakScene(t)
	s.run(3000, 0)
	var before holding
	awaitSettled(t, func() string {
		if before = s.holds(); before.watches != before.atBroker {
			return fmt.Sprintf("%d watches, %d of them in ZooKeeper", before.watches, before.atBroker)
		}
		return ""
	})
	s.run(n, 1000)
	var after holding
	s.t.Logf("before: %v", before)
	defer func() { s.t.Logf("after:  %v", after) }()
	awaitSettled(t, func() string {
		after = s.holds()
		switch {
		case after.descriptors != before.descriptors:
			return fmt.Sprintf("%d descriptors, %d before", after.descriptors, before.descriptors)
		case after.goroutines > before.goroutines:
			return fmt.Sprintf("%d goroutines, %d before", after.goroutines, before.goroutines)
		case after.watches != before.watches || after.atBroker != before.atBroker:
			return fmt.Sprintf("%d watches (%d in ZooKeeper), %d (%d) before", after.watches, after.atBroker, before.watches, before.atBroker)
		case after.heap > before.heap+heapSlack+n/8:
			return fmt.Sprintf("%d KB heap, %d before", after.heap>>10, before.heap>>10)
		case after.private > before.private+privateSlack+n/8>>10:
			return fmt.Sprintf("%d KB private, %d before", after.private, before.private)
		}
		return ""
	})
}
