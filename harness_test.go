package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// testWait is how long tests wait for what should happen at once.
const testWait = 8 * time.Second

func waitContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(testWait); ; time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// memoryCoins is a coins.Source for tests: coins are set by the test.
type memoryCoins struct {
	mu     sync.Mutex
	sink   coins.Sink
	coins  map[string]string
	users  map[string]int
	asked  int
	held   []*coins.Query // while hold is set
	hold   bool
	server uint8 // 0: no server ID is given out at Start
}

func newMemoryCoins(coins map[string]string) *memoryCoins {
	return &memoryCoins{coins: coins, users: make(map[string]int), server: 1}
}

func (c *memoryCoins) Start(sink coins.Sink) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sink = sink
	if c.server != 0 {
		sink.ServerIDClaimed(c.server)
	}
}

func (c *memoryCoins) Lookup(q *coins.Query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.hold {
		c.held = append(c.held, q)
		return
	}
	c.reply(q)
}

func (c *memoryCoins) reply(q *coins.Query) {
	coin, ok := c.coins[q.Account]
	if !ok {
		q.Reply("", "", coins.ErrUnknownSubAccount)
		return
	}
	c.users[q.Account]++
	q.Reply(q.Account, coin, nil)
}

func (c *memoryCoins) Cancel(q *coins.Query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, held := range c.held {
		if held == q {
			c.held = append(c.held[:i], c.held[i+1:]...)
			return
		}
	}
}

func (c *memoryCoins) Release(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[account]--
}

func (c *memoryCoins) Close() {}

// set changes an account's coin, as an operator would.
func (c *memoryCoins) set(account, coin string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coins[account] = coin
	c.sink.CoinChanged(account, coin)
}

// letGo answers the queries that were held.
func (c *memoryCoins) letGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = false
	for _, q := range c.held {
		c.reply(q)
	}
	c.held = nil
}

func (c *memoryCoins) open(account string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users[account]
}

// testSwitcher is a switcher inside the test process.
type testSwitcher struct {
	*sessionManager
	addr  string
	coins *memoryCoins
}

// startSwitcher runs a switcher with one coin for each pool, named like it.
// change may alter the configuration.
func startSwitcher(t testing.TB, coins *memoryCoins, pools []*stratumtest.Pool, change func(*Config)) *testSwitcher {
	t.Helper()
	c := defaultConfig()
	c.ServerID = 1
	c.ListenAddr = "127.0.0.1:0"
	c.StratumServerMap = make(map[string]StratumServerInfo)
	for _, p := range pools {
		c.StratumServerMap[p.Name()] = StratumServerInfo{URL: p.Addr(), UserSuffix: p.Name()}
	}
	if change != nil {
		change(c)
	}
	m, err := newSessionManager(c, coins)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listen(c.ListenAddr)
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	coins.Start(m)
	m.serve(ln)
	t.Cleanup(m.close)
	return &testSwitcher{sessionManager: m, addr: ln.Addr().String(), coins: coins}
}

func startPool(t testing.TB, opts stratumtest.PoolOptions) *stratumtest.Pool {
	t.Helper()
	p, err := stratumtest.NewPool(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// twoPools are the pools btc and bcc, with tiny work.
func twoPools(t testing.TB) (btc, bcc *stratumtest.Pool) {
	t.Helper()
	btc = startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, VersionMask: 0x1fffe000})
	bcc = startPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4, VersionMask: 0x00ffe000})
	return btc, bcc
}

func startMiner(t testing.TB, opts stratumtest.MinerOptions) *stratumtest.Miner {
	t.Helper()
	m, err := stratumtest.NewMiner(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// checkMiner fails the test if anything the miner saw was not as it should be.
func checkMiner(t testing.TB, m *stratumtest.Miner) {
	t.Helper()
	st := m.Stats()
	switch {
	case st.Disconnected:
		t.Errorf("miner %s was disconnected: %s", m.Worker(), st.Err)
	case len(st.Violations) > 0:
		t.Errorf("miner %s: %q", m.Worker(), st.Violations)
	case st.Rejected > 0:
		t.Errorf("miner %s: %d shares rejected %v, last %s", m.Worker(), st.Rejected, st.RejectedByCode, st.LastReject)
	case st.Doubled > 0 || st.Unknown > 0:
		t.Errorf("miner %s: %d answers doubled, %d to nothing", m.Worker(), st.Doubled, st.Unknown)
	}
}

// checkPool fails the test if the pool saw anything wrong.
func checkPool(t testing.TB, p *stratumtest.Pool) {
	t.Helper()
	st := p.Stats()
	if st.Faults > 0 || st.DuplicateExtranonces > 0 || st.Rejected > 0 {
		t.Errorf("pool %s: faults %q, duplicate extranonces %d, rejects %v", p.Name(), p.Faults(), st.DuplicateExtranonces, p.Rejects())
	}
}

// waitPool waits until the miner works for the pool.
func waitPool(t testing.TB, m *stratumtest.Miner, pool string) {
	t.Helper()
	if err := m.WaitPool(waitContext(t), pool); err != nil {
		t.Fatalf("miner %s does not get to pool %s: %v; %+v", m.Worker(), pool, err, m.Stats())
	}
}

// waitAccepted waits for n more accepted shares.
func waitAccepted(t testing.TB, m *stratumtest.Miner, n uint64) {
	t.Helper()
	before := m.Stats().Accepted
	err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before+n })
	if err != nil {
		t.Fatalf("miner %s: %v; %+v", m.Worker(), err, m.Stats())
	}
}

// sessionsIn counts sessions by phase.
func (m *testSwitcher) sessionsIn(phase sessionPhase) int {
	n := 0
	for _, l := range m.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				if s.phase == phase {
					n++
				}
			}
		})
	}
	return n
}

func (m *testSwitcher) sessionCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sessions)
}

func workerNames(account string) func(int) string {
	return func(i int) string { return fmt.Sprintf("%s.w%d", account, i) }
}
