//go:build linux && e2e

package e2e

import (
	"flag"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

var shortSessionsFlag = flag.Int("short-sessions", 20000, "how many short sessions must leave nothing behind")

// holding is everything that must not grow with the number of past sessions.
type holding struct {
	daemontest.Usage
	heap     int // bytes in use after a collection
	watches  int // as the daemon counts them
	atBroker int // as ZooKeeper counts them
}

func (h holding) String() string {
	return fmt.Sprintf("%v, %d KB heap, %d watches (%d in ZooKeeper)", h.Usage, h.heap>>10, h.watches, h.atBroker)
}

const forcedGCs = `(?m)^# NumForcedGC = (\d+)`

// leakScene is a daemon with coins from ZooKeeper, and everything that short
// sessions need.
type leakScene struct {
	t      *testing.T
	p      *daemontest.Daemon
	debug  string
	pool   *stratumtest.Pool
	admin  *zktest.Admin
	config *daemontest.Config
	broker func(word string) (string, error)
	forced int // how many collections were forced before the last run began
}

func startLeakScene(t *testing.T) *leakScene {
	server := zktest.Shared(t)
	s := &leakScene{t: t, admin: zktest.NewAdmin(t, server.Addr()), pool: daemontest.ShortPool(t), broker: server.FourLetters}
	s.config = daemontest.ShortConfig(daemontest.ZKConfig(server.Addr(), s.pool))
	s.debug = testkit.UnusedAddr(t)
	s.config.EnableHTTPDebug, s.config.HTTPDebugListenAddr = true, s.debug
	for i := range testkit.ShortAccounts {
		s.admin.Put(path.Join(s.config.ZKSwitcherWatchDir, fmt.Sprintf("user%d", i)), "btc")
	}
	s.p = daemontest.Start(t, s.config, nil)
	s.p.WaitLog(`server_id=\d+`)
	return s
}

// run makes n short sessions and waits until nothing of them is left.
func (s *leakScene) run(n, firstRegistered int) {
	s.t.Helper()
	s.forced = daemontest.Figure(s.t, daemontest.DebugText(s.t, s.debug, "/debug/pprof/heap?debug=1"), forcedGCs)
	registrar := daemontest.StartRegistrar(s.admin, s.config)
	accepted := s.pool.Stats().Accepted
	began := time.Now()
	short := testkit.StartShortSessions(s.p.Addr, 200, testkit.ShortVisits(func(i int) string {
		return fmt.Sprintf("reg%d.rig", firstRegistered+i/97%40)
	}))
	for i := range n {
		short.Next <- i
	}
	short.Finish(s.t)
	took := time.Since(began)
	s.t.Logf("%d short sessions in %v: %.0f/s, %d mined, %d registered", n, took.Round(time.Millisecond), float64(n)/took.Seconds(),
		short.Shares.Load(), len(registrar.Registered))
	if got := s.pool.Stats().Accepted - accepted; got != uint64(short.Shares.Load()) || got < uint64(n/3) {
		s.t.Errorf("the pool got %d shares, but the miners sent %d", got, short.Shares.Load())
	}
	if len(registrar.Registered) == 0 {
		s.t.Error("no sub-account was registered")
	}
	daemontest.AwaitSettled(s.t, s.left)
	registrar.TakeBack()
}

// left says what is left of sessions that have ended.
func (s *leakScene) left() string {
	text := daemontest.DebugText(s.t, s.debug, "/metrics")
	for _, name := range []string{"sessions", "pool_sessions", "draining_links", "sub_accounts", "pool_dials_waiting"} {
		if n := testkit.MetricsSum(text, "stratum_switcher_"+name); n != 0 {
			return fmt.Sprintf("%s %v", name, n)
		}
	}
	if n := s.pool.Stats().Connections; n != 0 {
		return fmt.Sprintf("%d connections to the pool", n)
	}
	if names := s.admin.Children(s.config.ZKAutoRegWatchDir); len(names) > 0 {
		return fmt.Sprintf("requests to register %q", names)
	}
	if daemontest.Figure(s.t, daemontest.DebugText(s.t, s.debug, "/debug/pprof/heap?debug=1"), forcedGCs) <= s.forced {
		return "memory to be given back"
	}
	return ""
}

// holds reads what the daemon holds. The daemon must be idle.
func (s *leakScene) holds() (h holding) {
	s.t.Helper()
	h.Usage = s.p.Usage(s.debug)
	h.watches = daemontest.Figure(s.t, daemontest.DebugText(s.t, s.debug, "/metrics"), `(?m)^stratum_switcher_coin_source_watches (\S+)`)
	h.heap = daemontest.HeapBytes(s.t, s.debug)
	watched, err := s.broker("wchp")
	if err != nil {
		s.t.Fatal(err)
	}
	h.atBroker = strings.Count(watched, path.Dir(path.Clean(s.config.ZKSwitcherWatchDir))+"/")
	return h
}

// Sessions that ended in all ways that there are leave nothing: no descriptor,
// goroutine, watch or entry, and no memory. What grows only once has grown in a
// first run.
//
// The heap after a collection may be larger by 384 KB, and by one bit for each
// session: that of its session ID, as far as IDs were ever in use. Buffers of that
// size make a difference of 384 KB from run to run. That is 20 bytes for each of
// 20,000 sessions, and less than one byte for each of a million. The private memory
// may be larger by 6 MB, because the allocator can only give back pieces in which
// nothing is in use.
func TestShortSessionsLeaveNothing(t *testing.T) {
	n := *shortSessionsFlag
	if *daemontest.DaemonRace {
		n = min(n, 4000)
	}
	const heapSlack, privateSlack = 384 << 10, 6 << 10
	s := startLeakScene(t)
	s.run(3000, 0)
	var before holding
	daemontest.AwaitSettled(t, func() string {
		if before = s.holds(); before.watches != before.atBroker {
			return fmt.Sprintf("%d watches, %d of them in ZooKeeper", before.watches, before.atBroker)
		}
		return ""
	})
	s.run(n, 1000)
	var after holding
	s.t.Logf("before: %v", before)
	defer func() { s.t.Logf("after:  %v", after) }()
	daemontest.AwaitSettled(t, func() string {
		after = s.holds()
		switch {
		case after.Descriptors != before.Descriptors:
			return fmt.Sprintf("%d descriptors, %d before", after.Descriptors, before.Descriptors)
		case after.Goroutines > before.Goroutines:
			return fmt.Sprintf("%d goroutines, %d before", after.Goroutines, before.Goroutines)
		case after.watches != before.watches || after.atBroker != before.atBroker:
			return fmt.Sprintf("%d watches (%d in ZooKeeper), %d (%d) before", after.watches, after.atBroker, before.watches, before.atBroker)
		case after.heap > before.heap+heapSlack+n/8:
			return fmt.Sprintf("%d KB heap, %d before", after.heap>>10, before.heap>>10)
		case after.Private > before.Private+privateSlack+n/8>>10:
			return fmt.Sprintf("%d KB private, %d before", after.Private, before.Private)
		}
		return ""
	})
}
