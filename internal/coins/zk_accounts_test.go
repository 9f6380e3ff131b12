//go:build e2e

package coins

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

func TestZKCoinSetByOperatorIsSeen(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", " btc\n")
	s, sink := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	wantLookup(t, s, "alice", "btc")

	if _, err := server.CLI("set", opts.CoinDir+"/alice", "bcc"); err != nil {
		t.Fatal(err)
	}
	sink.wantCoin(t, "alice", "bcc")
	wantLookup(t, s, "alice", "bcc")

	if _, err := server.CLI("delete", opts.CoinDir+"/alice"); err != nil {
		t.Fatal(err)
	}
	sink.wantCoin(t, "alice", "")
	wantLookupError(t, s, "alice", ErrUnknownSubAccount)

	if _, err := server.CLI("create", opts.CoinDir+"/alice", "btc"); err != nil {
		t.Fatal(err)
	}
	sink.wantCoin(t, "alice", "btc")
	sink.wantQuiet(t)
}

func TestZKOddValues(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	node := opts.CoinDir + "/alice"
	admin.Put(node, "btc")
	admin.Put(opts.CoinDir+"/long", strings.Repeat("x", MaxCoin+1))
	admin.Put(opts.CoinDir+"/empty", "")
	s, sink := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	wantLookupError(t, s, "long", ErrUnknownSubAccount)
	wantLookupError(t, s, "empty", ErrUnknownSubAccount)

	admin.Put(node, strings.Repeat("x", MaxCoin+1)) // ignored
	admin.Put(node, "b\x00c")                       // ignored
	admin.Put(node, "bcc")
	sink.wantCoin(t, "alice", "bcc")
	admin.Put(node, " \n")
	sink.wantCoin(t, "alice", "")
	admin.Put(node, "btc")
	sink.wantCoin(t, "alice", "btc")
	sink.wantQuiet(t)
}

func TestZKUnknownNamesLeaveNothing(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	sink.wantID(t)
	wantLookup(t, s, "alice", "btc")
	before := s.Status().Watches
	for i := range 300 {
		wantLookupError(t, s, "nobody"+strconv.Itoa(i), ErrUnknownSubAccount)
	}
	if after := s.Status().Watches; after != before {
		t.Errorf("the source has %d watches, want %d as before", after, before)
	}
	watched, err := server.FourLetters("wchp")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(watched, "nobody") || !strings.Contains(watched, "alice") {
		t.Errorf("the broker still has watches: %s", watched)
	}
	done := make(chan int)
	s.mail.post(func() { done <- len(s.accounts) + len(s.waitsForAccount) })
	if n := <-done; n != 1 {
		t.Errorf("%d accounts are stored, want 1", n)
	}
}

func TestZKOneWatchForManyQueries(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	sink.wantID(t)
	var replies []<-chan coinReply
	for range 1000 {
		_, r := askCoin(s, "alice")
		replies = append(replies, r)
	}
	for _, r := range replies {
		wantCoinReply(t, r, coinReply{"alice", "btc", nil})
	}
	if n := s.Status().Watches; n != 2 { // the other one is for the server ID
		t.Errorf("%d watches, want 2", n)
	}
	admin.Put(opts.CoinDir+"/alice", "bcc")
	sink.wantCoin(t, "alice", "bcc")
	sink.wantQuiet(t)
}

func TestZKHostileNames(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	opts.AutoReg, opts.AutoRegMaxWait = true, 50
	opts.CaseIndexDir = strings.TrimSuffix(opts.CoinDir, "coins") + "case"
	admin := zktest.NewAdmin(t, server.Addr())
	root := strings.TrimSuffix(opts.CoinDir, "/coins")
	admin.Put(root+"/secret", "btc")
	admin.Put(opts.CoinDir+"/group/inner", "btc")
	admin.Put(opts.CaseIndexDir+"/mapped", "../secret")
	opts.AutoRegTimeout = 200 * time.Millisecond
	s, sink := startZK(t, opts)
	sink.wantID(t)
	names := []string{"", ".", "..", "/", "../secret", "a/../../secret", "group/inner", "a/b", "/etc",
		"a\x00b", "a\nb", "a\x7fb", "a\u0085b", "a\ue000b", "a\ufff0b", "a\xffb", strings.Repeat("a", MaxName+1)}
	for _, name := range names {
		wantLookupError(t, s, name, ErrBadSubAccount)
	}
	// An index entry that leads to another directory is ignored.
	wantLookupError(t, s, "mapped", ErrRegistrationTimeout)
	admin.Await("request nodes gone", func() bool { return len(admin.Children(opts.AutoRegDir)) == 0 })
	if got := admin.Children(opts.CoinDir); len(got) != 1 {
		t.Errorf("coin directory: %v", got)
	}
	if got := admin.Children(root); len(got) != 5 {
		t.Errorf("root: %v", got)
	}
	// Names that look odd but are valid do no harm.
	for _, name := range []string{"...", "a..b", "*", "$(x)", "ünï", strings.Repeat("a", MaxName)} {
		wantLookupError(t, s, name, ErrRegistrationTimeout)
	}
}

