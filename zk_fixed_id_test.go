//go:build e2e

package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"
)

// zkFixedOptions are options with the server ID 7, and the path of its node.
func zkFixedOptions(addr string) (zkOptions, string) {
	opts := zkTestOptions(addr)
	opts.FixedServerID = 7
	return opts, opts.ServerIDDir + "7"
}

// A fixed server ID is given out at once, and its node is claimed.
func TestZKFixedServerIDIsClaimed(t *testing.T) {
	server := zkServer(t)
	opts, path := zkFixedOptions(server.Addr())
	admin := newZKAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got %d", id)
	}
	admin.await("claimed", func() bool { _, exists := admin.get(path); return exists })
	node, _ := admin.get(path)
	if node.Owner == 0 || !strings.Contains(string(node.Value), `"HostName":"host"`) {
		t.Errorf("node %s of %x", node.Value, node.Owner)
	}
	awaitTrue(t, "known", func() bool {
		known, owner := s.ServerIDNode()
		return known == path && owner == node.Owner
	})

	// Deleted by mistake: claimed again, nothing is told.
	admin.remove(path)
	admin.await("claimed again", func() bool { _, exists := admin.get(path); return exists })
	if len(sink.ids) != 0 || s.Status().IDTaken {
		t.Error("the ID changed, or is taken")
	}
	s.Close()
	if _, exists := admin.get(path); exists {
		t.Error("the node is left")
	}
}

// An automatic server ID is never the fixed one of another switcher.
func TestZKFixedServerIDIsNotTaken(t *testing.T) {
	server := zkServer(t)
	opts, path := zkFixedOptions(server.Addr())
	admin := newZKAdmin(t, server.Addr())
	for id := 1; id <= zkMaxServerID; id++ {
		if id != 7 {
			admin.put(opts.ServerIDDir+strconv.Itoa(id), "taken")
		}
	}
	startZK(t, opts)
	admin.await("claimed", func() bool { _, exists := admin.get(path); return exists })
	opts.FixedServerID = 0
	other, sink := startZK(t, opts)
	awaitTrue(t, "all found taken", func() bool {
		warned := make(chan bool)
		other.mail.post(func() { warned <- other.serverID.warned })
		return <-warned
	})
	if len(sink.ids) != 0 {
		t.Errorf("got ID %d", <-sink.ids)
	}
}

// Somebody else has the fixed ID: it is used nevertheless, and said after a
// session timeout, until the other is gone.
func TestZKFixedServerIDHeldByAnother(t *testing.T) {
	server := zkServer(t)
	for _, c := range []struct {
		name      string
		ephemeral bool
		change    func(*zkOptions)
	}{
		{"another host's", true, func(o *zkOptions) { o.Metadata.HostName = "elsewhere" }},
		{"of the same host", true, func(*zkOptions) {}},
		{"made by hand", false, func(*zkOptions) {}},
		{"another's, after an upgrade", true, func(o *zkOptions) { o.PreviousServerID, o.PreviousOwner = 7, 12345 }},
		{"another port's, after an upgrade from an older program", true, func(o *zkOptions) { o.PreviousServerID, o.Metadata.ListenAddr = 7, "0.0.0.0:2" }},
		{"after an upgrade that changed the ID", true, func(o *zkOptions) { o.PreviousServerID, o.PreviousOwner = 8, 12345 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			admin := newZKAdmin(t, server.Addr())
			opts, path := zkFixedOptions(server.Addr())
			opts.SessionTimeout = time.Second
			var remove func()
			if c.ephemeral {
				first, _ := startZK(t, opts)
				remove = first.Close
			} else {
				admin.put(path, "reserved")
				remove = func() { admin.remove(path) }
			}
			admin.await("held", func() bool { _, exists := admin.get(path); return exists })
			holder, _ := admin.get(path)

			c.change(&opts)
			begun := time.Now()
			s, sink := startZK(t, opts)
			if id := sink.wantID(t); id != 7 || time.Since(begun) > 500*time.Millisecond {
				t.Errorf("got ID %d after %v", id, time.Since(begun))
			}
			awaitTrue(t, "told", func() bool { return s.Status().IDTaken })
			if took := time.Since(begun); took < opts.SessionTimeout || took > 4*opts.SessionTimeout {
				t.Errorf("told after %v", took)
			}
			if now, _ := admin.get(path); now.Owner != holder.Owner {
				t.Error("the node was taken away")
			}
			if node, _ := s.ServerIDNode(); node != "" {
				t.Errorf("thought to be ours: %s", node)
			}
			remove()
			awaitTrue(t, "ours alone", func() bool {
				node, _ := s.ServerIDNode()
				return node == path && !s.Status().IDTaken
			})
			if len(sink.ids) != 0 {
				t.Error("the ID changed")
			}
		})
	}
}

