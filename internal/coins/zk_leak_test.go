//go:build e2e

package coins

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// Sources are closed in the middle of everything that can happen. No goroutine may
// be left.
func TestZKCloseLeavesNoGoroutines(t *testing.T) {
	server := zktest.Shared(t)
	wantNoZKGoroutines(t)
	var sources []*ZooKeeper
	for i := range 4 {
		proxy := zktest.StartProxy(t, server.Addr())
		opts := zkTestOptions(proxy.Addr())
		opts.AutoReg, opts.AutoRegMaxWait = true, 10
		s, sink := startZK(t, opts)
		sink.wantID(t)
		sources = append(sources, s)
		switch i {
		case 1:
			proxy.Cut()
		case 2:
			proxy.Freeze()
		}
		for range 100 {
			askCoin(s, "alice")
			askCoin(s, "bob")
		}
	}
	begun := time.Now()
	var closing sync.WaitGroup
	for _, s := range sources {
		closing.Go(s.Close)
	}
	closing.Wait()
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("closing took %v, which is too long", took)
	}
	wantNoZKGoroutines(t)
}

func TestZKEnsemble(t *testing.T) {
	t.Parallel()
	ensemble, err := zktest.StartEnsemble(3)
	if err != nil {
		t.Fatal(err)
	}
	defer ensemble.Close()
	servers := ensemble.Servers
	opts := zkTestOptions(servers[0].Addr())
	opts.SessionTimeout = 6 * time.Second
	for _, s := range servers[1:] {
		opts.Brokers = append(opts.Brokers, s.Addr())
	}
	admin := zktest.NewAdmin(t, servers[1].Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	wantLookup(t, s, "alice", "btc")
	// The server to which it is connected is stopped, each in turn.
	for _, down := range []int{0, 2} {
		if err := servers[down].Kill(); err != nil {
			t.Fatal(err)
		}
		coin := []string{"bcc", "", "btc2"}[down]
		admin.Put(opts.CoinDir+"/alice", coin)
		sink.wantCoin(t, "alice", coin)
		if err := servers[down].Start(); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if len(sink.ids) != 0 {
		t.Errorf("the server ID changed from %d", id)
	}
}

// Sub-accounts whose nodes are deleted while nobody mines there are forgotten, with
// their watches. If they come back they are read again.
func TestZKDeletedNodesLeaveNothing(t *testing.T) {
	t.Parallel()
	const accounts = 100
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	sink.wantID(t)
	before := s.Status().Watches
	name := func(i int) string { return fmt.Sprintf("passing%d", i) }
	for i := range accounts {
		admin.Put(opts.CoinDir+"/"+name(i), "btc")
		wantLookup(t, s, name(i), "btc")
		s.Release(name(i))
		admin.Remove(opts.CoinDir + "/" + name(i))
	}
	kept := func() int {
		done := make(chan int)
		s.mail.post(func() { done <- len(s.accounts) })
		return <-done
	}
	awaitTrue(t, "no account is kept", func() bool { return kept() == 0 })
	if after := s.Status().Watches; after != before {
		t.Errorf("the source has %d watches, want %d as before", after, before)
	}
	watched, err := server.FourLetters("wchp")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(watched, opts.CoinDir+"/"); n != 0 {
		t.Errorf("the broker still has %d watches: %s", n, watched)
	}

	// A query may come at any moment while a known coin is being deleted. Either it
	// is answered that there is none, or the deletion is reported; so is the next
	// coin.
	for i := range accounts {
		account := name(i)
		admin.Put(opts.CoinDir+"/"+account, "btc")
		wantLookup(t, s, account, "btc")
		s.Release(account)
		removed := make(chan struct{})
		go func() {
			defer close(removed)
			if err := admin.TryRemove(opts.CoinDir + "/" + account); err != nil {
				t.Errorf("removing %s: %v", account, err)
			}
		}()
		if i%2 == 0 {
			<-removed
		}
		_, replies := askCoin(s, account)
		reply := <-replies
		<-removed
		if reply.err != nil {
			continue
		}
		sink.wantCoin(t, account, "")
		admin.Put(opts.CoinDir+"/"+account, "bcc")
		sink.wantCoin(t, account, "bcc")
	}
}
