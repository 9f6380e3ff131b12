//go:build e2e

package coins

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// heldWatches returns how many watches the client library keeps.
func (c *zkConn) heldWatches() (n int) {
	watchers := reflect.ValueOf(c.client).Elem().FieldByName("watchers")
	for i := watchers.MapRange(); i.Next(); {
		n += i.Value().Len()
	}
	return n
}

// ZooKeeper silently drops a watch if its owner may not read the node when it
// changes. The audit finds that change, and a new watch reports the next one.
func TestZKAuditFindsLostWatches(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	node := func(opts ZooKeeperOptions) string { return opts.CoinDir + "/alice" }
	for _, c := range []struct {
		name   string
		change func(*zktest.Admin, string)
		wants  []string
	}{
		{"changed", func(a *zktest.Admin, node string) { a.Put(node, "bcc") }, []string{"bcc"}},
		{"deleted", func(a *zktest.Admin, node string) { a.Remove(node) }, []string{""}},
		{"made anew", func(a *zktest.Admin, node string) {
			a.Remove(node)
			a.Put(node, "bcc")
		}, []string{"bcc"}},
		{"changed to the same", func(a *zktest.Admin, node string) { a.Put(node, "btc") }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := zkTestOptions(server.Addr())
			opts.AuditEvery = 300 * time.Millisecond
			admin := zktest.NewAdmin(t, server.Addr())
			admin.Put(node(opts), "btc")
			s, sink := startZK(t, opts)
			sink.wantID(t)
			wantLookup(t, s, "alice", "btc")
			// The audit must not read the node while that is forbidden, because the
			// node would be read again anyway after that.
			reached, release := s.hold()
			<-reached
			admin.Allow(node(opts), zktest.NoRead)
			c.change(admin, node(opts))
			if admin.Exists(node(opts)) {
				admin.Allow(node(opts), zk.PermAll)
			}
			release()
			for _, coin := range c.wants {
				sink.wantCoin(t, "alice", coin)
			}
			awaitTrue(t, "the lost watch counted", func() bool { return s.Status().Missed == 1 })
			awaitTrue(t, "watched again", func() bool {
				watched, err := server.FourLetters("wchp")
				return err == nil && strings.Contains(watched, node(opts)+"\n")
			})
			admin.Put(node(opts), "bsv")
			sink.wantCoin(t, "alice", "bsv")
			if n := s.Status().Missed; n != 1 {
				t.Errorf("%d missed changes are counted, want 1", n)
			}
		})
	}
}

// The audit also finds an entry that was created while nobody might read it.
func TestZKAuditFindsNewNode(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	opts.AuditEvery = 300 * time.Millisecond
	admin := zktest.NewAdmin(t, server.Addr())
	node := opts.CoinDir + "/alice"
	admin.Put(node, "btc")
	s, sink := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	admin.Remove(node)
	sink.wantCoin(t, "alice", "")
	reached, release := s.hold()
	<-reached
	admin.Create(node, "bcc", zktest.NoRead)
	admin.Allow(node, zk.PermAll)
	release()
	sink.wantCoin(t, "alice", "bcc")
	admin.Put(node, "btc")
	sink.wantCoin(t, "alice", "btc")
}

// auditControl reads nodes at the pace that is asked of the audit: the owner of s reads
// perStep nodes in each step, unless the previous ones are still being read. It returns
// the count of its reads.
func auditControl(t *testing.T, s *ZooKeeper, step time.Duration, perStep int, node string) *atomic.Int64 {
	var reads atomic.Int64
	var ended atomic.Bool
	t.Cleanup(func() { ended.Store(true) })
	reading := 0
	var read func()
	read = func() {
		if ended.Load() {
			return
		}
		s.after(step, read)
		if reading > 0 {
			return
		}
		for range perStep {
			reading++
			reads.Add(1)
			s.do(false, func() func() {
				_, _ = s.conn.get(node)
				return func() { reading-- }
			})
		}
	}
	s.mail.post(read)
	return &reads
}

// The audit reads every node once in AuditEvery, evenly spread, and sets no
// watches. Its timers and the answers are late on a busy machine, so it is
// compared with a control.
func TestZKAuditIsPaced(t *testing.T) {
	const accounts, every, tries = 600, 2 * time.Second, 5
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	opts.AuditEvery = every
	opts.SessionTimeout = 20 * time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	for i := range accounts {
		admin.Put(opts.CoinDir+"/user"+strconv.Itoa(i), "btc")
	}
	s, sink := startZK(t, opts)
	sink.wantID(t)
	for i := range accounts {
		wantLookup(t, s, "user"+strconv.Itoa(i), "btc")
	}
	steps := make(chan int)
	s.mail.post(func() { steps <- len(s.audit.parts) })
	n := <-steps
	control := auditControl(t, s, every/time.Duration(n), accounts/n, opts.CoinDir+"/user0")
	received := func() int {
		answer, err := server.FourLetters("srvr")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(regexp.MustCompile(`Received: (\d+)`).FindStringSubmatch(answer)[1])
		if err != nil {
			t.Fatal(err)
		}
		return n - int(control.Load())
	}
	watches := s.conn.heldWatches()
	// twoRounds returns the audit's reads and the control's in two rounds.
	twoRounds := func() (total, beside int) {
		var quarters []int
		begun := time.Now()
		n, controlled := received(), control.Load()
		asked := begun
		for len(quarters) < 8 {
			time.Sleep(time.Until(begun.Add(every / 4 * time.Duration(len(quarters)+1))))
			was, now := asked, time.Now()
			more := received() - n
			n += more
			quarters = append(quarters, more)
			total += more
			asked = now
			if most := accounts * 2 * max(1, time.Since(was).Seconds()/(every/4).Seconds()) / 4; float64(more) > most {
				t.Errorf("the reads are not evenly spread over the quarters of a round: %v", quarters)
			}
		}
		if most := 2 * accounts * 1.2 * time.Since(begun).Seconds() / (2 * every).Seconds(); float64(total) > most {
			t.Errorf("%d reads in two rounds of %d: %v", total, accounts, quarters)
		}
		return total, int(control.Load() - controlled)
	}
	for try := 1; ; try++ {
		total, beside := twoRounds()
		if total >= min(beside, 2*accounts)*85/100 {
			break
		}
		t.Logf("%d reads in two rounds of %d, and %d of the control", total, accounts, beside)
		if try == tries {
			t.Errorf("the audit has read too little in each of %d times two rounds", tries)
			break
		}
	}
	if now := s.conn.heldWatches(); now != watches || s.Status().Watches != accounts+1 {
		t.Errorf("the client holds %d watches, want %d as before the audit; the source counts %d", now, watches, s.Status().Watches)
	}
	if n := s.Status().Missed; n != 0 {
		t.Errorf("%d missed changes are counted, want none", n)
	}
}

