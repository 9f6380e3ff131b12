//go:build e2e

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// askCoinFrom is askCoin of a miner with an address.
func askCoinFrom(s CoinSource, account, addr string) (*coinQuery, <-chan coinReply) {
	replies := make(chan coinReply, 2)
	q := &coinQuery{Account: account, SessionID: 0x01000080, Worker: account + ".rig1", Addr: netip.MustParseAddr(addr)}
	q.Reply = func(account, coin string, err error) { replies <- coinReply{account, coin, err} }
	s.Lookup(q)
	return q, replies
}

// waitingFor gives the accounts whose registration waits, sorted, once they
// have been asked for.
func (s *zkCoinSource) waitingFor() []string {
	names := make(chan []string)
	s.mail.post(func() {
		var waiting []string
		for name, r := range s.registrations {
			if r.phase != regRemoving {
				waiting = append(waiting, name)
			}
		}
		slices.Sort(waiting)
		names <- waiting
	})
	return <-names
}

// Sixty strangers of one network hold all places; a real user gets one. The last
// of theirs is given up for it.
func TestZKRegistrationPlacesAreShared(t *testing.T) {
	server := zkServer(t)
	for _, c := range []struct {
		name     string
		places   int
		stranger func(i int) string
		user     string
		wants    bool
	}{
		{"one address", 50, func(int) string { return "192.0.2.1" }, "192.0.2.2", true},
		{"one address as IPv6", 50, func(i int) string { return []string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2] }, "192.0.2.2", true},
		{"one IPv6 network", 50, func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }, "2001:db8:0:1::1", true},
		{"one place", 1, func(int) string { return "192.0.2.1" }, "192.0.2.2", false},
		{"two places", 2, func(int) string { return "192.0.2.1" }, "192.0.2.2", true},
		{"four places", 4, func(int) string { return "192.0.2.1" }, "192.0.2.2", true},
		{"six addresses", 12, func(i int) string { return "192.0.2." + strconv.Itoa(i%6+1) }, "192.0.2.200", false},
		{"the same address", 50, func(int) string { return "192.0.2.1" }, "192.0.2.1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			opts := zkRegOptions(server.Addr())
			opts.AutoRegMaxWait = c.places
			admin := newZKAdmin(t, server.Addr())
			s, _ := startZK(t, opts)
			var replies []<-chan coinReply
			for i := range c.places + 10 {
				_, r := askCoinFrom(s, fmt.Sprintf("stranger%02d", i), c.stranger(i))
				replies = append(replies, r)
			}
			awaitTrue(t, "all places are taken", func() bool { return len(s.waitingFor()) == c.places })
			busy := func() (n int) {
				for _, r := range replies {
					n += len(r)
				}
				return n
			}
			awaitTrue(t, "the others are refused", func() bool { return busy() == 10 })

			_, user := askCoinFrom(s, "user", c.user)
			if !c.wants {
				wantCoinReply(t, user, coinReply{"user", "", errRegistrationBusy})
				return
			}
			admin.await("the request", func() bool { _, exists := admin.get(opts.AutoRegDir + "/user"); return exists })
			awaitTrue(t, "a stranger gives up its place", func() bool { return busy() == 11 })
			admin.await("its request is taken back", func() bool { return len(admin.children(opts.AutoRegDir)) == c.places })
			admin.put(opts.CoinDir+"/user", "btc")
			admin.remove(opts.AutoRegDir + "/user")
			wantCoinReply(t, user, coinReply{"user", "btc", nil})
		})
	}
}

// Each further user gets a place until the strangers have but a fifth. One who
// waits for a stranger's sub-account keeps that place for both.
func TestZKRegistrationPlacesOfManyUsers(t *testing.T) {
	server := zkServer(t)
	opts := zkRegOptions(server.Addr())
	opts.AutoRegMaxWait = 10
	s, _ := startZK(t, opts)
	for i := range 10 {
		askCoinFrom(s, "stranger"+strconv.Itoa(i), "192.0.2.1")
	}
	awaitTrue(t, "all places are taken", func() bool { return len(s.waitingFor()) == 10 })
	// The order in which they were taken is not known, but this one is shared.
	joint := s.waitingFor()[0]
	_, joined := askCoinFrom(s, joint, "192.0.2.100")
	for i := range 7 {
		user := "user" + strconv.Itoa(i)
		askCoinFrom(s, user, "192.0.2."+strconv.Itoa(101+i))
		awaitTrue(t, user+" waits", func() bool {
			waiting := s.waitingFor()
			return len(waiting) == 10 && slices.Contains(waiting, user)
		})
	}
	if waiting := s.waitingFor(); !slices.Contains(waiting, joint) || len(joined) != 0 {
		t.Errorf("%s, which a user waits for too, was given up: %v", joint, waiting)
	}
	// Two of ten are a fifth, which the strangers keep; but the shared one counts.
	_, late := askCoinFrom(s, "late", "192.0.2.200")
	awaitTrue(t, "late is answered or waits", func() bool { return len(late) > 0 || slices.Contains(s.waitingFor(), "late") })
	strangers := 0
	for _, name := range s.waitingFor() {
		if name[0] == 's' {
			strangers++
		}
	}
	if strangers != 2 {
		t.Errorf("strangers have %d places, want 2: %v", strangers, s.waitingFor())
	}
}

// When all are gone the books are empty.
func TestZKRegistrationPlacesAreGivenBack(t *testing.T) {
	server := zkServer(t)
	opts := zkRegOptions(server.Addr())
	opts.AutoRegMaxWait = 10
	admin := newZKAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	var queries []*coinQuery
	for i := range 100 {
		q, _ := askCoinFrom(s, "user"+strconv.Itoa(i%20), "192.0.2."+strconv.Itoa(i%7))
		queries = append(queries, q)
	}
	awaitTrue(t, "all places are taken", func() bool { return len(s.waitingFor()) == 10 })
	served := s.waitingFor()[0]
	admin.put(opts.CoinDir+"/"+served, "btc")
	for _, q := range queries {
		if q.Account != served {
			s.Cancel(q)
		}
	}
	awaitTrue(t, "nothing is kept", func() bool {
		kept := make(chan int)
		s.mail.post(func() { kept <- s.places.taken + len(s.places.held) + len(s.registrations) + len(s.place) })
		return <-kept == 0
	})
}

// The coin source is told the miner's address, behind a trusted proxy the one
// that the proxy tells.
func TestQueriesHaveTheMinersAddress(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 3})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	coins.hold = true
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	for i, test := range []struct{ header, addr string }{{"", "127.0.0.1"}, {proxyV1Header, "12.34.56.78"}, {proxyV2Header, "12.34.56.78"}} {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(test.header + rawSubscribe + "\n" + rawAuthorize + "\n")
		eventually(t, "asked", func() bool {
			coins.mu.Lock()
			defer coins.mu.Unlock()
			return len(coins.held) == i+1
		})
		coins.mu.Lock()
		got := coins.held[i].Addr.String()
		coins.mu.Unlock()
		if got != test.addr {
			t.Errorf("the coin source is told %s, want %s", got, test.addr)
		}
	}
}
