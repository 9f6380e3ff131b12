package main

import (
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// badCrowd makes n miners log in again and again, each as fast as pause allows,
// until the returned function is called, which returns the answers they got.
func badCrowd(t testing.TB, addr string, n int, pause time.Duration, worker func(i int) string, userAgent string) (stop func() map[string]int) {
	ended := make(chan struct{})
	var mu sync.Mutex
	answers := make(map[string]int)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for {
				l := testkit.LogIn(addr, worker(i), userAgent)
				l.Close()
				mu.Lock()
				answers[l.Answer]++
				mu.Unlock()
				select {
				case <-ended:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	var once sync.Once
	stop = func() map[string]int {
		once.Do(func() { close(ended) })
		all.Wait()
		return answers
	}
	t.Cleanup(func() { stop() })
	return stop
}

// wantOnly fails the test if there was any other answer, or none at all.
func wantOnly(t testing.TB, answers map[string]int, want string) {
	t.Helper()
	if len(answers) != 1 || answers[want] == 0 {
		t.Errorf("got answers %v, want only %q", answers, want)
	}
}

// timesTakenOut counts how often addresses were taken out of use.
func (m *testSwitcher) timesTakenOut() (n int) {
	for _, e := range m.monitor.events.All() {
		if e.Kind == journal.Failover && e.What == "pool taken out" {
			n += e.Count
		}
	}
	return n
}

// coinsOf gives each account the coin.
func coinsOf(coin string, accounts ...string) *memoryCoins {
	coins := make(map[string]string, len(accounts))
	for _, a := range accounts {
		coins[a] = coin
	}
	return newMemoryCoins(coins)
}

// coinAt returns a configuration with one coin, btc, at these addresses.
func coinAt(extranonce string, addrs ...string) func(*Config) {
	return func(c *Config) {
		c.StratumServerMap["btc"] = StratumServerInfo{URL: addrs[0], UserSuffix: "btc", BackupURLs: addrs[1:], ExtraNonce: extranonce}
	}
}
