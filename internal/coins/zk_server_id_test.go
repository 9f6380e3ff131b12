//go:build e2e

package coins

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

func TestZKServerIDNode(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	path, owner := s.ServerIDNode()
	if want := opts.ServerIDDir + strconv.Itoa(int(id)); path != want || owner == 0 {
		t.Fatalf("got node %s with owner %d, want %s", path, owner, want)
	}
	node, exists := admin.Get(path)
	if !exists || node.Owner != owner {
		t.Fatalf("the node's owner is %d, want %d", node.Owner, owner)
	}
	want := `{"ChainType":"bitcoin","Coins":["btc"],"IPs":["127.0.0.1"],"HostName":"host","ListenAddr":"0.0.0.0:1"}`
	if string(node.Value) != want {
		t.Errorf("the node's content is %s, want %s", node.Value, want)
	}

	// If the node is deleted by mistake, the same ID is claimed again.
	admin.Remove(path)
	admin.Await("ID claimed again", func() bool { _, exists := admin.Get(path); return exists })
	if len(sink.ids) != 0 {
		t.Error("the ID has changed")
	}
}

func TestZKServerIDFixed(t *testing.T) {
	t.Parallel()
	proxy := zktest.StartProxy(t, zktest.Shared(t).Addr())
	proxy.Cut()
	opts := zkTestOptions(proxy.Addr())
	opts.FixedServerID, opts.ServerIDDir = 7, ""
	s, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 7 {
		t.Errorf("got a wrong server ID, %d", id)
	}
	if path, _ := s.ServerIDNode(); path != "" {
		t.Errorf("there is a node %s", path)
	}
}

func TestZKServerIDsOfTenAreDifferent(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	// If only a few IDs are left, the sources are sure to compete for them.
	for id := 1; id <= zkMaxServerID-11; id++ {
		admin.Put(opts.ServerIDDir+strconv.Itoa(id), "taken")
	}
	var sinks []*coinRecorder
	for range 10 {
		_, sink := startZK(t, opts)
		sinks = append(sinks, sink)
	}
	ids := make(map[uint8]bool)
	for _, sink := range sinks {
		id := sink.wantID(t)
		if ids[id] || id <= zkMaxServerID-11 {
			t.Errorf("ID %d is taken", id)
		}
		ids[id] = true
	}
}

func TestZKServerIDAllTaken(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	for id := 1; id <= zkMaxServerID; id++ {
		admin.Put(opts.ServerIDDir+strconv.Itoa(id), "taken")
	}
	s, sink := startZK(t, opts)
	admin.Put(opts.CoinDir+"/alice", "btc")
	wantLookup(t, s, "alice", "btc") // it serves without a server ID
	awaitTrue(t, "all found taken", func() bool {
		warned := make(chan bool)
		s.mail.post(func() { warned <- s.serverID.warned })
		return <-warned
	})
	admin.Remove(opts.ServerIDDir + "99")
	if id := sink.wantID(t); id != 99 {
		t.Errorf("got server ID %d, want 99", id)
	}
}

func TestZKServerIDLostToSomebodyElse(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkTestOptions(proxy.Addr())
	opts.SessionTimeout = time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	path, _ := s.ServerIDNode()
	proxy.Cut()
	// The broker frees the ID by itself when the session has expired.
	admin.Await("ID free", func() bool { _, exists := admin.Get(path); return !exists })
	admin.Put(path, "taken")
	proxy.Restore()
	other := sink.wantID(t)
	if other == id {
		t.Errorf("the server ID is still %d", id)
	}
	if node, _ := admin.Get(path); string(node.Value) != "taken" {
		t.Errorf("the other's node has content %q, so it was changed", node.Value)
	}
}

// competitor tries to claim an ID without a pause, as another instance might.
type competitor struct {
	stop  chan struct{}
	ended sync.WaitGroup
	got   bool
	tries int
}

func compete(admin *zktest.Admin, path string) *competitor {
	c := &competitor{stop: make(chan struct{})}
	c.ended.Add(1)
	go func() {
		defer c.ended.Done()
		for {
			select {
			case <-c.stop:
				return
			default:
			}
			c.tries++
			if admin.CreateEphemeral(path, []byte("competitor")) == nil {
				c.got = true
			}
		}
	}()
	return c
}

func (c *competitor) end() {
	close(c.stop)
	c.ended.Wait()
}

func TestZKServerIDTakeover(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	for _, known := range []bool{true, false} {
		t.Run("owner known "+strconv.FormatBool(known), func(t *testing.T) {
			proxy := zktest.StartProxy(t, server.Addr())
			opts := zkTestOptions(proxy.Addr())
			opts.SessionTimeout = time.Second
			admin := zktest.NewAdmin(t, server.Addr())
			before, sink := startZK(t, opts)
			id := sink.wantID(t)
			path, owner := before.ServerIDNode()
			other := compete(zktest.NewAdmin(t, server.Addr()), path)

			// An exec cuts the old connection, but does not end its session.
			proxy.Cut()
			opts.Brokers = []string{server.Addr()}
			opts.PreviousServerID = id
			if known {
				opts.PreviousOwner = owner
			}
			after, sink := startZK(t, opts)
			if got := sink.wantID(t); got != id {
				t.Errorf("got ID %d, want %d", got, id)
			}
			_, newOwner := after.ServerIDNode()
			if newOwner == owner {
				t.Error("the node still belongs to the former session")
			}
			// The end of the old session changes nothing.
			admin.Await("the old session expired", func() bool {
				sessions, err := server.FourLetters("dump")
				return err == nil && !strings.Contains(sessions, "0x"+strconv.FormatInt(owner, 16)+"\n")
			})
			other.end()
			if other.got || other.tries == 0 {
				t.Errorf("somebody else got the ID in one of %d tries", other.tries)
			}
			if node, _ := admin.Get(path); node.Owner != newOwner {
				t.Errorf("the node belongs to %d, want %d", node.Owner, newOwner)
			}
		})
	}
}

