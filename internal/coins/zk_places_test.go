//go:build e2e

package coins

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// askCoinFrom is like askCoin, for a miner with this address.
func askCoinFrom(s Source, account, addr string) (*Query, <-chan coinReply) {
	replies := make(chan coinReply, 2)
	q := &Query{Account: account, SessionID: 0x01000080, Worker: account + ".rig1", Addr: netip.MustParseAddr(addr)}
	q.Reply = func(account, coin string, err error) { replies <- coinReply{account, coin, err} }
	s.Lookup(q)
	return q, replies
}

// waitingFor returns the accounts that wait for their registration, sorted.
func (s *ZooKeeper) waitingFor() []string {
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

// Sixty strangers of one network have all places. A real user still gets one: the
// strangers' latest registration is given up.
func TestZKRegistrationPlacesAreShared(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
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
			admin := zktest.NewAdmin(t, server.Addr())
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
				wantCoinReply(t, user, coinReply{"user", "", ErrRegistrationBusy})
				return
			}
			admin.Await("the request", func() bool { _, exists := admin.Get(opts.AutoRegDir + "/user"); return exists })
			awaitTrue(t, "a stranger gives up its place", func() bool { return busy() == 11 })
			admin.Await("its request is taken back", func() bool { return len(admin.Children(opts.AutoRegDir)) == c.places })
			admin.Put(opts.CoinDir+"/user", "btc")
			admin.Remove(opts.AutoRegDir + "/user")
			wantCoinReply(t, user, coinReply{"user", "btc", nil})
		})
	}
}

// Each further user gets a place until the strangers have only a fifth. A user who
// waits for the same sub-account as a stranger keeps the place for both.
func TestZKRegistrationPlacesOfManyUsers(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	opts.AutoRegMaxWait = 10
	s, _ := startZK(t, opts)
	for i := range 10 {
		askCoinFrom(s, "stranger"+strconv.Itoa(i), "192.0.2.1")
	}
	awaitTrue(t, "all places are taken", func() bool { return len(s.waitingFor()) == 10 })
	// The order in which the places were taken is not known, but this one is
	// shared.
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
		t.Errorf("%s was given up although a user waits for it too: %v", joint, waiting)
	}
	// Two of ten are a fifth, which the strangers keep, but the shared place counts
	// as one of them.
	_, late := askCoinFrom(s, "late", "192.0.2.200")
	awaitTrue(t, "late is answered or waits", func() bool { return len(late) > 0 || slices.Contains(s.waitingFor(), "late") })
	strangers := 0
	for _, name := range s.waitingFor() {
		if name[0] == 's' {
			strangers++
		}
	}
	if strangers != 2 {
		t.Errorf("the strangers have %d places, want 2: %v", strangers, s.waitingFor())
	}
}

// When all have gone, no place is counted as taken.
func TestZKRegistrationPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	opts.AutoRegMaxWait = 10
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	var queries []*Query
	for i := range 100 {
		q, _ := askCoinFrom(s, "user"+strconv.Itoa(i%20), "192.0.2."+strconv.Itoa(i%7))
		queries = append(queries, q)
	}
	awaitTrue(t, "all places are taken", func() bool { return len(s.waitingFor()) == 10 })
	served := s.waitingFor()[0]
	admin.Put(opts.CoinDir+"/"+served, "btc")
	for _, q := range queries {
		if q.Account != served {
			s.Cancel(q)
		}
	}
	awaitTrue(t, "nothing is kept", func() bool {
		kept := make(chan int)
		s.mail.post(func() { kept <- s.places.taken + len(s.places.held) + len(s.registrations) + len(s.waitsForAccount) })
		return <-kept == 0
	})
}
