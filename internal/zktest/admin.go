package zktest

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// adminWait is how long an Admin waits for what ZooKeeper should do at once.
const adminWait = 15 * time.Second

// NoRead is all that a node's permissions can allow, except reading it.
const NoRead = zk.PermAll &^ zk.PermRead

// Roots numbers the directories that tests have for themselves.
var Roots atomic.Int64

var shared = sync.OnceValues(func() (*Server, error) {
	server, err := Start()
	if err == nil {
		testkit.Cleanups = append(testkit.Cleanups, func() { server.Close() })
	}
	return server, err
})

// Shared is the server that the tests of a process share; they may restart it, but
// not leave it stopped. Without ZooKeeper the tests fail.
func Shared(t testing.TB) *Server {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// StartProxy starts a proxy that ends with the test.
func StartProxy(t testing.TB, addr string) *Proxy {
	t.Helper()
	p, err := NewProxy(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Node is a node's content.
type Node struct {
	Value []byte
	// Owner is the session an ephemeral node belongs to, or 0.
	Owner int64
}

// Admin is a client that plays the operator and the other services. All methods
// but CreateEphemeral wait while it is not connected.
type Admin struct {
	t    testing.TB
	conn *zk.Conn
}

// NewAdmin connects to one of the servers at addrs, until the end of the test.
func NewAdmin(t testing.TB, addrs ...string) *Admin {
	t.Helper()
	conn, events, err := zk.Connect(addrs, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	for limit := time.After(adminWait); ; {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return &Admin{t, conn}
			}
		case <-limit:
			t.Fatal("no connection")
		}
	}
}

// silent is a log that nobody reads.
type silent struct{}

func (silent) Printf(string, ...any) {}

// Put creates or changes a node, with its parents.
func (a *Admin) Put(path, value string) {
	a.t.Helper()
	a.retry(func() error {
		_, err := a.conn.Set(path, []byte(value), -1)
		if errors.Is(err, zk.ErrNoNode) {
			if err = a.makeParents(path); err == nil {
				_, err = a.conn.Create(path, []byte(value), 0, zk.WorldACL(zk.PermAll))
			}
		}
		return err
	})
}

func (a *Admin) makeParents(path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if _, err := a.conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return nil
}

// CreateEphemeral creates a node that goes with the client's session. It is tried once.
func (a *Admin) CreateEphemeral(path string, value []byte) error {
	_, err := a.conn.Create(path, value, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	return err
}

// Remove deletes a node.
func (a *Admin) Remove(path string) {
	a.t.Helper()
	a.retry(func() error { return a.conn.Delete(path, -1) })
}

// Get reads a node, if it exists.
func (a *Admin) Get(path string) (node Node, exists bool) {
	a.t.Helper()
	a.retry(func() error {
		value, stat, err := a.conn.Get(path)
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		if err == nil {
			node, exists = Node{value, stat.EphemeralOwner}, true
		}
		return err
	})
	return node, exists
}

// Children lists the nodes below dir.
func (a *Admin) Children(dir string) (names []string) {
	a.t.Helper()
	a.retry(func() (err error) {
		names, _, err = a.conn.Children(strings.TrimSuffix(dir, "/"))
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		return err
	})
	return names
}

// Allow sets what everybody may do with a node.
func (a *Admin) Allow(path string, permissions int32) {
	a.t.Helper()
	a.retry(func() error {
		_, err := a.conn.SetACL(path, zk.WorldACL(permissions), -1)
		return err
	})
}

// Await polls for what only a broker knows.
func (a *Admin) Await(what string, done func() bool) {
	a.t.Helper()
	for limit := time.Now().Add(adminWait); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			a.t.Fatalf("%s: not within %v", what, adminWait)
		}
	}
}

// retry lets the client reconnect.
func (a *Admin) retry(request func() error) {
	a.t.Helper()
	for limit := time.Now().Add(adminWait); ; time.Sleep(10 * time.Millisecond) {
		err := request()
		if err == nil {
			return
		}
		away := errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrNoServer) || errors.Is(err, zk.ErrSessionExpired) || errors.Is(err, zk.ErrSessionMoved)
		if !away || time.Now().After(limit) {
			a.t.Fatal(err)
		}
	}
}