func TestZKServerIDTakeoverOfNothing(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	opts.PreviousServerID, opts.PreviousOwner = 42, 12345
	_, sink := startZK(t, opts)
	if id := sink.wantID(t); id != 42 {
		t.Errorf("got server ID %d, want 42", id)
	}
}

func TestZKServerIDTakeoverRefused(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	for name, change := range map[string]func(*ZooKeeperOptions){
		"other owner": func(o *ZooKeeperOptions) { o.PreviousOwner = 12345 },
		"other host":  func(o *ZooKeeperOptions) { o.Metadata.HostName = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			opts := zkTestOptions(server.Addr())
			s, sink := startZK(t, opts)
			id := sink.wantID(t)
			path, owner := s.ServerIDNode()
			change(&opts)
			opts.PreviousServerID = id
			_, sink = startZK(t, opts)
			if other := sink.wantID(t); other == id {
				t.Errorf("ID %d was taken from its owner", id)
			}
			if node, _ := admin.Get(path); node.Owner != owner {
				t.Error("the node belongs to somebody else now")
			}
		})
	}
}

// The node of a former session of the same process may exist for a while after it.
// The process must not give up its ID because of that.
func TestZKServerIDStaleNodeOfOurOwn(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	path, ours := s.ServerIDNode()
	next := dialTest(t, server.Addr())

	content, err := json.Marshal(opts.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	claimer := &idClaimer{conn: next, dir: opts.ServerIDDir, value: content, mayClaim: func(int64) bool { return true }}
	owner := func() int64 { node, _ := admin.Get(path); return node.Owner }
	claim, err := claimer.claim(id, ours, true)
	if err != nil || claim.tried != id || owner() != next.sessionID() {
		t.Fatalf("got %+v, %v", claim, err)
	}
}

// A process is replaced while its claim is under way, so neither it nor its successor
// knows whether it owns the node. The successor takes the node over in either case.
func TestZKServerIDClaimUnderWayAtAnUpgrade(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	for _, fixed := range []uint8{0, 7} {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("fixed ID %d claim done %v", fixed, done), func(t *testing.T) {
				opts := zkTestOptions(server.Addr())
				opts.FixedServerID = fixed
				first, sink := startZK(t, opts)
				id := sink.wantID(t)
				awaitTrue(t, "claimed", func() bool { _, owner := first.ServerIDNode(); return owner != 0 })
				path, owner := first.ServerIDNode()

				proxy := zktest.StartProxy(t, server.Addr())
				opts.Brokers = []string{proxy.Addr()}
				opts.PreviousServerID, opts.PreviousOwner = id, owner
				second, _ := startZK(t, opts)
				awaitTrue(t, "taken over", func() bool { _, now := second.ServerIDNode(); return now != 0 })
				_, claim := second.ServerIDNode()
				proxy.Cut()
				opts.Brokers = []string{server.Addr()}
				if done {
					opts.PreviousClaims = []int64{claim}
				} else {
					opts.PreviousOwner, opts.PreviousClaims = claim, []int64{12345}
				}
				third, sink := startZK(t, opts)
				if got := sink.wantID(t); got != id {
					t.Errorf("got ID %d, want %d", got, id)
				}
				awaitTrue(t, "taken over again", func() bool { _, now := third.ServerIDNode(); return now != 0 })
				_, now := third.ServerIDNode()
				if node, _ := admin.Get(path); node.Owner != now {
					t.Errorf("the node belongs to %d, want %d", node.Owner, now)
				}
			})
		}
	}
}

// Once the server ID was passed on, no claim begins, because the next process would not
// know of it. Claims that have begun are passed on.
func TestZKServerIDPassedOn(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	proxy.Cut()
	opts := zkTestOptions(proxy.Addr())
	opts.FixedServerID = 7
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	s.mayClaim(12345)
	if owner, claims := s.PassServerIDOn(); owner != 0 || !slices.Equal(claims, []int64{12345}) {
		t.Errorf("owner %d and claims %v were passed on, want 0 and 12345", owner, claims)
	}
	proxy.Restore()
	awaitTrue(t, "connected", func() bool { return s.Status().Connected })
	awaitTrue(t, "a claim was put off", func() bool {
		late := make(chan bool)
		s.mail.post(func() { late <- s.serverID.timer != nil })
		return <-late
	})
	if node, exists := admin.Get(opts.ServerIDDir + "7"); exists {
		t.Errorf("session %d claimed the ID", node.Owner)
	}
	s.KeepServerID()
	awaitTrue(t, "claimed", func() bool { _, owner := s.ServerIDNode(); return owner != 0 })
	if owner, claims := s.PassServerIDOn(); owner == 0 || len(claims) != 0 {
		t.Errorf("owner %d and claims %v were passed on, want the session only", owner, claims)
	}
}
