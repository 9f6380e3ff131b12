package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

const (
	askLine   = `{"id":2147400000,"method":"mining.subscribe","params":["stratumSwitcher"]}`
	readyLine = `{"id":2147400000,"result":[[["mining.notify","x"]],"aabb",%d],"error":null}`
)

// startSurveyed starts a switcher at pools that pick the extranonce, with one coin
// each. The pools are being asked for their sizes.
func startSurveyed(t *testing.T, path string, known map[string]int, addrs ...string) *testSwitcher {
	t.Helper()
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "coin0"}), nil, func(c *Config) {
		c.StratumServerMap = make(map[string]StratumServerInfo)
		for i, addr := range addrs {
			c.StratumServerMap[fmt.Sprintf("coin%d", i)] = StratumServerInfo{URL: addr, ExtraNonce: extranonceOfPool}
		}
	})
	sw.sizes.start(path, known)
	return sw
}

func TestExtranonceSizesAsked(t *testing.T) {
	for _, c := range []struct {
		given []int // sizes that the pools give; 0 means that there is no pool
		want  int
	}{
		{[]int{32}, 8}, {[]int{9}, 8}, {[]int{8}, 4}, {[]int{5}, 4}, {[]int{4}, 3}, {[]int{3}, 2},
		{[]int{12, 9}, 8}, {[]int{12, 8}, 4}, {[]int{8, 4}, 3}, {[]int{8, 3, 9}, 2},
		{[]int{8, 2}, 4}, {[]int{2, 1}, 3}, // a pool without room for any miner does not count
		{[]int{8, 0}, 3}, {[]int{0}, 3}, {[]int{3, 0}, 2},
	} {
		t.Run(fmt.Sprint(c.given), func(t *testing.T) {
			t.Parallel()
			var addrs []string
			var pools []*stratumtest.Pool
			for i, size := range c.given {
				if size == 0 {
					addrs = append(addrs, unusedAddr(t))
					continue
				}
				pools = append(pools, pickingPool(t, fmt.Sprintf("coin%d", i), 4, size))
				addrs = append(addrs, pools[len(pools)-1].Addr())
			}
			sw := startSurveyed(t, filepath.Join(t.TempDir(), "sizes"), nil, addrs...)
			testkit.WantExtranonce2Size(t, sw.addr, c.want)
			for _, p := range pools {
				eventually(t, "the connection ends", func() bool { st := p.Stats(); return st.ConnectionsTotal == 1 && st.Connections == 0 })
				checkPool(t, p)
			}
		})
	}
	for _, c := range []struct {
		kinds []string
		size  int
	}{{[]string{"pool", "session"}, 0}, {[]string{"session"}, 0}, {[]string{"pool"}, 3}} {
		config := defaultConfig()
		config.ExtraNonce2Size = c.size
		config.StratumServerMap = make(map[string]StratumServerInfo)
		for _, kind := range c.kinds {
			config.StratumServerMap[kind] = StratumServerInfo{URL: "127.0.0.1:1", ExtraNonce: kind}
		}
		if newSizeSurvey(&sessionManager{config: config, plan: planExtranonce(config)}) != nil {
			t.Errorf("pools of kinds %v with size %d were asked", c.kinds, c.size)
		}
	}
}

// Miners wait for the answers, each address gets exactly one request, and other
// lines of the pool before its answer do no harm.
func TestExtranonceSizesWait(t *testing.T) {
	t.Parallel()
	p, silent := testkit.StartScriptedPool(t), testkit.StartScriptedPool(t)
	// A try counts if the machine was not too busy to make it in time.
	const tries = 5
	for try := 1; ; try++ {
		began := time.Now()
		sw := startSurveyed(t, filepath.Join(t.TempDir(), "sizes"), nil, p.Addr())
		asked := p.Next()
		asked.ExpectLine(askLine)
		miner := stratumtest.DialRaw(t, sw.addr)
		miner.SendLine(rawSubscribe)
		miner.ExpectNothing(100 * time.Millisecond)
		asked.SendLine("Welcome!")
		asked.SendLine(difficultyLine)
		asked.SendLine(fmt.Sprintf(readyLine, 8))
		asked.ExpectClosed()
		if time.Since(began) < askWait*3/4 || try == tries {
			miner.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","80"],["mining.notify","80"]],"80",4],"error":null}`)
			break
		}
	}

	// The wait is limited, and agents do not wait.
	var began time.Time
	var sw *testSwitcher
	for try := 1; ; try++ {
		began = time.Now()
		sw = startSurveyed(t, filepath.Join(t.TempDir(), "sizes"), nil, silent.Addr())
		agent := stratumtest.DialRaw(t, sw.addr)
		agent.SendLine(`{"id":1,"method":"mining.subscribe","params":["btccom-agent/0.1"]}`)
		agent.Line(stratumtest.Patience)
		took := time.Since(began)
		if took <= askWait/2 {
			break
		}
		if try == tries {
			t.Errorf("the agent was answered after %v", took)
			break
		}
	}
	testkit.WantExtranonce2Size(t, sw.addr, 3)
	if took := time.Since(began); took < askWait-100*time.Millisecond || took > askWait+testWait {
		t.Errorf("the miner was answered after %v", took)
	}
	testkit.WantExtranonce2Size(t, sw.addr, 3)
}

