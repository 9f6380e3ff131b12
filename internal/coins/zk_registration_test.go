//go:build e2e

package coins

import (
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

func zkRegOptions(addr string) ZooKeeperOptions {
	opts := zkTestOptions(addr)
	opts.AutoReg, opts.AutoRegMaxWait = true, 50
	return opts
}

func TestZKRegistration(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	_, first := askCoin(s, "new")
	admin.Await("request", func() bool { return len(admin.Children(opts.AutoRegDir)) == 1 })
	_, second := askCoin(s, "new")
	node, _ := admin.Get(opts.AutoRegDir + "/new")
	if want := `{"SessionID":16777344,"Worker":"new.rig1"}`; string(node.Value) != want || node.Owner != 0 {
		t.Errorf("the request has content %s and owner %d, want %s and none", node.Value, node.Owner, want)
	}
	admin.Put(opts.CoinDir+"/new", "btc")
	admin.Remove(opts.AutoRegDir + "/new")
	wantCoinReply(t, first, coinReply{"new", "btc", nil})
	wantCoinReply(t, second, coinReply{"new", "btc", nil})
	admin.Put(opts.CoinDir+"/new", "bcc")
	sink.wantCoin(t, "new", "bcc")
}

func TestZKRegistrationRefused(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	_, replies := askCoin(s, "new")
	admin.Await("request", func() bool { return len(admin.Children(opts.AutoRegDir)) == 1 })
	admin.Remove(opts.AutoRegDir + "/new")
	wantCoinReply(t, replies, coinReply{"new", "", ErrUnknownSubAccount})
}

// The deletion of the request is found even if no watch reports it.
func TestZKRegistrationWatchLost(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	_, replies := askCoin(s, "new")
	awaitTrue(t, "waiting", func() bool {
		waiting := make(chan bool)
		s.mail.post(func() { waiting <- s.registrations["new"] != nil && s.registrations["new"].phase == regWaiting })
		return <-waiting && len(admin.Children(opts.AutoRegDir)) == 1
	})
	admin.Allow(opts.AutoRegDir+"/new", zktest.NoRead)
	admin.Remove(opts.AutoRegDir + "/new")
	wantCoinReply(t, replies, coinReply{"new", "", ErrUnknownSubAccount})
}

func TestZKRegistrationCoinAppears(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	_, replies := askCoin(s, "new")
	admin.Await("request", func() bool { return len(admin.Children(opts.AutoRegDir)) == 1 })
	admin.Put(opts.CoinDir+"/new", "btc")
	wantCoinReply(t, replies, coinReply{"new", "btc", nil})
}

func TestZKRegistrationLimit(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	opts.AutoRegMaxWait = 2
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	one, _ := askCoin(s, "one")
	two, _ := askCoin(s, "two")
	admin.Await("requests", func() bool { return len(admin.Children(opts.AutoRegDir)) == 2 })
	wantLookupError(t, s, "three", ErrRegistrationBusy)
	join, joined := askCoin(s, "two") // it does not count beside the one that it joins

	// All who waited have cancelled, so the request is taken back, and there is
	// room.
	s.Cancel(one)
	admin.Await("request taken back", func() bool {
		_, exists := admin.Get(opts.AutoRegDir + "/one")
		return !exists
	})
	_, three := askCoin(s, "three")
	admin.Await("request", func() bool { _, exists := admin.Get(opts.AutoRegDir + "/three"); return exists })
	s.Cancel(two)
	if len(three)+len(joined) != 0 {
		t.Error("the query was answered too early")
	}
	if _, exists := admin.Get(opts.AutoRegDir + "/two"); !exists {
		t.Error("the request is gone although somebody waits")
	}
	s.Cancel(join)
	admin.Await("request taken back", func() bool {
		_, exists := admin.Get(opts.AutoRegDir + "/two")
		return !exists
	})
	s.Close()
	wantCoinReply(t, three, coinReply{"three", "", ErrClosed})
	if left := admin.Children(opts.AutoRegDir); len(left) != 0 {
		t.Errorf("requests are left behind: %v", left)
	}
}

func TestZKRegistrationCancelAndAskAgain(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	for range 50 {
		q, _ := askCoin(s, "new")
		s.Cancel(q)
	}
	_, replies := askCoin(s, "new")
	admin.Put(opts.CoinDir+"/new", "btc")
	wantCoinReply(t, replies, coinReply{"new", "btc", nil})
	awaitTrue(t, "nothing under way", func() bool {
		n := make(chan int)
		s.mail.post(func() { n <- len(s.registrations) + len(s.waitsForAccount) })
		return <-n == 0
	})
}

func TestZKRegistrationTimeout(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	opts.AutoRegTimeout = 300 * time.Millisecond
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	wantLookupError(t, s, "new", ErrRegistrationTimeout)
	admin.Await("request taken back", func() bool { return len(admin.Children(opts.AutoRegDir)) == 0 })
	if n := s.Status().Watches; n > 1 {
		t.Errorf("%d watches are left, want none", n)
	}
}

func TestZKRegistrationOfAnotherInstance(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkRegOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.AutoRegDir+"/new", `{"SessionID":1,"Worker":"new.x"}`)
	s, _ := startZK(t, opts)
	q, _ := askCoin(s, "new")
	_, replies := askCoin(s, "new")
	awaitTrue(t, "waiting", func() bool {
		waiting := make(chan bool)
		s.mail.post(func() {
			r := s.registrations["new"]
			waiting <- r != nil && r.phase == regWaiting
		})
		return <-waiting
	})
	s.Cancel(q)
	admin.Put(opts.CoinDir+"/new", "btc")
	admin.Remove(opts.AutoRegDir + "/new")
	wantCoinReply(t, replies, coinReply{"new", "btc", nil})

	// A request that we did not create is not ours to delete.
	admin.Put(opts.AutoRegDir+"/other", "x")
	q, _ = askCoin(s, "other")
	wantLookup(t, s, "new", "btc")
	s.Cancel(q)
	s.Close()
	if _, exists := admin.Get(opts.AutoRegDir + "/other"); !exists {
		t.Error("the request of another instance was deleted")
	}
}

