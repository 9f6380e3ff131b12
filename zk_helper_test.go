package main

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

const zkTestLimit = 15 * time.Second

// zkElectionLimit is how long an ensemble may be without a leader, also when one
// of its servers is frozen while another starts on a busy machine.
const zkElectionLimit = 60 * time.Second

var (
	zkSharedOnce   sync.Once
	zkSharedServer *zktest.Server
	zkSharedErr    error
	zkTestRoot     atomic.Int64
)

// zkServer is the server that tests share; they may restart it, but not leave
// it stopped. Without ZooKeeper the tests fail.
func zkServer(t *testing.T) *zktest.Server {
	t.Helper()
	zkSharedOnce.Do(func() {
		zkSharedServer, zkSharedErr = zktest.Start()
		if zkSharedErr == nil {
			testCleanups = append(testCleanups, func() { zkSharedServer.Close() })
		}
	})
	if zkSharedErr != nil {
		t.Fatal(zkSharedErr)
	}
	return zkSharedServer
}

// zkTestOptions gives each test directories of its own.
func zkTestOptions(addr string) zkOptions {
	root := fmt.Sprintf("/test%d", zkTestRoot.Add(1))
	return zkOptions{
		Brokers:        []string{addr},
		CoinDir:        root + "/coins",
		ServerIDDir:    root + "/ids/",
		AutoRegDir:     root + "/autoreg",
		SessionTimeout: 2 * time.Second,
		Metadata:       zkMetadata{ChainType: "bitcoin", Coins: []string{"btc"}, IPs: []string{"127.0.0.1"}, HostName: "host", ListenAddr: "0.0.0.0:1"},
	}
}

// zkAdmin is a client of its own that plays the operator and the other services.
type zkAdmin struct {
	t    *testing.T
	conn *zkConn
}

func newZKAdmin(t *testing.T, addrs ...string) *zkAdmin {
	t.Helper()
	connected := make(chan struct{}, 1)
	conn, err := dialZK(addrs, 10*time.Second, func(e zkEvent) {
		if e.kind == zkConnected {
			select {
			case connected <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.close)
	select {
	case <-connected:
	case <-time.After(zkTestLimit):
		t.Fatal("no connection")
	}
	return &zkAdmin{t, conn}
}

// put creates or changes a node, with its parents.
func (a *zkAdmin) put(path, value string) {
	a.t.Helper()
	a.retry(func() error {
		_, err := a.conn.set(path, []byte(value), -1)
		if err == errZKNoNode {
			if err = makeParents(a.conn, path); err == nil {
				err = a.conn.create(path, []byte(value), false)
			}
		}
		return err
	})
}

func (a *zkAdmin) remove(path string) {
	a.t.Helper()
	a.retry(func() error { return a.conn.remove(path, -1) })
}

func (a *zkAdmin) get(path string) (node zkNode, exists bool) {
	a.t.Helper()
	a.retry(func() (err error) {
		node, err = a.conn.get(path)
		exists = err == nil
		if err == errZKNoNode {
			return nil
		}
		return err
	})
	return node, exists
}

func (a *zkAdmin) children(dir string) (names []string) {
	a.t.Helper()
	a.retry(func() (err error) {
		names, err = a.conn.children(strings.TrimSuffix(dir, "/"))
		if err == errZKNoNode {
			return nil
		}
		return err
	})
	return names
}

// retry lets the operator's own client reconnect.
func (a *zkAdmin) retry(request func() error) {
	a.t.Helper()
	limit := time.Now().Add(zkElectionLimit)
	for {
		err := request()
		if err == nil {
			return
		}
		if err != errZKAway || time.Now().After(limit) {
			a.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// await polls for what only a broker knows.
func (a *zkAdmin) await(what string, done func() bool) {
	a.t.Helper()
	awaitTrue(a.t, what, done)
}

func awaitTrue(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(zkTestLimit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v", what, zkTestLimit)
		}
	}
}

type coinEvent struct{ account, coin string }

// coinRecorder is a CoinSink for tests.
type coinRecorder struct {
	coins chan coinEvent
	ids   chan uint8
}

func newCoinRecorder() *coinRecorder {
	return &coinRecorder{make(chan coinEvent, 10000), make(chan uint8, 100)}
}

func (r *coinRecorder) CoinChanged(account, coin string) { r.coins <- coinEvent{account, coin} }
func (r *coinRecorder) ServerIDClaimed(id uint8)         { r.ids <- id }

func (r *coinRecorder) wantCoin(t *testing.T, account, coin string) {
	t.Helper()
	select {
	case e := <-r.coins:
		if e != (coinEvent{account, coin}) {
			t.Fatalf("got change %v, want %s %q", e, account, coin)
		}
	case <-time.After(zkTestLimit):
		t.Fatalf("no change of %s to %q", account, coin)
	}
}

// wantQuiet fails if there was a change. Call it after something that came later.
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
	case <-time.After(zkTestLimit):
		t.Fatal("no server ID")
		return 0
	}
}

type coinReply struct {
	account, coin string
	err           error
}

// ask looks an account up; the answer comes through the channel.
func askCoin(s CoinSource, account string) (*coinQuery, <-chan coinReply) {
	replies := make(chan coinReply, 2)
	q := &coinQuery{Account: account, SessionID: 0x01000080, Worker: account + ".rig1"}
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
	case <-time.After(zkTestLimit):
		t.Fatalf("no answer, want %v", want)
	}
}

func wantLookup(t *testing.T, s CoinSource, account, coin string) {
	t.Helper()
	_, replies := askCoin(s, account)
	wantCoinReply(t, replies, coinReply{account, coin, nil})
}

func wantLookupError(t *testing.T, s CoinSource, account string, err error) {
	t.Helper()
	_, replies := askCoin(s, account)
	wantCoinReply(t, replies, coinReply{account, "", err})
}

func startZK(t *testing.T, opts zkOptions) (*zkCoinSource, *coinRecorder) {
	t.Helper()
	s, err := newZKCoinSource(opts)
	if err != nil {
		t.Fatal(err)
	}
	sink := newCoinRecorder()
	s.Start(sink)
	t.Cleanup(s.Close)
	return s, sink
}

func newZKProxy(t *testing.T, addr string) *zktest.Proxy {
	t.Helper()
	p, err := zktest.NewProxy(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// zkGoroutines counts those of the coin source and the client.
func zkGoroutines() (n int, stacks string) {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "zkCoinSource") || strings.Contains(g, "go-zookeeper") || strings.Contains(g, "zkConn") {
			n++
			stacks += g + "\n\n"
		}
	}
	return n, stacks
}

// wantNoZKGoroutines is a leak check, after Close.
func wantNoZKGoroutines(t *testing.T) {
	t.Helper()
	var n int
	var stacks string
	for limit := time.Now().Add(zkTestLimit); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if n, stacks = zkGoroutines(); n == 0 {
			return
		}
	}
	t.Fatalf("%d goroutines are left:\n%s", n, stacks)
}
