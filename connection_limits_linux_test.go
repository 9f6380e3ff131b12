//go:build linux && !portable_relay

package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// booksOfAddresses returns for how many addresses sessions are counted.
func (m *testSwitcher) booksOfAddresses() int {
	m.limits.mu.Lock()
	defer m.limits.mu.Unlock()
	return len(m.limits.sessions)
}

func startLimited(t *testing.T, change func(*Config)) *testSwitcher {
	t.Helper()
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	return startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, change)
}

func TestConnectionLimits(t *testing.T) {
	one, two := "127.0.0.2", "127.0.0.3"
	for _, c := range []struct {
		name   string
		change func(*Config)
		from   []string
		open   []bool
		want   map[string]int64
		books  int
	}{
		{"off", func(*Config) {}, []string{one, one, one}, []bool{true, true, true}, map[string]int64{}, 0},
		{"sessions", func(c *Config) { c.MaxSessions = 2 }, []string{one, two, one, two}, []bool{true, true, false, false}, map[string]int64{"full": 2}, 0},
		{"more sessions than descriptors", func(c *Config) { c.MaxSessions = 10000000 }, []string{one}, []bool{true}, map[string]int64{}, 0},
		{"one address", func(c *Config) { c.MaxSessionsPerIP = 2 }, []string{one, one, one, two, one, two, two}, []bool{true, true, false, true, false, true, false}, map[string]int64{"per_ip": 3}, 2},
		{"address before room", func(c *Config) { c.MaxSessionsPerIP, c.MaxSessions = 1, 2 }, []string{one, one, two, "127.0.0.4"}, []bool{true, false, true, false}, map[string]int64{"per_ip": 1, "full": 1}, 2},
		{"room before rate", func(c *Config) { c.MaxSessions, c.MaxConnectsPerSecond = 1, 1 }, []string{one, two, two, two}, []bool{true, false, false, false}, map[string]int64{"full": 3}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw := startLimited(t, c.change)
			var open []net.Conn
			for i, from := range c.from {
				nc := dialFrom(t, from, sw.addr)
				if got := isOpen(t, nc); got != c.open[i] {
					t.Fatalf("connection %d from %s is open: %v, want the opposite", i, from, got)
				} else if got {
					open = append(open, nc)
				}
			}
			for reason, n := range sw.refusalCounts() {
				if n != c.want[reason] {
					t.Errorf("%d connections were refused as %s, want %d", n, reason, c.want[reason])
				}
			}
			if n := sw.booksOfAddresses(); n != c.books {
				t.Errorf("%d addresses are stored, want %d", n, c.books)
			}
			// A session that ends makes room.
			open[0].Close()
			eventually(t, "one has left", func() bool { return sw.sessionCount() == len(open)-1 })
			if sw.limits.rate.rate == 0 && !isOpen(t, dialFrom(t, one, sw.addr)) {
				t.Error("there is no room after a session has ended")
			}
			for _, nc := range open {
				nc.Close()
			}
			eventually(t, "nothing is left but the last one", func() bool { return sw.sessionCount() <= 1 && sw.booksOfAddresses() <= 1 })
		})
	}
}

// No address is stored when its last session has ended.
func TestConnectionLimitBooksAreBounded(t *testing.T) {
	sw := startLimited(t, func(c *Config) { c.MaxSessionsPerIP = 3 })
	for i := range 300 {
		nc := dialFrom(t, fmt.Sprintf("127.0.%d.%d", 1+i/100, 1+i%100), sw.addr)
		if !isOpen(t, nc) {
			t.Fatal("the connection was refused")
		}
		if n := sw.booksOfAddresses(); n == 0 || n > sw.sessionCount()+1 {
			t.Fatalf("%d addresses are stored for %d sessions", n, sw.sessionCount())
		}
		nc.Close()
	}
	sw.wantNothingLeft(t)
	if n := sw.booksOfAddresses(); n != 0 {
		t.Errorf("%d addresses are still stored", n)
	}
}

func TestConnectionRate(t *testing.T) {
	l := newConnectionLimits(&Config{MaxConnectsPerSecond: 10})
	now := time.Now()
	take := func(n int) (taken int) {
		for range n {
			if l.takeToken(now) {
				taken++
			}
		}
		return taken
	}
	for _, step := range []struct {
		after time.Duration
		tries int
		want  int
	}{{0, 20, 10}, {50 * time.Millisecond, 5, 0}, {50 * time.Millisecond, 5, 1}, {500 * time.Millisecond, 9, 5}, {time.Hour, 30, 10}} {
		now = now.Add(step.after)
		if got := take(step.tries); got != step.want {
			t.Errorf("after %v, %d of %d were admitted, want %d", step.after, got, step.tries, step.want)
		}
	}

	// On sockets, a burst of a second's worth is admitted, and then as many as the
	// elapsed time allows.
	sw := startLimited(t, func(c *Config) { c.MaxConnectsPerSecond = 5 })
	began := time.Now()
	open := 0
	for i := range 40 {
		if isOpen(t, dialFrom(t, fmt.Sprintf("127.0.0.%d", 2+i), sw.addr)) {
			open++
		}
	}
	most := 5 + int(5*time.Since(began).Seconds()) + 1
	if open < 5 || open > most {
		t.Errorf("%d were admitted, want 5 to %d", open, most)
	}
	if n := sw.refusalCounts()["rate"]; n != int64(40-open) {
		t.Errorf("%d were refused, want %d", n, 40-open)
	}
}