// The node of a process that crashed is there for a while; nothing is said.
func TestZKFixedServerIDAfterACrash(t *testing.T) {
	server := zkServer(t)
	proxy := newZKProxy(t, server.Addr())
	opts, path := zkFixedOptions(proxy.Addr())
	opts.SessionTimeout = 2 * time.Second
	admin := newZKAdmin(t, server.Addr())
	startZK(t, opts)
	admin.await("held", func() bool { _, exists := admin.get(path); return exists })
	proxy.Cut() // its session is not closed, only not heard of any more

	opts.Brokers = []string{server.Addr()}
	s, _ := startZK(t, opts)
	for {
		if s.Status().IDTaken {
			t.Fatal("a node left behind is taken for somebody else's")
		}
		if node, _ := s.ServerIDNode(); node != "" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if node, _ := admin.get(path); node.Owner != s.conn.sessionID() {
		t.Errorf("the node belongs to %x", node.Owner)
	}
}

// Without the right to claim it the ID is used, warned of once, and claimed when
// the right is given.
func TestZKFixedServerIDWithoutRights(t *testing.T) {
	server := zkServer(t)
	opts, path := zkFixedOptions(server.Addr())
	admin := newZKAdmin(t, server.Addr())
	dir := strings.TrimSuffix(opts.ServerIDDir, "/")
	admin.put(opts.CoinDir+"/alice", "btc")
	admin.put(dir, "")
	admin.allow(dir, zk.PermAll&^zk.PermCreate)
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got %d", id)
	}
	wantLookup(t, s, "alice", "btc")
	awaitTrue(t, "warned", func() bool {
		warned := make(chan bool)
		s.mail.post(func() { warned <- s.serverID.warned })
		return <-warned
	})
	admin.allow(dir, zk.PermAll)
	admin.await("claimed", func() bool { _, exists := admin.get(path); return exists })
	if s.Status().IDTaken {
		t.Error("taken for somebody else's")
	}
}

// In an upgrade the node changes hands without a moment in which somebody else
// could have it.
func TestZKFixedServerIDTakeover(t *testing.T) {
	server := zkServer(t)
	for _, c := range []struct {
		name   string
		before uint8 // ServerID before the upgrade
		known  bool  // the state tells the node's owner
		after  uint8
	}{
		{"fixed", 7, true, 7},
		{"fixed, owner unknown", 7, false, 7},
		{"automatic to fixed", 0, true, 0},
		{"fixed to automatic", 7, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proxy := newZKProxy(t, server.Addr())
			opts, _ := zkFixedOptions(proxy.Addr())
			opts.SessionTimeout = time.Second
			opts.FixedServerID = c.before
			admin := newZKAdmin(t, server.Addr())
			before, sink := startZK(t, opts)
			id := sink.wantID(t)
			path := opts.ServerIDDir + strconv.Itoa(int(id))
			awaitTrue(t, "claimed", func() bool { node, _ := before.ServerIDNode(); return node == path })
			_, owner := before.ServerIDNode()
			rival := compete(newZKAdmin(t, server.Addr()), path)

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
			admin.await("the old session expired", func() bool {
				sessions, err := server.FourLetters("dump")
				return err == nil && !strings.Contains(sessions, "0x"+strconv.FormatInt(owner, 16)+"\n")
			})
			rival.end()
			if rival.got || after.Status().IDTaken {
				t.Errorf("somebody else got the ID: %v", rival.got)
			}
			if node, _ := admin.get(path); node.Owner != after.conn.sessionID() {
				t.Errorf("the node belongs to %x", node.Owner)
			}
		})
	}
}

// The directory had no meaning beside a ServerID once: one that can not be is no
// reason not to serve.
func TestZKFixedServerIDBadDirectory(t *testing.T) {
	opts, _ := zkFixedOptions("127.0.0.1:1")
	opts.ServerIDDir = "unused with a ServerID/"
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got %d", id)
	}
	if s.opts.ServerIDDir != "" {
		t.Errorf("claimed in %q", s.opts.ServerIDDir)
	}
}
