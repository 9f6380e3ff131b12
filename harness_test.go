package main

import (
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// memoryCoins is a coins.Source for tests, in which the test sets the coins.
type memoryCoins struct {
	mu     sync.Mutex
	sink   coins.Sink
	coins  map[string]string
	users  map[string]int
	asked  int
	held   []*coins.Query // queries that are not answered while hold is set
	hold   bool
	server uint8 // 0 means that Start reports no server ID
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

// startSwitcher starts a switcher with one coin for each pool, with the pool's
// name. change may alter the configuration.
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
	// On a busy machine, a pool of a test may need longer to set the difficulty.
	m.timing.difficultyGrace = time.Hour
	ln, err := listen(c.ListenAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.openEvents(nil))
	m.start()
	coins.Start(m)
	m.serve(ln)
	t.Cleanup(m.close)
	return &testSwitcher{sessionManager: m, addr: ln.Addr().String(), coins: coins}
}

// eachSession calls f for each session on the goroutine of its loop, and waits until all
// calls have returned.
func (m *testSwitcher) eachSession(f func(*Session)) {
	for _, l := range m.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				f(s)
			}
		})
	}
}

// sessionsIn counts sessions by phase.
func (m *testSwitcher) sessionsIn(phase sessionPhase) int {
	n := 0
	m.eachSession(func(s *Session) {
		if s.phase == phase {
			n++
		}
	})
	return n
}

func (m *testSwitcher) sessionCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sessions)
}
