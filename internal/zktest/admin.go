package zktest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samuel/go-zookeeper/zk"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

const (
	// adminWait is how long an Admin waits for something that ZooKeeper should do at
	// once.
	adminWait = 15 * time.Second
	// adminElectionWait is how long an Admin repeats a request. An ensemble may be
	// without a leader for that long, for instance while a server starts on a busy
	// machine.
	adminElectionWait = 60 * time.Second
	// adminRequestWait limits how long one request may take, because the client library
	// may never answer a request that was made while it had no connection.
	adminRequestWait = 5 * time.Second
)

// NoRead grants every permission for a node except reading it.
const NoRead = zk.PermAll &^ zk.PermRead

// Roots counts the directories that tests use, so that each test's has a name of its own.
var Roots atomic.Int64

var shared = sync.OnceValues(func() (*Server, error) {
	server, err := Start()
	if err == nil {
		testkit.AtEnd(func() { server.Close() })
	}
	return server, err
})

// Shared returns the server that the tests of a process share. They may restart it,
// but must not leave it stopped. The test fails if ZooKeeper is not installed.
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

// Node is what a client reads of a ZooKeeper node.
type Node struct {
	Value   []byte
	Version int32
	// Owner is the session to which an ephemeral node belongs, or 0.
	Owner int64
}

// Admin is a client that acts as the operator and the other services. All methods except
// CreateEphemeral and TryRemove wait while it is not connected, and end the test if that
// takes too long.
//
// If a request is not answered in time, Admin closes the connection. ZooKeeper then deletes
// the ephemeral nodes that Admin created.
type Admin struct {
	t     testing.TB
	addrs []string

	mu   sync.Mutex
	conn *zk.Conn
}

// NewAdmin connects to one of the servers at addrs, until the end of the test.
func NewAdmin(t testing.TB, addrs ...string) *Admin {
	t.Helper()
	a := &Admin{t: t, addrs: addrs}
	conn, events, err := a.dial()
	if err != nil {
		t.Fatal(err)
	}
	a.conn = conn
	t.Cleanup(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conn.Close()
	})
	for limit := time.After(adminWait); ; {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return a
			}
		case <-limit:
			t.Fatal("there is no connection to ZooKeeper")
		}
	}
}

func (a *Admin) dial() (*zk.Conn, <-chan zk.Event, error) {
	return zk.Connect(a.addrs, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(silent{}))
}

// silent is a logger that discards everything.
type silent struct{}

func (silent) Printf(string, ...any) {}

// errAdminLate is the error of a request that was not answered in time.
var errAdminLate = fmt.Errorf("zktest: no answer within %v", adminRequestWait)

// request makes one request and waits at most adminRequestWait for it. A request that
// takes longer continues in the background, so do must return its results and not write
// them to variables of the caller.
func request[Result any](a *Admin, do func(*zk.Conn) (Result, error)) (Result, error) {
	type answer struct {
		result Result
		err    error
	}
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	answered := make(chan answer, 1)
	go func() {
		result, err := do(conn)
		answered <- answer{result, err}
	}()
	limit := time.NewTimer(adminRequestWait)
	defer limit.Stop()
	select {
	case r := <-answered:
		return r.result, r.err
	case <-limit.C:
		a.reconnect(conn)
		var none Result
		return none, errAdminLate
	}
}

// reconnect replaces a connection on which a request hangs.
func (a *Admin) reconnect(hangs *zk.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != hangs {
		return
	}
	if conn, _, err := a.dial(); err == nil {
		a.conn = conn
		go hangs.Close()
	}
}

// Put sets a node's value. It creates the node and its parents if they do not exist.
func (a *Admin) Put(path, value string) {
	a.t.Helper()
	a.retry(func(conn *zk.Conn) error {
		_, err := conn.Set(path, []byte(value), -1)
		if errors.Is(err, zk.ErrNoNode) {
			if err = makeParents(conn, path); err == nil {
				_, err = conn.Create(path, []byte(value), 0, zk.WorldACL(zk.PermAll))
			}
		}
		return err
	})
}

