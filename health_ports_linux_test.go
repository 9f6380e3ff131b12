//go:build linux && !portable_relay

package main

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
)

// portScene has a daemon in a network namespace with few local ports, and its
// pools in another.
type portScene struct {
	t        *testing.T
	here     string
	p        *process
	mu       sync.Mutex
	nextPort int // of miners, outside of the range
}

const portSceneHTTP = "127.0.0.1:6061"

// startPortScene gives the daemon n local ports. Each pool gets a coin named
// like it.
func startPortScene(t *testing.T, n int, coins map[string]string, pools map[string]func(*choosyPool), change func(*Config)) (*portScene, map[string]*choosyPool) {
	t.Helper()
	here, far := makeNamespaces(t)
	for _, setting := range []string{fmt.Sprintf("net.ipv4.ip_local_port_range=40000 %d", 40000+n-1), "net.ipv4.tcp_tw_reuse=0"} {
		if out, err := exec.Command("ip", "netns", "exec", here, "sysctl", "-qw", setting).CombinedOutput(); err != nil {
			t.Fatalf("sysctl %s: %v: %s", setting, err, out)
		}
	}
	c := fileConfig()
	c.ListenAddr = "127.0.0.1:18080" // not in the range
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, portSceneHTTP
	made := make(map[string]*choosyPool)
	port := 3333
	for name, rules := range pools {
		inNamespace(t, far, func() {
			ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", poolIP, port))
			if err != nil {
				t.Fatal(err)
			}
			made[name] = serveChoosyPool(t, ln, name, rules)
		})
		port++
		c.StratumServerMap[name] = StratumServerInfo{URL: made[name].addr()}
	}
	if change != nil {
		change(c)
	}
	return &portScene{t: t, here: here, p: startProcessIn(t, here, c, coins), nextPort: 10000}, made
}

// dial connects from a port that is not in the range.
func (s *portScene) dial(addr string) (nc net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextPort++
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.nextPort}, Timeout: testWait}
	inNamespace(s.t, s.here, func() { nc, err = d.Dial("tcp", addr) })
	return nc, err
}

func (s *portScene) logIn(worker string) *login {
	return dialLogin(func() (net.Conn, error) { return s.dial(s.p.addr) }, worker, "raw/1.0")
}

// metrics is the text at /metrics.
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

// mineOn submits a share now and then and reads what comes, until the
// connection ends. Shares must be accepted.
func (l *login) mineOn(pause time.Duration, failed func(string)) (stop func()) {
	var all sync.WaitGroup
	ended := make(chan struct{})
	job, lost := make(chan string, 1), false
	job <- l.pool + "-0"
	all.Go(func() {
		for {
			line, err := l.r.ReadString('\n')
			select {
			case <-ended:
				return
			default:
			}
			if err != nil {
				failed("closed: " + err.Error())
				return
			}
			switch {
			case strings.Contains(line, `"mining.notify"`):
				_, rest, _ := strings.Cut(line, `"params":["`)
				id, _, _ := strings.Cut(rest, `"`)
				<-job
				job <- id
			case !strings.HasPrefix(line, `{"id":null`) && !strings.Contains(line, `"result":true`) && !lost:
				lost = true
				failed(strings.TrimSpace(line))
			}
		}
	})
	all.Go(func() {
		for i := 3; ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(pause):
			}
			id := <-job
			job <- id
			fmt.Fprintln(l.nc, shareLine(fmt.Sprint(i), id))
		}
	})
	return func() { close(ended); l.close(); all.Wait() }
}

