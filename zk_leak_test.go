package main

import (
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// Everything that can be under way when a source is closed, then no goroutine
// may be left.
func TestZKCloseLeavesNoGoroutines(t *testing.T) {
	server := zkServer(t)
	wantNoZKGoroutines(t)
	var sources []*zkCoinSource
	for i := range 4 {
		proxy := newZKProxy(t, server.Addr())
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
		t.Errorf("closing took %v", took)
	}
	wantNoZKGoroutines(t)
}

func TestZKEnsemble(t *testing.T) {
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
	admin := newZKAdmin(t, servers[1].Addr())
	admin.put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	wantLookup(t, s, "alice", "btc")
	// Whichever one it is connected to, that one goes.
	for _, down := range []int{0, 2} {
		if err := servers[down].Kill(); err != nil {
			t.Fatal(err)
		}
		coin := []string{"bcc", "", "btc2"}[down]
		admin.put(opts.CoinDir+"/alice", coin)
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