// If the audit is off, nothing is read.
func TestZKAuditOff(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, _ := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	timer := make(chan bool)
	s.mail.post(func() { timer <- s.audit.timer != nil || s.audit.parts != nil })
	if <-timer {
		t.Error("the audit runs")
	}
}

// The audit stores nothing about sub-accounts whose miners have left.
func TestZKAuditForgets(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	opts.AuditEvery = 500 * time.Millisecond
	admin := zktest.NewAdmin(t, server.Addr())
	s, _ := startZK(t, opts)
	for i := range 100 {
		name := fmt.Sprintf("passing%d", i)
		admin.Put(opts.CoinDir+"/"+name, "btc")
		wantLookup(t, s, name, "btc")
		s.Release(name)
		admin.Remove(opts.CoinDir + "/" + name)
	}
	awaitTrue(t, "nothing is kept", func() bool {
		kept := make(chan int)
		s.mail.post(func() {
			n := len(s.accounts) + s.audit.reading
			for _, part := range s.audit.parts {
				n += len(part)
			}
			kept <- n
		})
		return <-kept == 0
	})
}

// A node that cannot be read is tried again soon. Miners that wait for it are then
// answered, and those that already mine get the change.
func TestZKUnreadableNodes(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	for _, name := range []string{"alice", "bob"} {
		admin.Put(opts.CoinDir+"/"+name, "btc")
	}
	admin.Allow(opts.CoinDir+"/bob", zktest.NoRead)
	s, sink := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	_, replies := askCoin(s, "bob")
	awaitTrue(t, "noticed", func() bool { return s.Status().Unreadable == 1 })
	admin.Allow(opts.CoinDir+"/bob", zk.PermAll)
	wantCoinReply(t, replies, coinReply{"bob", "btc", nil})
	awaitTrue(t, "readable", func() bool { return s.Status().Unreadable == 0 })

	// The watch of a known account reports a change, but the node cannot be read.
	reached, release := s.hold()
	<-reached
	admin.Put(opts.CoinDir+"/alice", "bcc")
	admin.Allow(opts.CoinDir+"/alice", zktest.NoRead)
	release()
	awaitTrue(t, "noticed", func() bool { return s.Status().Unreadable == 1 })
	admin.Allow(opts.CoinDir+"/alice", zk.PermAll)
	sink.wantCoin(t, "alice", "bcc")
	admin.Put(opts.CoinDir+"/alice", "btc")
	sink.wantCoin(t, "alice", "btc")

	// Accounts that nobody asks for any more are forgotten.
	admin.Allow(opts.CoinDir+"/bob", zktest.NoRead)
	admin.Put(opts.CoinDir+"/carol", "btc")
	admin.Allow(opts.CoinDir+"/carol", zktest.NoRead)
	q, _ := askCoin(s, "carol")
	awaitTrue(t, "noticed", func() bool { return s.Status().Unreadable == 1 })
	s.Cancel(q)
	awaitTrue(t, "forgotten", func() bool { return s.Status().Unreadable == 0 })
}

// The pauses grow. Many such nodes cause one line in the log, and then one a
// minute.
func TestZKUnreadablePauses(t *testing.T) {
	t.Parallel()
	s, err := NewZooKeeper(zkTestOptions("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	s.unreadNodes.log = func(int, ...any) { lines++ }
	a := &zkAccount{name: "alice", path: "/alice"}
	var waits []time.Duration
	for range 8 {
		s.readFailed(a, zk.ErrNoAuth)
		waits = append(waits, a.retryWait/time.Second)
		a.retryTimer.Stop()
		a.retryTimer = nil
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}; !reflect.DeepEqual(waits, want) {
		t.Errorf("got pauses of %v seconds, want %v", waits, want)
	}
	if lines != 1 || s.unreadNodes.suppressed != 7 {
		t.Errorf("got %d lines, with %d nodes left for the next one", lines, s.unreadNodes.suppressed)
	}
	s.unreadNodes.pause.Stop()
	s.unreadNodes.log = func(_ int, args ...any) {
		if line := fmt.Sprint(args...); !strings.Contains(line, "/alice") || !strings.Contains(line, "and 6 more") {
			t.Errorf("unexpected line %q", line)
		}
		lines++
	}
	s.unreadNodes.write()
	if s.unreadNodes.pause.Stop(); lines != 2 {
		t.Errorf("got %d lines, want 2", lines)
	}
}
