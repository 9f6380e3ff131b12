package coins

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// testLimit is how long tests wait for something that should happen soon.
const testLimit = 15 * time.Second

// awaitTrue polls until the condition holds.
func awaitTrue(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(testLimit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v", what, testLimit)
		}
	}
}

type coinEvent struct{ account, coin string }

// coinRecorder is a Sink for tests.
type coinRecorder struct {
	coins chan coinEvent
	ids   chan uint8
	reads chan coinFileRead
}

type coinFileRead struct {
	entries int
	err     error
}

func newCoinRecorder() *coinRecorder {
	return &coinRecorder{make(chan coinEvent, 10000), make(chan uint8, 100), make(chan coinFileRead, 100)}
}

func (r *coinRecorder) CoinChanged(account, coin string) { r.coins <- coinEvent{account, coin} }
func (r *coinRecorder) ServerIDClaimed(id uint8)         { r.ids <- id }

func (r *coinRecorder) CoinFileRead(_ string, entries int, err error) {
	r.reads <- coinFileRead{entries, err}
}

func (r *coinRecorder) wantRead(t *testing.T, entries int, refused string) {
	t.Helper()
	select {
	case got := <-r.reads:
		if got.entries != entries || (got.err == nil) != (refused == "") || got.err != nil && !strings.Contains(got.err.Error(), refused) {
			t.Fatalf("got the reading %+v, want %d entries and the problem %q", got, entries, refused)
		}
	case <-time.After(testLimit):
		t.Fatalf("no reading of %d entries, problem %q", entries, refused)
	}
}

func (r *coinRecorder) wantCoin(t *testing.T, account, coin string) {
	t.Helper()
	select {
	case e := <-r.coins:
		if e != (coinEvent{account, coin}) {
			t.Fatalf("got change %v, want %s %q", e, account, coin)
		}
	case <-time.After(testLimit):
		t.Fatalf("no change of %s to %q", account, coin)
	}
}

// wantQuiet fails if a change was reported. Call it after a later event.
func (r *coinRecorder) wantQuiet(t *testing.T) {
	t.Helper()
	select {
	case e := <-r.coins:
		t.Fatalf("unexpected change %v", e)
	default:
	}
}

func (r *coinRecorder) wantID(t *testing.T) uint8 {
	t.Helper()
	select {
	case id := <-r.ids:
		return id
	case <-time.After(testLimit):
		t.Fatal("no server ID")
		return 0
	}
}

type coinReply struct {
	account, coin string
	err           error
}

// askCoin looks up an account. The answer comes through the channel.
func askCoin(s Source, account string) (*Query, <-chan coinReply) {
	replies := make(chan coinReply, 2)
	q := &Query{Account: account, SessionID: 0x01000080, Worker: account + ".rig1"}
	q.Reply = func(account, coin string, err error) { replies <- coinReply{account, coin, err} }
	s.Lookup(q)
	return q, replies
}

func wantCoinReply(t *testing.T, replies <-chan coinReply, want coinReply) {
	t.Helper()
	select {
	case got := <-replies:
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	case <-time.After(testLimit):
		t.Fatalf("no answer, want %v", want)
	}
}

func wantLookup(t *testing.T, s Source, account, coin string) {
	t.Helper()
	_, replies := askCoin(s, account)
	wantCoinReply(t, replies, coinReply{account, coin, nil})
}

func wantLookupError(t *testing.T, s Source, account string, err error) {
	t.Helper()
	_, replies := askCoin(s, account)
	wantCoinReply(t, replies, coinReply{account, "", err})
}

// zkTestOptions returns options with directories that no other test has.
func zkTestOptions(addr string) ZooKeeperOptions {
	root := fmt.Sprintf("/test%d", zktest.Roots.Add(1))
	return ZooKeeperOptions{
		Brokers:        []string{addr},
		CoinDir:        root + "/coins",
		ServerIDDir:    root + "/ids/",
		AutoRegDir:     root + "/autoreg",
		SessionTimeout: 2 * time.Second,
		Metadata:       Metadata{ChainType: "bitcoin", Coins: []string{"btc"}, IPs: []string{"127.0.0.1"}, HostName: "host", ListenAddr: "0.0.0.0:1"},
	}
}
