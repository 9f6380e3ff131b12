//go:build linux && e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// portScene has a daemon in a network namespace with few local ports, and its pools
// in another namespace.
type portScene struct {
	t        *testing.T
	here     string
	p        *daemontest.Daemon
	mu       sync.Mutex
	nextPort int // the next miner's port, outside the range
}

const portSceneHTTP = "127.0.0.1:6061"

// startPortScene gives the daemon n local ports. Each pool gets a coin of the same
// name.
func startPortScene(t *testing.T, n int, coins map[string]string, pools map[string]func(*testkit.ChoosyPool), change func(*daemontest.Config)) (*portScene, map[string]*testkit.ChoosyPool) {
	t.Helper()
	here, far := daemontest.MakeNamespaces(t)
	for _, setting := range []string{fmt.Sprintf("net.ipv4.ip_local_port_range=40000 %d", 40000+n-1), "net.ipv4.tcp_tw_reuse=0"} {
		if out, err := exec.Command("ip", "netns", "exec", here, "sysctl", "-qw", setting).CombinedOutput(); err != nil {
			t.Fatalf("sysctl %s: %v: %s", setting, err, out)
		}
	}
	c := daemontest.FileConfig()
	c.ListenAddr = "127.0.0.1:18080" // outside the range of local ports
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, portSceneHTTP
	made := make(map[string]*testkit.ChoosyPool)
	port := 3333
	for name, rules := range pools {
		daemontest.InNamespace(t, far, func() {
			ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", daemontest.PoolIP, port))
			if err != nil {
				t.Fatal(err)
			}
			made[name] = testkit.ServeChoosyPool(t, ln, name, rules)
		})
		port++
		c.StratumServerMap[name] = daemontest.PoolConfig{URL: made[name].Addr()}
	}
	if change != nil {
		change(c)
	}
	return &portScene{t: t, here: here, p: daemontest.StartIn(t, here, c, coins), nextPort: 10000}, made
}

// dial connects from a port outside the range.
func (s *portScene) dial(addr string) (nc net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextPort++
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.nextPort}, Timeout: testkit.LongWait}
	daemontest.InNamespace(s.t, s.here, func() { nc, err = d.Dial("tcp", addr) })
	return nc, err
}

func (s *portScene) logIn(worker string) *testkit.Login {
	return testkit.DialLogin(func() (net.Conn, error) { return s.dial(s.p.Addr) }, worker, "raw/1.0")
}