func makeParents(conn *zk.Conn, path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if _, err := conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return nil
}

// CreateEphemeral creates a node that is deleted when the client's session ends. It does
// not repeat a request that fails.
func (a *Admin) CreateEphemeral(path string, value []byte) error {
	_, err := request(a, func(conn *zk.Conn) (string, error) {
		return conn.Create(path, value, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	})
	return err
}

// Create creates a node and grants everybody these permissions for it.
func (a *Admin) Create(path, value string, permissions int32) {
	a.t.Helper()
	a.retry(func(conn *zk.Conn) error {
		_, err := conn.Create(path, []byte(value), 0, zk.WorldACL(permissions))
		return err
	})
}

// Remove deletes a node.
func (a *Admin) Remove(path string) {
	a.t.Helper()
	var tries atomic.Int32
	a.retry(func(conn *zk.Conn) error {
		err := conn.Delete(path, -1)
		if tries.Add(1) > 1 && errors.Is(err, zk.ErrNoNode) {
			return nil // an earlier request has deleted it, and its answer was lost
		}
		return err
	})
}

// Exists reports whether there is a node, even if it cannot be read.
func (a *Admin) Exists(path string) bool {
	a.t.Helper()
	return retry(a, func(conn *zk.Conn) (bool, error) {
		exists, _, err := conn.Exists(path)
		return exists, err
	})
}

// TryRemove deletes a node. It does not repeat a request that fails, and may be called from
// any goroutine.
func (a *Admin) TryRemove(path string) error {
	_, err := request(a, func(conn *zk.Conn) (struct{}, error) { return struct{}{}, conn.Delete(path, -1) })
	return err
}

// Get reads a node, if it exists.
func (a *Admin) Get(path string) (node Node, exists bool) {
	a.t.Helper()
	found := retry(a, func(conn *zk.Conn) (*Node, error) {
		value, stat, err := conn.Get(path)
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return &Node{value, stat.Version, stat.EphemeralOwner}, nil
	})
	if found == nil {
		return Node{}, false
	}
	return *found, true
}

// Children lists the nodes below dir.
func (a *Admin) Children(dir string) []string {
	a.t.Helper()
	return retry(a, func(conn *zk.Conn) ([]string, error) {
		names, _, err := conn.Children(strings.TrimSuffix(dir, "/"))
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		return names, err
	})
}

// Allow sets everybody's permissions for a node.
func (a *Admin) Allow(path string, permissions int32) {
	a.t.Helper()
	a.retry(func(conn *zk.Conn) error {
		_, err := conn.SetACL(path, zk.WorldACL(permissions), -1)
		return err
	})
}

// Await polls until done returns true. It is for changes of which ZooKeeper sends no event.
func (a *Admin) Await(what string, done func() bool) {
	a.t.Helper()
	for limit := time.Now().Add(adminWait); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			a.t.Fatalf("%s: this did not happen within %v", what, adminWait)
		}
	}
}

func (a *Admin) retry(do func(*zk.Conn) error) {
	a.t.Helper()
	retry(a, func(conn *zk.Conn) (struct{}, error) { return struct{}{}, do(conn) })
}

// retry repeats a request while the client has no connection.
func retry[Result any](a *Admin, do func(*zk.Conn) (Result, error)) Result {
	a.t.Helper()
	for limit := time.Now().Add(adminElectionWait); ; time.Sleep(10 * time.Millisecond) {
		result, err := request(a, do)
		if err == nil {
			return result
		}
		away := errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrNoServer) || errors.Is(err, zk.ErrSessionExpired) ||
			errors.Is(err, zk.ErrSessionMoved) || errors.Is(err, errAdminLate)
		if !away || time.Now().After(limit) {
			a.t.Fatal(err)
		}
	}
}