// Miners are moved to and fro between pools for which there are few more local
// ports than miners. No dial fails for want of one, as no link leaves its port
// behind, and no share is lost.
func TestMovesUseNoPortsUp(t *testing.T) {
	const miners, ports = 150, 200
	every, moves := 2*time.Second, 6
	if *longTests {
		every, moves = 10*time.Second, 12
	}
	s, pools := startPortScene(t, ports, map[string]string{"alice": "btc"}, map[string]func(*choosyPool){"btc": nil, "bcc": nil}, nil)
	var mu sync.Mutex
	trouble := make(map[string]int)
	logins := make(chan *login, miners)
	for i := range miners {
		go func() { logins <- s.logIn(fmt.Sprintf("alice.%d", i)) }()
	}
	for range miners {
		l := <-logins
		if l.pool != "btc" {
			t.Fatalf("a miner is told %q", l.answer)
		}
		stop := l.mineOn(time.Second, func(what string) {
			mu.Lock()
			defer mu.Unlock()
			trouble[what]++
		})
		defer stop()
	}
	for i := range moves {
		to := [...]string{"bcc", "btc"}[i%2]
		began := time.Now()
		s.p.setCoins(map[string]string{"alice": to})
		eventually(t, fmt.Sprintf("all are at %s for the time %d", to, i/2+1), func() bool { return len(pools[to].served()) >= miners && time.Since(began) > every/2 })
		time.Sleep(time.Until(began.Add(every)))
	}
	text := s.metrics()
	if n := metricsSum(text, "stratum_switcher_pool_link_failures_total"); n > 0 {
		t.Errorf("%v links failed", n)
	}
	if lines := s.p.logLines(`(.*(?:no local port|taken out|EADDRNOTAVAIL).*)`); len(lines) > 0 {
		t.Errorf("logged: %q", lines)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(trouble) > 0 {
		t.Errorf("miners saw %v", trouble)
	}
	t.Logf("%d miners moved %d times; %d and %d connections to the pools", miners, moves, pools["btc"].total.Load(), pools["bcc"].total.Load())
}

// All local ports are in use. That is not the pool's fault: miners of before
// stay, new ones are refused after the time for a handshake, and are served as
// soon as there are ports.
func TestNoFreeLocalPort(t *testing.T) {
	const ports = 40
	s, pools := startPortScene(t, ports, map[string]string{"alice": "btc"}, map[string]func(*choosyPool){"btc": nil, "bcc": nil}, nil) // room for more sessions than one coin has ports
	var stops []func()
	fell := make(chan string, 1000)
	for i := range ports {
		l := s.logIn(fmt.Sprintf("alice.%d", i))
		if !l.accepted() {
			t.Fatalf("miner %d is told %q", i, l.answer)
		}
		stops = append(stops, l.mineOn(200*time.Millisecond, func(what string) { fell <- what }))
	}
	const more = 10
	logins := make(chan *login, more)
	for i := range more {
		go func() { logins <- s.logIn(fmt.Sprintf("alice.more%d", i)) }()
	}
	for range more {
		l := <-logins
		l.close()
		if l.answer != connectFailed || l.took < poolHandshakeTimeout-time.Second || l.took > poolHandshakeTimeout+3*time.Second {
			t.Errorf("a miner for whom there is no port is told %q after %v", l.answer, l.took.Round(time.Millisecond))
		}
	}
	s.p.waitLog(`no local port is free for connections to pool=`)
	if lines := s.p.logLines(`(.*taken out.*)`); len(lines) > 0 {
		t.Errorf("logged: %q", lines)
	}
	text := s.metrics()
	if closed := regexp.MustCompile(`(?m)^stratum_switcher_pool_breaker_state\{coin="btc",.*state="closed"\} 1$`); !closed.MatchString(text) {
		t.Error("the breaker is not closed")
	}
	if n := len(pools["btc"].served()); n != ports || len(fell) > 0 {
		t.Errorf("%d links are left, %d miners had trouble", n, len(fell))
	}
	// Some leave, as others come that wait for their ports.
	for i := range more {
		go func() { logins <- s.logIn(fmt.Sprintf("alice.next%d", i)) }()
	}
	time.Sleep(500 * time.Millisecond)
	for _, stop := range stops[:more] {
		stop()
	}
	for range more {
		l := <-logins
		defer l.close()
		if !l.accepted() || l.took > 3*time.Second {
			t.Errorf("a miner that waited for a port is told %q after %v", l.answer, l.took.Round(time.Millisecond))
		}
	}
	if len(fell) > 0 {
		t.Errorf("a miner of before had trouble: %s", <-fell)
	}
	for _, stop := range stops[more:] {
		stop()
	}
}

// The daemon has no descriptors left for a while. No address is held to be out
// for that, miners of before stay, and others are served when there are some.
func TestNoFreeDescriptor(t *testing.T) {
	pool := startChoosyPool(t, "btc", nil)
	c := fileConfig()
	c.StratumServerMap["btc"] = StratumServerInfo{URL: pool.addr()}
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	var stops []func()
	fell := make(chan string, 1000)
	for i := range 10 {
		l := logIn(p.addr, fmt.Sprintf("alice.%d", i), "raw/1.0")
		if !l.accepted() {
			t.Fatalf("miner %d is told %q", i, l.answer)
		}
		stops = append(stops, l.mineOn(100*time.Millisecond, func(what string) { fell <- what }))
	}
	// Room for some miners' sockets but for no link.
	var old unix.Rlimit
	pid := p.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = uint64(p.descriptors() + 3)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	const more = 6
	logins := make(chan *login, more)
	for i := range more {
		go func() { logins <- logIn(p.addr, fmt.Sprintf("alice.more%d", i), "raw/1.0") }()
	}
	p.waitLog(`this machine is short`)
	pool.served()[0].nc.Close() // its miner's next link is short of one, too
	time.Sleep(2 * time.Second)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	raised := time.Now()
	for range more {
		l := <-logins
		defer l.close()
		if !l.accepted() {
			t.Errorf("a miner that waited for a descriptor is told %q after %v", l.answer, l.took.Round(time.Millisecond))
		}
	}
	if d := time.Since(raised); d > 7*time.Second {
		t.Errorf("the last was served %v after there were descriptors", d)
	}
	if lines := p.logLines(`(.*taken out.*)`); len(lines) > 0 {
		t.Errorf("logged: %q", lines)
	}
	for _, stop := range stops {
		stop()
	}
	for range len(fell) {
		if what := <-fell; !strings.Contains(what, "[20,") {
			t.Errorf("a miner of before had trouble: %s", what)
		}
	}
	p.signal(syscall.SIGTERM)
}