// An address that was out is asked when it is back, even if its size is known. A
// smaller size counts at once, a larger one only if the address was asked.
func TestExtranonceSizesChange(t *testing.T) {
	t.Parallel()
	addr := unusedAddr(t)
	sw := startSurveyed(t, filepath.Join(t.TempDir(), "sizes"), nil, addr)
	testkit.WantExtranonce2Size(t, sw.addr, 3)
	p := startPool(t, stratumtest.PoolOptions{Name: "coin0", Addr: addr, ShareBits: 3, Own: &stratumtest.OwnExtranonce{Len: 4, Size: 12}})
	eventually(t, "it is asked again", func() bool { return sw.sizes.size.Load() == 8 })
	testkit.WantExtranonce2Size(t, sw.addr, 8)
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	waitPool(t, m, "coin0")
	p.RotateExtranonce(10, false)
	p.RotateExtranonce(9, false)
	waitAccepted(t, m, 3)
	if size := sw.sizes.size.Load(); size != 8 {
		t.Errorf("the size is %d", size)
	}
	a := sw.pools["coin0"].addresses[0]
	sw.sizes.saw(a, 6)
	testkit.WantExtranonce2Size(t, sw.addr, 4)
	sw.sizes.saw(a, 12)
	testkit.WantExtranonce2Size(t, sw.addr, 4)
	asked := p.Stats().ConnectionsTotal
	sw.poolBack(sw.health.endpoint(netip.MustParseAddrPort(addr)))
	eventually(t, "it is asked once more", func() bool { return p.Stats().ConnectionsTotal == asked+1 && sw.sizes.size.Load() == 8 })
	waitAccepted(t, m, 3)
	checkMiner(t, m)
	checkPool(t, p)
}

// A pool was restarted with a larger size, so quickly that it was never out. Its links show
// that, and it is asked if none of them got the smaller size for a while.
func TestExtranonceSizesAfterAQuickRestart(t *testing.T) {
	t.Parallel()
	p := testkit.StartScriptedPool(t)
	sw := startSurveyed(t, filepath.Join(t.TempDir(), "sizes"), map[string]int{p.Addr(): 5}, p.Addr())
	a := sw.sizes.addresses[p.Addr()]
	confirmed := func(ago time.Duration) {
		sw.sizes.mu.Lock()
		defer sw.sizes.mu.Unlock()
		a.confirmed = time.Now().Add(-ago)
	}
	confirmed(2 * smallerSizeKept)
	sw.sizes.saw(a.poolAddress, 5)
	sw.sizes.saw(a.poolAddress, 9)
	confirmed(smallerSizeKept - time.Minute)
	sw.sizes.saw(a.poolAddress, 9)
	if len(a.askAgain) != 0 {
		t.Error("the pool is asked although a link was given the smaller size")
	}
	confirmed(smallerSizeKept)
	for range 3 {
		sw.sizes.saw(a.poolAddress, 9)
	}
	asked := p.Next()
	asked.ExpectLine(askLine)
	asked.SendLine(fmt.Sprintf(readyLine, 9))
	eventually(t, "the larger size counts", func() bool { return sw.sizes.size.Load() == 8 })
	testkit.WantExtranonce2Size(t, sw.addr, 8)
	sw.sizes.saw(a.poolAddress, 12)
	if len(a.askAgain) != 0 || len(p.Conns) != 0 {
		t.Error("the pool is asked again at once")
	}
}

