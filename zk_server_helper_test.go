//go:build e2e

package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

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
		if errors.Is(err, errZKNoNode) {
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
		if errors.Is(err, errZKNoNode) {
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
		if errors.Is(err, errZKNoNode) {
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
		if !errors.Is(err, errZKAway) || time.Now().After(limit) {
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
