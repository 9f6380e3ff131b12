//go:build e2e

package coins

import (
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// zkFixedOptions returns options with the server ID 7, and the path of its node.
func zkFixedOptions(addr string) (ZooKeeperOptions, string) {
	opts := zkTestOptions(addr)
	opts.FixedServerID = 7
	return opts, opts.ServerIDDir + "7"
}

// The owner begins before a connection is made. If it heard of the connection first, the
// node of a fixed ID would not be claimed until the next audit, and another process could
// take it.
func TestZKOwnerBeginsBeforeItConnects(t *testing.T) {
	t.Parallel()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	opts, _ := zkFixedOptions(ln.Addr().String())
	s, err := NewZooKeeper(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.mail.mu.Lock() // so that nothing can be given to the owner
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start(newCoinRecorder())
	}()
	ln.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if nc, err := ln.Accept(); err == nil {
		nc.Close()
		t.Error("the broker was dialled before the owner could begin")
	}
	s.mail.mu.Unlock()
	<-started
	defer s.Close()
	ln.SetDeadline(time.Now().Add(testLimit))
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// A fixed server ID is reported at once, and its node is claimed.
func TestZKFixedServerIDIsClaimed(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts, path := zkFixedOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got server ID %d, want 7", id)
	}
	admin.Await("claimed", func() bool { _, exists := admin.Get(path); return exists })
	node, _ := admin.Get(path)
	if node.Owner == 0 || !strings.Contains(string(node.Value), `"HostName":"host"`) {
		t.Errorf("unexpected content %s or owner %x of the node", node.Value, node.Owner)
	}
	awaitTrue(t, "known", func() bool {
		known, owner := s.ServerIDNode()
		return known == path && owner == node.Owner
	})

	// After the node was deleted by mistake, it is claimed again, and nothing is
	// reported.
	admin.Remove(path)
	admin.Await("claimed again", func() bool { _, exists := admin.Get(path); return exists })
	if len(sink.ids) != 0 || s.Status().IDTaken {
		t.Error("the ID has changed, or counts as taken")
	}
	s.Close()
	if _, exists := admin.Get(path); exists {
		t.Error("the node still exists after Close")
	}
}

// An automatic server ID is never the fixed one of another switcher.
func TestZKFixedServerIDIsNotTaken(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts, path := zkFixedOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	for id := 1; id <= zkMaxServerID; id++ {
		if id != 7 {
			admin.Put(opts.ServerIDDir+strconv.Itoa(id), "taken")
		}
	}
	startZK(t, opts)
	admin.Await("claimed", func() bool { _, exists := admin.Get(path); return exists })
	opts.FixedServerID = 0
	other, sink := startZK(t, opts)
	awaitTrue(t, "all found taken", func() bool {
		warned := make(chan bool)
		other.mail.post(func() { warned <- other.serverID.warned })
		return <-warned
	})
	if len(sink.ids) != 0 {
		t.Errorf("got ID %d, but all are taken", <-sink.ids)
	}
}

// takenRecorder notes whether the ID counted as taken before it was reported.
type takenRecorder struct {
	*coinRecorder
	source *ZooKeeper
	before atomic.Bool
}

func (r *takenRecorder) ServerIDClaimed(id uint8) {
	r.before.Store(r.source.Status().IDTaken)
	r.coinRecorder.ServerIDClaimed(id)
}

// A fixed ID is used even if another process has it. That is reported after a
// session timeout, and until the other process has gone.
func TestZKFixedServerIDHeldByAnother(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	for _, c := range []struct {
		name      string
		ephemeral bool
		change    func(*ZooKeeperOptions)
	}{
		{"another host's", true, func(o *ZooKeeperOptions) { o.Metadata.HostName = "elsewhere" }},
		{"of the same host", true, func(*ZooKeeperOptions) {}},
		{"made by hand", false, func(*ZooKeeperOptions) {}},
		{"another's, after an upgrade", true, func(o *ZooKeeperOptions) { o.PreviousServerID, o.PreviousOwner = 7, 12345 }},
		{"another port's, after an upgrade from an older program", true, func(o *ZooKeeperOptions) { o.PreviousServerID, o.Metadata.ListenAddr = 7, "0.0.0.0:2" }},
		{"after an upgrade that changed the ID", true, func(o *ZooKeeperOptions) { o.PreviousServerID, o.PreviousOwner = 8, 12345 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			admin := zktest.NewAdmin(t, server.Addr())
			opts, path := zkFixedOptions(server.Addr())
			opts.SessionTimeout = 20 * time.Second // so that the holder keeps the ID on a busy machine
			begun := time.Now()
			var remove func()
			if c.ephemeral {
				first, _ := startZK(t, opts)
				remove = first.Close
			} else {
				admin.Put(path, "reserved")
				remove = func() { admin.Remove(path) }
			}
			admin.Await("held", func() bool { _, exists := admin.Get(path); return exists })
			// A busy machine needs long for that, too.
			usual := time.Since(begun)
			holder, _ := admin.Get(path)

			c.change(&opts)
			opts.SessionTimeout = time.Second
			s, err := NewZooKeeper(opts)
			if err != nil {
				t.Fatal(err)
			}
			sink := &takenRecorder{coinRecorder: newCoinRecorder(), source: s}
			begun = time.Now()
			s.Start(sink)
			t.Cleanup(s.Close)
			// The ID is used before it is known that another has it, and not only
			// when the other's session may have ended.
			if id := sink.wantID(t); id != 7 || sink.before.Load() {
				t.Errorf("got ID %d, counted as taken before: %v", id, sink.before.Load())
			}
			awaitTrue(t, "told", func() bool { return s.Status().IDTaken })
			if took := time.Since(begun); took < opts.SessionTimeout || took > 4*opts.SessionTimeout+10*usual {
				t.Errorf("the conflict was reported after %v", took)
			}
			if now, _ := admin.Get(path); now.Owner != holder.Owner {
				t.Error("the node was taken from its owner")
			}
			if node, _ := s.ServerIDNode(); node != "" {
				t.Errorf("the other's node counts as ours: %s", node)
			}
			remove()
			awaitTrue(t, "ours alone", func() bool {
				node, _ := s.ServerIDNode()
				return node == path && !s.Status().IDTaken
			})
			if len(sink.ids) != 0 {
				t.Error("the ID has changed")
			}
		})
	}
}

// The node of a process that crashed stays for a while, but nothing is reported.
func TestZKFixedServerIDAfterACrash(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts, path := zkFixedOptions(proxy.Addr())
	opts.SessionTimeout = 4 * time.Second // so that a busy server ends the session in time
	admin := zktest.NewAdmin(t, server.Addr())
	startZK(t, opts)
	admin.Await("held", func() bool { _, exists := admin.Get(path); return exists })
	proxy.Cut() // its session is not closed, but silent

	opts.Brokers = []string{server.Addr()}
	s, _ := startZK(t, opts)
	for {
		if s.Status().IDTaken {
			t.Fatal("a node that a crash has left counts as somebody else's")
		}
		if node, _ := s.ServerIDNode(); node != "" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if node, _ := admin.Get(path); node.Owner != s.conn.sessionID() {
		t.Errorf("the node belongs to session %x, not to the new one", node.Owner)
	}
}

// If there is no permission to claim it, a fixed ID is used with one warning, and
// it is claimed when the permission is given.
func TestZKFixedServerIDWithoutRights(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts, path := zkFixedOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	dir := strings.TrimSuffix(opts.ServerIDDir, "/")
	admin.Put(opts.CoinDir+"/alice", "btc")
	admin.Put(dir, "")
	admin.Allow(dir, zk.PermAll&^zk.PermCreate)
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got server ID %d, want 7", id)
	}
	wantLookup(t, s, "alice", "btc")
	awaitTrue(t, "warned", func() bool {
		warned := make(chan bool)
		s.mail.post(func() { warned <- s.serverID.warned })
		return <-warned
	})
	admin.Allow(dir, zk.PermAll)
	admin.Await("claimed", func() bool { _, exists := admin.Get(path); return exists })
	if s.Status().IDTaken {
		t.Error("the ID counts as somebody else's")
	}
}

// In an upgrade the node passes to the next process without a moment in which
// another one could get it.
func TestZKFixedServerIDTakeover(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	for _, c := range []struct {
		name   string
		before uint8 // ServerID before the upgrade
		known  bool  // whether the state contains the node's owner
		after  uint8
	}{
		{"fixed", 7, true, 7},
		{"fixed, owner unknown", 7, false, 7},
		{"automatic to fixed", 0, true, 0},
		{"fixed to automatic", 7, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proxy := zktest.StartProxy(t, server.Addr())
			opts, _ := zkFixedOptions(proxy.Addr())
			opts.SessionTimeout = time.Second
			opts.FixedServerID = c.before
			admin := zktest.NewAdmin(t, server.Addr())
			before, sink := startZK(t, opts)
			id := sink.wantID(t)
			path := opts.ServerIDDir + strconv.Itoa(int(id))
			awaitTrue(t, "claimed", func() bool { node, _ := before.ServerIDNode(); return node == path })
			_, owner := before.ServerIDNode()
			rival := compete(zktest.NewAdmin(t, server.Addr()), path)

			proxy.Cut()
			opts.Brokers = []string{server.Addr()}
			opts.FixedServerID, opts.PreviousServerID = c.after, id
			if c.before == 0 {
				opts.FixedServerID = id
			}
			if c.known {
				opts.PreviousOwner = owner
			}
			after, sink := startZK(t, opts)
			if got := sink.wantID(t); got != id {
				t.Errorf("got ID %d, want %d", got, id)
			}
			awaitTrue(t, "taken over", func() bool { node, now := after.ServerIDNode(); return node == path && now != owner })
			admin.Await("the old session expired", func() bool {
				sessions, err := server.FourLetters("dump")
				return err == nil && !strings.Contains(sessions, "0x"+strconv.FormatInt(owner, 16)+"\n")
			})
			rival.end()
			if rival.got || after.Status().IDTaken {
				t.Errorf("somebody else got the ID: %v", rival.got)
			}
			if node, _ := admin.Get(path); node.Owner != after.conn.sessionID() {
				t.Errorf("the node belongs to session %x, not to the new one", node.Owner)
			}
		})
	}
}

// In former versions the directory had no meaning with a ServerID, so an impossible
// one must not keep the switcher from serving.
func TestZKFixedServerIDBadDirectory(t *testing.T) {
	t.Parallel()
	opts, _ := zkFixedOptions("127.0.0.1:1")
	opts.ServerIDDir = "unused with a ServerID/"
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got server ID %d, want 7", id)
	}
	if s.opts.ServerIDDir != "" {
		t.Errorf("the ID is claimed in %q, want nowhere", s.opts.ServerIDDir)
	}
}