// Behind a load balancer the miners' own addresses are counted, and the balancer's
// is not.
func TestConnectionLimitsOfProxiedMiners(t *testing.T) {
	proxied := func(addr string) string { return "PROXY TCP4 " + addr + " 10.0.0.1 4444 18080\r\n" }
	sw := startLimited(t, func(c *Config) {
		c.TrustedProxies = []string{"127.0.0.2", "10.0.0.0/8"}
		c.MaxSessionsPerIP = 2
	})
	for i, c := range []struct {
		from, header string
		open         bool
	}{
		{"127.0.0.2", proxied("192.0.2.1"), true},
		{"127.0.0.2", proxied("192.0.2.1"), true},
		{"127.0.0.2", proxied("192.0.2.1"), false},
		{"127.0.0.2", proxied("192.0.2.2"), true},
		// The reported address is counted, even if it is a trusted one.
		{"127.0.0.2", proxied("10.1.1.1"), true},
		{"127.0.0.2", proxied("10.1.1.1"), true},
		{"127.0.0.2", proxied("10.1.1.1"), false},
		// Without a reported address, the balancer speaks for itself.
		{"127.0.0.2", "", true},
		{"127.0.0.2", "", true},
		{"127.0.0.2", proxyV2Local, true},
		{"127.0.0.2", "PROXY UNKNOWN\r\n", true},
		// Others cannot report addresses, and are counted by their own.
		{"127.0.0.3", "", true},
		{"127.0.0.3", "", true},
		{"127.0.0.3", "", false},
	} {
		nc := dialFrom(t, c.from, sw.addr)
		io.WriteString(nc, c.header)
		if got := isOpen(t, nc); got != c.open {
			t.Errorf("case %d: the connection from %s with %q is open: %v, want the opposite", i, c.from, c.header, got)
		}
	}
	if n := sw.refusalCounts()["per_ip"]; n != 3 {
		t.Errorf("%d were refused, want 3", n)
	}
	if n := sw.booksOfAddresses(); n != 4 {
		t.Errorf("%d addresses are stored, want 4", n)
	}
}

// The log has one line a minute for each reason, with the number of refusals.
func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	var c refusalCount
	now := time.Now()
	refuse := func(n int64) { c.unlogged += n }
	due := func(want int64) {
		t.Helper()
		if n, _ := c.due(now); n != want {
			t.Errorf("got a line for %d refusals, want %d", n, want)
		}
	}
	due(0)
	refuse(1)
	due(1)
	refuse(1000)
	now = now.Add(alertEvery - time.Second)
	due(0)
	refuse(234)
	now = now.Add(time.Second)
	due(1234)
	now = now.Add(time.Hour)
	due(0)
}

func TestRefusalsAreShown(t *testing.T) {
	sw := startLimited(t, func(c *Config) {
		c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
		c.MaxSessionsPerIP, c.MaxSessions = 1, 2
	})
	server, err := startStatus(sw.config, sw.sessionManager)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.close)
	s := &testStatus{server, t}
	for i, source := range []string{"127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		if open := isOpen(t, dialFrom(t, source, sw.addr)); open != (i == 0 || i == 3) {
			t.Fatalf("connection %d is open: %v, want the opposite", i, open)
		}
	}
	s.metric(`stratum_switcher_refused_connections_total{reason="per_ip"}`, is(2))
	s.metric(`stratum_switcher_refused_connections_total{reason="full"}`, is(1))
	s.metric(`stratum_switcher_refused_connections_total{reason="rate"}`, is(0))
	s.metric(`stratum_switcher_refused_full_total`, is(1))
	s.metric(`stratum_switcher_sessions_max`, is(2))
	var reply statusReply
	s.json("/api/status", &reply)
	if reply.Refused["per_ip"] != 2 || reply.RefusedFull != 1 || reply.SessionsMax != 2 {
		t.Errorf("the page's JSON has %+v, %d, %d", reply.Refused, reply.RefusedFull, reply.SessionsMax)
	}
	for what, count := range map[string]int{"per_ip": 2, "full": 1} {
		if !slices.ContainsFunc(sw.monitor.events.All(), func(e journal.Event) bool {
			return e.Kind == journal.Refusal && e.What == what && e.Count == count && strings.Contains(e.Detail, "127.0.0.")
		}) {
			t.Errorf("there is no event %s with count %d in %+v", what, count, sw.monitor.events.All())
		}
	}
}