func TestZKRegistrationOverReconnects(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	for name, timeout := range map[string]time.Duration{"same session": 20 * time.Second, "expired session": time.Second} {
		t.Run(name, func(t *testing.T) {
			proxy := zktest.StartProxy(t, server.Addr())
			opts := zkRegOptions(proxy.Addr())
			opts.SessionTimeout = timeout
			admin := zktest.NewAdmin(t, server.Addr())
			s, sink := startZK(t, opts)
			id := sink.wantID(t)
			_, served := askCoin(s, "served")
			gone, _ := askCoin(s, "gone")
			admin.Await("requests", func() bool { return len(admin.Children(opts.AutoRegDir)) == 2 })
			proxy.Cut()
			awaitTrue(t, "cut seen", func() bool { return !s.Status().Connected })
			if timeout == time.Second {
				path, _ := s.ServerIDNode()
				admin.Await("session expired", func() bool { _, exists := admin.Get(path); return !exists })
			}
			_, later := askCoin(s, "later")
			s.Cancel(gone)
			admin.Put(opts.CoinDir+"/served", "btc")
			admin.Remove(opts.AutoRegDir + "/served")
			proxy.Restore()
			wantCoinReply(t, served, coinReply{"served", "btc", nil})
			admin.Await("requests", func() bool {
				return strings.Join(admin.Children(opts.AutoRegDir), " ") == "later"
			})
			admin.Put(opts.CoinDir+"/later", "bcc")
			admin.Remove(opts.AutoRegDir + "/later")
			wantCoinReply(t, later, coinReply{"later", "bcc", nil})
			if len(sink.ids) != 0 {
				t.Errorf("the server ID changed from %d", id)
			}
		})
	}
}

// The answer to the creation of a request is lost with the connection, and the request
// is served and deleted meanwhile. After the reconnect it is created again, because
// nobody knows that. It must not stay behind.
func TestZKRegistrationServedWhileAway(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkRegOptions(proxy.Addr())
	opts.SessionTimeout = 20 * time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	_, replies := askCoin(s, "new")
	lost := make(chan bool)
	awaitTrue(t, "the request is created", func() bool {
		s.mail.post(func() {
			r := s.registrations["new"]
			created := r != nil && r.phase == regWaiting && !r.busy
			if created {
				proxy.Cut()
				r.phase, r.owned = regCreating, false // as if the answer had not come
			}
			lost <- created
		})
		return <-lost
	})
	awaitTrue(t, "cut seen", func() bool { return !s.Status().Connected })
	admin.Put(opts.CoinDir+"/new", "btc")
	admin.Remove(opts.AutoRegDir + "/new")
	proxy.Restore()
	wantCoinReply(t, replies, coinReply{"new", "btc", nil})
	awaitTrue(t, "nothing under way", func() bool {
		n := make(chan int)
		s.mail.post(func() { n <- len(s.registrations) })
		return <-n == 0
	})
	if left := admin.Children(opts.AutoRegDir); len(left) != 0 {
		t.Errorf("requests are left behind: %v", left)
	}
}