// metrics returns the text at /metrics.
func (s *portScene) metrics() string {
	s.t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return s.dial(portSceneHTTP) },
	}}
	reply, err := client.Get("http://" + portSceneHTTP + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// Miners are moved back and forth between pools, and there are few more local ports
// than miners. No dial fails for want of a port, because no link leaves its port
// occupied, and no share is lost.
func TestMovesUseNoPortsUp(t *testing.T) {
	t.Parallel()
	const miners, ports = 150, 200
	every, moves := 2*time.Second, 6
	if *daemontest.Long {
		every, moves = 10*time.Second, 12
	}
	s, pools := startPortScene(t, ports, map[string]string{"alice": "btc"}, map[string]func(*testkit.ChoosyPool){"btc": nil, "bcc": nil}, nil)
	var mu sync.Mutex
	trouble := make(map[string]int)
	logins := make(chan *testkit.Login, miners)
	for i := range miners {
		go func() { logins <- s.logIn(fmt.Sprintf("alice.%d", i)) }()
	}
	for range miners {
		l := <-logins
		if l.Pool != "btc" {
			t.Fatalf("a miner was answered %q, want to be authorized", l.Answer)
		}
		stop := l.MineOn(time.Second, func(what string) {
			mu.Lock()
			defer mu.Unlock()
			trouble[what]++
		})
		defer stop()
	}
	for i := range moves {
		to := [...]string{"bcc", "btc"}[i%2]
		began := time.Now()
		s.p.SetCoins(map[string]string{"alice": to})
		testkit.WaitUntil(t, fmt.Sprintf("all are at %s for the time %d", to, i/2+1), func() bool { return len(pools[to].Served()) >= miners && time.Since(began) > every/2 })
		time.Sleep(time.Until(began.Add(every)))
	}
	text := s.metrics()
	if n := testkit.MetricsSum(text, "stratum_switcher_pool_link_failures_total"); n > 0 {
		t.Errorf("%v links failed, want none", n)
	}
	if lines := s.p.LogLines(`(.*(?:no local port|taken out|EADDRNOTAVAIL).*)`); len(lines) > 0 {
		t.Errorf("unexpected log lines: %q", lines)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(trouble) > 0 {
		t.Errorf("miners had trouble: %v", trouble)
	}
	t.Logf("%d miners moved %d times; %d and %d connections to the pools", miners, moves, pools["btc"].Total.Load(), pools["bcc"].Total.Load())
}

// All local ports are in use, which is not the pool's fault. Miners that are
// connected stay, new ones are refused after the time for a handshake, and are
// served as soon as there are ports.
func TestNoFreeLocalPort(t *testing.T) {
	t.Parallel()
	const ports = 40
	s, pools := startPortScene(t, ports, map[string]string{"alice": "btc"}, map[string]func(*testkit.ChoosyPool){"btc": nil, "bcc": nil}, nil) // room for more sessions than one coin has ports
	var stops []func()
	fell := make(chan string, 1000)
	var usual time.Duration // how long the slowest login takes if there are ports
	for i := range ports {
		l := s.logIn(fmt.Sprintf("alice.%d", i))
		usual = max(usual, l.Took)
		if !l.Accepted() {
			t.Fatalf("miner %d was answered %q, want to be authorized", i, l.Answer)
		}
		stops = append(stops, l.MineOn(200*time.Millisecond, func(what string) { fell <- what }))
	}
	const more = 10
	logins := make(chan *testkit.Login, more)
	for i := range more {
		go func() { logins <- s.logIn(fmt.Sprintf("alice.more%d", i)) }()
	}
	for range more {
		l := <-logins
		l.Close()
		if l.Answer != testkit.ConnectFailed || l.Took < poolHandshakeTimeout-time.Second || l.Took > poolHandshakeTimeout+3*time.Second+10*usual {
			t.Errorf("a miner for which there is no port was answered %q after %v", l.Answer, l.Took.Round(time.Millisecond))
		}
	}
	s.p.WaitLog(`no local port is free for connections to pool=`)
	if lines := s.p.LogLines(`(.*taken out.*)`); len(lines) > 0 {
		t.Errorf("unexpected log lines: %q", lines)
	}
	text := s.metrics()
	if closed := regexp.MustCompile(`(?m)^stratum_switcher_pool_breaker_state\{coin="btc",.*state="closed"\} 1$`); !closed.MatchString(text) {
		t.Error("the pool's breaker is not closed, although the pool is not at fault")
	}
	if n := len(pools["btc"].Served()); n != ports || len(fell) > 0 {
		t.Errorf("%d links are left and %d miners had trouble, want all links and no trouble", n, len(fell))
	}
	// Some miners leave while others that wait for their ports connect.
	for i := range more {
		go func() { logins <- s.logIn(fmt.Sprintf("alice.next%d", i)) }()
	}
	time.Sleep(500 * time.Millisecond)
	for _, stop := range stops[:more] {
		stop()
	}
	for range more {
		l := <-logins
		defer l.Close()
		if !l.Accepted() || l.Took > 3*time.Second+10*usual {
			t.Errorf("a miner that waited for a port was answered %q after %v", l.Answer, l.Took.Round(time.Millisecond))
		}
	}
	if len(fell) > 0 {
		t.Errorf("a miner that was connected before had trouble: %s", <-fell)
	}
	for _, stop := range stops[more:] {
		stop()
	}
}

// The daemon has no descriptors left for a while. No address is taken out because
// of that, connected miners stay, and others are served when there are descriptors.
func TestNoFreeDescriptor(t *testing.T) {
	t.Parallel()
	pool := testkit.StartChoosyPool(t, "btc", nil)
	c := daemontest.FileConfig()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: pool.Addr()}
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	var stops []func()
	fell := make(chan string, 1000)
	var usual time.Duration // how long the slowest login takes if there are descriptors
	for i := range 10 {
		l := testkit.LogIn(p.Addr, fmt.Sprintf("alice.%d", i), "raw/1.0")
		usual = max(usual, l.Took)
		if !l.Accepted() {
			t.Fatalf("miner %d was answered %q, want to be authorized", i, l.Answer)
		}
		stops = append(stops, l.MineOn(100*time.Millisecond, func(what string) { fell <- what }))
	}
	// There is room for some miners' sockets but for no link.
	var old unix.Rlimit
	pid := p.Cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = uint64(p.Descriptors() + 3)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	const more = 6
	logins := make(chan *testkit.Login, more)
	for i := range more {
		go func() { logins <- testkit.LogIn(p.Addr, fmt.Sprintf("alice.more%d", i), "raw/1.0") }()
	}
	p.WaitLog(`this machine is short`)
	pool.Served()[0].Nc.Close() // its miner's next link lacks a descriptor too
	time.Sleep(2 * time.Second)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	raised := time.Now()
	for range more {
		l := <-logins
		defer l.Close()
		if !l.Accepted() {
			t.Errorf("a miner that waited for a descriptor was answered %q after %v", l.Answer, l.Took.Round(time.Millisecond))
		}
	}
	if d := time.Since(raised); d > 7*time.Second+10*usual {
		t.Errorf("the last miner was served %v after there were descriptors, which is too late", d)
	}
	if lines := p.LogLines(`(.*taken out.*)`); len(lines) > 0 {
		t.Errorf("unexpected log lines: %q", lines)
	}
	for _, stop := range stops {
		stop()
	}
	for range len(fell) {
		if what := <-fell; !strings.Contains(what, "[20,") {
			t.Errorf("a miner that was connected before had trouble: %s", what)
		}
	}
	p.Signal(syscall.SIGTERM)
}