func TestZKBrokerAwayAtStart(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	proxy.Cut()
	opts := zkTestOptions(proxy.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	_, replies := askCoin(s, "alice")
	gone, goneReplies := askCoin(s, "bob")
	s.Cancel(gone)
	if s.Status().Connected || !s.Status().LastContact.IsZero() {
		t.Errorf("unexpected status %+v", s.Status())
	}
	proxy.Restore()
	wantCoinReply(t, replies, coinReply{"alice", "btc", nil})
	sink.wantID(t)
	if !s.Status().Connected || s.Status().LastContact.IsZero() {
		t.Errorf("unexpected status %+v", s.Status())
	}
	if len(goneReplies) != 0 {
		t.Error("a cancelled query was answered")
	}
}

func TestZKServerRestart(t *testing.T) {
	const accounts = 500
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	opts.SessionTimeout = 8 * time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	proxy := zktest.StartProxy(t, server.Addr())
	opts.Brokers = []string{proxy.Addr()}
	name := func(i int) string { return "user" + strconv.Itoa(i) }
	for i := range accounts {
		admin.Put(opts.CoinDir+"/"+name(i), "btc")
	}
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	for i := range accounts {
		wantLookup(t, s, name(i), "btc")
	}

	proxy.Cut()
	awaitTrue(t, "cut seen", func() bool { return !s.Status().Connected })
	// All coins are changed while the source cannot see it.
	for i := range accounts {
		admin.Put(opts.CoinDir+"/"+name(i), "bcc")
	}
	wantLookup(t, s, name(0), "btc") // it is known although the broker is unreachable
	_, fresh := askCoin(s, "unheard")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	proxy.Restore()
	seen := make(map[string]string)
	for range accounts {
		select {
		case e := <-sink.coins:
			seen[e.account] = e.coin
		case <-time.After(testLimit):
			t.Fatalf("%d of %d changes were seen", len(seen), accounts)
		}
	}
	for i := range accounts {
		if seen[name(i)] != "bcc" {
			t.Fatalf("%s has coin %q, want the changed one", name(i), seen[name(i)])
		}
	}
	wantCoinReply(t, fresh, coinReply{"unheard", "", ErrUnknownSubAccount})

	// All watches work after the reconnect, whoever set them again.
	for i := range accounts {
		admin.Put(opts.CoinDir+"/"+name(i), "btc2")
	}
	again := make(map[string]bool)
	for range accounts {
		select {
		case e := <-sink.coins:
			again[e.account] = e.coin == "btc2"
		case <-time.After(testLimit):
			t.Fatalf("%d of %d changes were seen after the restart", len(again), accounts)
		}
	}
	if len(again) != accounts {
		t.Errorf("%d accounts changed, want each once", len(again))
	}
	if n := s.Status().Watches; n != accounts+1 {
		t.Errorf("the source has %d watches, want %d", n, accounts+1)
	}
	sink.wantQuiet(t)
	select {
	case other := <-sink.ids:
		t.Errorf("server ID went from %d to %d", id, other)
	default:
	}
}

func TestZKExpiredSession(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkTestOptions(proxy.Addr())
	opts.SessionTimeout = time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	for _, name := range []string{"changed", "same", "deleted", "remade"} {
		admin.Put(opts.CoinDir+"/"+name, "btc")
	}
	s, sink := startZK(t, opts)
	id := sink.wantID(t)
	for _, name := range []string{"changed", "same", "deleted", "remade"} {
		wantLookup(t, s, name, "btc")
	}
	admin.Remove(opts.CoinDir + "/remade")
	sink.wantCoin(t, "remade", "")

	proxy.Cut()
	admin.Await("session expired", func() bool {
		_, exists := admin.Get(opts.ServerIDDir + fmt.Sprint(id))
		return !exists
	})
	admin.Put(opts.CoinDir+"/changed", "bcc")
	admin.Remove(opts.CoinDir + "/deleted")
	admin.Put(opts.CoinDir+"/remade", "bcc")
	wantLookup(t, s, "changed", "btc")
	proxy.Restore()
	got := make(map[string]string)
	for range 3 {
		select {
		case e := <-sink.coins:
			got[e.account] = e.coin
		case <-time.After(testLimit):
			t.Fatalf("got changes %v before all had come", got)
		}
	}
	want := map[string]string{"changed": "bcc", "deleted": "", "remade": "bcc"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got changes %v, want %v", got, want)
	}
	admin.Put(opts.CoinDir+"/same", "bcc")
	sink.wantCoin(t, "same", "bcc")
	admin.Put(opts.CoinDir+"/deleted", "btc")
	sink.wantCoin(t, "deleted", "btc")

	// The same ID was claimed again, so there was nothing to report.
	admin.Await("ID claimed again", func() bool {
		_, exists := admin.Get(opts.ServerIDDir + fmt.Sprint(id))
		return exists
	})
	select {
	case other := <-sink.ids:
		t.Errorf("server ID went from %d to %d", id, other)
	default:
	}
}

func TestZKHangingBroker(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkTestOptions(proxy.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	proxy.Freeze()
	_, replies := askCoin(s, "bob")
	awaitTrue(t, "hanging noticed", func() bool { return !s.Status().Connected })
	wantLookup(t, s, "alice", "btc")
	admin.Put(opts.CoinDir+"/alice", "bcc")
	proxy.Thaw()
	sink.wantCoin(t, "alice", "bcc")
	wantCoinReply(t, replies, coinReply{"bob", "", ErrUnknownSubAccount})
}

func TestZKWatchesOutliveReconnects(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkTestOptions(proxy.Addr())
	opts.SessionTimeout = 10 * time.Second
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	sink.wantID(t)
	wantLookup(t, s, "alice", "btc")
	for i := range 3 {
		proxy.Cut()
		awaitTrue(t, "cut seen", func() bool { return !s.Status().Connected })
		proxy.Restore()
		awaitTrue(t, "connected again", func() bool { return s.Status().Connected })
		coin := "coin" + strconv.Itoa(i)
		admin.Put(opts.CoinDir+"/alice", coin)
		sink.wantCoin(t, "alice", coin)
	}
	// The case index is read again on its own.
	awaitTrue(t, "two watches", func() bool { return s.Status().Watches == 2 })
}

func TestZKCaseIndex(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkTestOptions(proxy.Addr())
	opts.CaseIndexDir = strings.TrimSuffix(opts.CoinDir, "coins") + "case/"
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/Alice", "btc")
	admin.Put(opts.CoinDir+"/Bob", "btc")
	admin.Put(opts.CaseIndexDir+"alice", "Alice\n")
	s, sink := startZK(t, opts)
	sink.wantID(t)
	for _, name := range []string{"alice", "ALICE", "Alice"} {
		_, replies := askCoin(s, name)
		wantCoinReply(t, replies, coinReply{"Alice", "btc", nil})
	}
	wantLookupError(t, s, "bob", ErrUnknownSubAccount)
	wantLookup(t, s, "Bob", "btc")

	proxy.Cut()
	awaitTrue(t, "cut seen", func() bool { return !s.Status().Connected })
	_, replies := askCoin(s, "aLICE")
	wantCoinReply(t, replies, coinReply{"Alice", "btc", nil})
	wantLookup(t, s, "Bob", "btc")
	q, _ := askCoin(s, "carol")
	s.Cancel(q)
	done := make(chan int)
	s.mail.post(func() { done <- len(s.index) + len(s.waitsForIndex) })
	if n := <-done; n != 1 {
		t.Errorf("%d index entries are stored, want 1", n)
	}
	proxy.Restore()
	awaitTrue(t, "connected", func() bool { return s.Status().Connected })
	admin.Remove(opts.CaseIndexDir + "alice")
	wantLookupError(t, s, "aLICE", ErrUnknownSubAccount)
}

// While a connection is silent but not lost, miners of known sub-accounts get what
// was read last. Others wait.
func TestZKCaseIndexSilent(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	proxy := zktest.StartProxy(t, server.Addr())
	opts := zkTestOptions(proxy.Addr())
	opts.CaseIndexDir = strings.TrimSuffix(opts.CoinDir, "coins") + "case/"
	opts.SessionTimeout = time.Minute // so that the connection is not given up meanwhile
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/Alice", "btc")
	admin.Put(opts.CoinDir+"/Bob", "bcc")
	admin.Put(opts.CoinDir+"/Carol", "bcc")
	admin.Put(opts.CaseIndexDir+"alice", "Alice")
	s, sink := startZK(t, opts)
	sink.wantID(t)
	wantLookupOf := func(name string, want coinReply) {
		t.Helper()
		_, replies := askCoin(s, name)
		wantCoinReply(t, replies, want)
	}
	wantLookupOf("alice", coinReply{"Alice", "btc", nil})
	wantLookupOf("Bob", coinReply{"Bob", "bcc", nil})

	proxy.Freeze()
	_, unknown := askCoin(s, "Carol")
	fastest := time.Hour // of all rounds, because the machine may be busy
	for range 3 {        // also those that come while the read hangs
		began := time.Now()
		wantLookupOf("aLICE", coinReply{"Alice", "btc", nil})
		wantLookupOf("Bob", coinReply{"Bob", "bcc", nil})
		fastest = min(fastest, time.Since(began))
	}
	if fastest > 10*zkIndexWait/3 {
		t.Errorf("two queries were answered after %v", fastest)
	}
	proxy.Thaw()
	wantCoinReply(t, unknown, coinReply{"Carol", "bcc", nil})
}

// hold stops the owner until release is called. The owner closes reached when it
// has done everything that was posted before.
func (s *ZooKeeper) hold() (reached <-chan struct{}, release func()) {
	stopped, proceed := make(chan struct{}), make(chan struct{})
	s.mail.post(func() {
		close(stopped)
		<-proceed
	})
	return stopped, func() { close(proceed) }
}

func TestZKCancelledQueryIsNotAnswered(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, _ := startZK(t, opts)

	// The owner is held while a query is cancelled. Otherwise the owner might be
	// giving the answer already, and that would not be too late.
	for i := range 200 {
		_, release := s.hold()
		q, replies := askCoin(s, "alice")
		s.Cancel(q)
		release()
		wantLookup(t, s, "alice", "btc")
		if len(replies) > 0 {
			t.Fatalf("query %d answered after Cancel", i)
		}
	}

	// This query waits for its node, which has just been read.
	admin.Put(opts.CoinDir+"/bob", "btc")
	_, lookUp := s.hold()
	q, replies := askCoin(s, "bob")
	reading, release := s.hold()
	lookUp()
	<-reading
	awaitTrue(t, "node read", func() bool {
		s.mail.mu.Lock()
		defer s.mail.mu.Unlock()
		return len(s.mail.queue) > 0
	})
	s.Cancel(q)
	release()
	wantLookup(t, s, "alice", "btc")
	if len(replies) > 0 {
		t.Fatal("answered after Cancel with what was read before")
	}
}

func TestZKRelease(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	opts := zkTestOptions(server.Addr())
	admin := zktest.NewAdmin(t, server.Addr())
	admin.Put(opts.CoinDir+"/alice", "btc")
	s, sink := startZK(t, opts)
	wantLookup(t, s, "alice", "btc")
	wantLookup(t, s, "alice", "btc")
	s.Release("alice") // one of two, so the account is still of interest
	admin.Remove(opts.CoinDir + "/alice")
	sink.wantCoin(t, "alice", "")
	s.Release("alice")
	s.Release("never heard of")
	done := make(chan int)
	s.mail.post(func() { done <- len(s.accounts) })
	if n := <-done; n != 0 {
		t.Errorf("%d accounts are stored, want none", n)
	}
	admin.Put(opts.CoinDir+"/alice", "bcc")
	wantLookup(t, s, "alice", "bcc")
	admin.Put(opts.CoinDir+"/alice", "btc")
	sink.wantCoin(t, "alice", "btc")
}

func TestZKClose(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	t.Run("connected", func(t *testing.T) {
		opts := zkTestOptions(server.Addr())
		s, sink := startZK(t, opts)
		id := sink.wantID(t)
		s.Close()
		s.Close()
		admin := zktest.NewAdmin(t, server.Addr())
		if _, exists := admin.Get(opts.ServerIDDir + fmt.Sprint(id)); exists {
			t.Error("the server ID is still taken")
		}
		wantLookupError(t, s, "late", ErrClosed)
	})
	for _, away := range []string{"refusing", "hanging"} {
		t.Run(away, func(t *testing.T) {
			proxy := zktest.StartProxy(t, server.Addr())
			if away == "hanging" {
				proxy.Freeze()
			} else {
				proxy.Cut()
			}
			s, _ := startZK(t, zkTestOptions(proxy.Addr()))
			_, replies := askCoin(s, "alice")
			s.Close()
			wantCoinReply(t, replies, coinReply{"alice", "", ErrClosed})
		})
	}
	t.Run("hanging later", func(t *testing.T) {
		proxy := zktest.StartProxy(t, server.Addr())
		s, sink := startZK(t, zkTestOptions(proxy.Addr()))
		sink.wantID(t)
		proxy.Freeze()
		_, replies := askCoin(s, "alice")
		s.Close()
		wantCoinReply(t, replies, coinReply{"alice", "", ErrClosed})
	})
	t.Run("never started", func(t *testing.T) {
		s, err := NewZooKeeper(zkTestOptions(server.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		_, replies := askCoin(s, "alice")
		s.Close()
		wantCoinReply(t, replies, coinReply{"alice", "", ErrClosed})
	})
}