// A link also shows the size: that of a pool that was out at the start, and of one
// that gives less than before.
func TestExtranonceSizesOfLinks(t *testing.T) {
	p := testkit.StartScriptedPool(t)
	sw := startSurveyed(t, filepath.Join(t.TempDir(), "sizes"), map[string]int{p.Addr(): 8}, p.Addr())
	s := &pickingScene{PickingScene: &testkit.PickingScene{T: t, Scripted: p, Miner: stratumtest.DialRaw(t, sw.addr)}, sw: sw}
	s.Miner.SendLine(rawSubscribe)
	s.Miner.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","80"],["mining.notify","80"]],"80",4],"error":null}`)
	s.Miner.SendLine(rawAuthorize)
	s.Pool = p.Next()
	s.Handshake("aaaaaaaa", 5, nil, []string{sceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
	testkit.WantExtranonce2Size(t, sw.addr, 4)
	s.Pool.SendLine(setExtranonce("bb", 4)) // there is no longer room for this miner
	eventually(t, "the size counts", func() bool { return sw.sizes.size.Load() == 3 })
	testkit.WantExtranonce2Size(t, sw.addr, 3)
}

// While an address is out, it is not asked. A request after its pause is one of its
// probes.
func TestExtranonceSizesObeyHealth(t *testing.T) {
	p := testkit.StartScriptedPool(t)
	e := func(sw *testSwitcher) *endpoint { return sw.health.endpoint(netip.MustParseAddrPort(p.Addr())) }
	sw := startSurveyed(t, "", map[string]int{p.Addr(): 8}, p.Addr())
	sw.health.mu.Lock()
	e0 := sw.health.endpoints[endpointKey{addr: netip.MustParseAddrPort(p.Addr())}]
	e0.breaker.trip(time.Now(), time.Minute, standingAll)
	e0.breaker.pauses[standingNone].until = time.Now().Add(time.Hour)
	sw.health.mu.Unlock()
	if _, err := sw.sizes.askIP(sw.sizes.addresses[p.Addr()].poolAddress, e0); !errors.Is(err, errNotDialledNow) {
		t.Errorf("the address was asked while it is out: %v", err)
	}
	sw.health.mu.Lock()
	e0.breaker.pauses[standingNone].until = time.Now().Add(-time.Second)
	sw.health.mu.Unlock()
	failed := make(chan error)
	go func() {
		_, err := sw.sizes.askIP(sw.sizes.addresses[p.Addr()].poolAddress, e0)
		failed <- err
	}()
	p.Next().Close()
	if err := <-failed; err == nil {
		t.Error("the failed request returned no error")
	}
	if state := sw.health.state(e(sw), false); state != breakerOpen {
		t.Errorf("after a failed probe, the state is %s", state)
	}
	if _, err := sw.sizes.askIP(sw.sizes.addresses[p.Addr()].poolAddress, e0); !errors.Is(err, errNotDialledNow) {
		t.Errorf("the address was asked while it is out: %v", err)
	}
	sw.health.mu.Lock()
	defer sw.health.mu.Unlock()
	if e0.sockets != 0 || e0.breaker.probes != 0 {
		t.Errorf("%d sockets and %d probes are counted, want none", e0.sockets, e0.breaker.probes)
	}
}

func TestExtranonceSizesHostileAnswers(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"good":            {fmt.Sprintf(readyLine, 8) + "\n", ""},
		"another id":      {strings.Replace(fmt.Sprintf(readyLine, 0), `"id":2147400000`, `"id":"2147400000"`, 1) + "\n", ""},
		"without an id":   {strings.Replace(fmt.Sprintf(readyLine, 8), `"id":2147400000`, `"id":null`, 1) + "\n", ""},
		"an empty object": {"{}\n" + fmt.Sprintf(readyLine, 8) + "\n", ""},
		"an error before": {`{"id":null,"result":null,"error":[20,"no",null]}` + "\n" + fmt.Sprintf(readyLine, 8) + "\n", ""},
		"nothing":         {"", "answer to mining.subscribe: EOF"},
		"half a line":     {fmt.Sprintf(readyLine, 8), "answer to mining.subscribe: EOF"},
		"error":           {`{"id":1,"result":null,"error":[20,"no",null]}` + "\n", `pool refused to subscribe: [20,"no",null]`},
		"too large":       {fmt.Sprintf(readyLine, 33) + "\n", "pool gave extranonce2 size 33"},
		"negative":        {fmt.Sprintf(readyLine, -1) + "\n", "pool gave extranonce2 size -1"},
		"not an array":    {`{"id":1,"result":true}` + "\n", "pool answered subscribe with true"},
		"line too long":   {strings.Repeat("x", stratum.MaxPoolLine+1), "answer to mining.subscribe: bufio: buffer full"},
		"lines for ever":  {strings.Repeat(difficultyLine+"\n", maxEarly/len(difficultyLine)) + fmt.Sprintf(readyLine, 8) + "\n", "answer to mining.subscribe: EOF"},
	} {
		var size int
		err := readAnswers(strings.NewReader(c.text), takeGivenSize(&size))
		if got := fmt.Sprint(err); (c.want != "" || err != nil) && got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	// A pool that connects and says nothing is given up at the deadline.
	p := testkit.StartScriptedPool(t)
	ctx, cancel := context.WithTimeout(waitContext(t), 50*time.Millisecond)
	defer cancel()
	if _, err := askSize(ctx, p.Addr(), nil, func() {}); err == nil {
		t.Error("the request has no deadline")
	}
}

func TestExtranonceSizesFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sizes")
	mustDo(t, writeSizes(path, map[string]int{"a:1": 8}))
	mustDo(t, writeSizes(path, map[string]int{"a:1": 4, "b:2": 32}))
	if sizes := readSizes(path); len(sizes) != 2 || sizes["a:1"] != 4 || sizes["b:2"] != 32 {
		t.Errorf("got sizes %v", sizes)
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
		t.Errorf("temporary files are left behind: %q", left)
	}
	for name, text := range map[string]string{"empty": "", "torn": `{"a:1":`, "list": "[1]", "texts": `{"a:1":"8"}`, "large": strings.Repeat(" ", maxSizesFile+1)} {
		mustDo(t, os.WriteFile(path, []byte(text), 0o600))
		if sizes := readSizes(path); len(sizes) > 0 {
			t.Errorf("%s: got sizes %v", name, sizes)
		}
	}
	// Sizes that no pool can have given do not count.
	addr := unusedAddr(t)
	mustDo(t, writeSizes(path, map[string]int{addr: 33, "127.0.0.1:1": 3}))
	testkit.WantExtranonce2Size(t, startSurveyed(t, path, nil, addr).addr, 3)
	// If the file cannot be written, everything else works.
	p := pickingPool(t, "coin0", 4, 8)
	testkit.WantExtranonce2Size(t, startSurveyed(t, filepath.Join(dir, "none", "sizes"), nil, p.Addr()).addr, 4)
}

func TestCheckWarnsOfSmallExtranonce2Size(t *testing.T) {
	for _, c := range []struct {
		kind string
		size int
		want bool
	}{{"pool", 0, false}, {"pool", 1, true}, {"pool", 3, true}, {"pool", 4, false}, {"pool", 8, false}, {"session", 3, false}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // this address must not be dialled
		mustDo(t, err)
		coins := filepath.Join(t.TempDir(), "coins.json")
		mustDo(t, os.WriteFile(coins, []byte(`{"*":"btc"}`), 0o600))
		config, err := parseConfig(fmt.Appendf(nil, `{"ListenAddr":"127.0.0.1:0","CoinFile":%q,"ExtraNonce2Size":%d,"StratumServerMap":{"btc":{"URL":%q,"ExtraNonce":%q}}}`,
			coins, c.size, ln.Addr(), c.kind))
		mustDo(t, err)
		warnings, _, err := checkStart(config, nil)
		mustDo(t, err)
		if got := strings.Contains(strings.Join(warnings, "\n"), fmt.Sprintf("warning: ExtraNonce2Size is %d: ", c.size)); got != c.want {
			t.Errorf("%+v: got warnings %q", c, warnings)
		}
		ln.(*net.TCPListener).SetDeadline(time.Now())
		if _, err := ln.Accept(); err == nil {
			t.Errorf("%+v: the pool was dialled", c)
		}
		ln.Close()
	}
}

func FuzzGivenSize(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(readyLine, 8) + "\n"))
	f.Add([]byte("Welcome!\n" + difficultyLine + "\n" + `{"id":1,"result":[1,"",2e9]}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var size int
		err := readAnswers(bytes.NewReader(text), takeGivenSize(&size))
		if size < 0 || size > stratum.MaxGivenSize || err != nil && size != 0 {
			t.Errorf("got the impossible size %d, %v", size, err)
		}
	})
}
