//go:build e2e

package coins

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

func startZK(t *testing.T, opts ZooKeeperOptions) (*ZooKeeper, *coinRecorder) {
	t.Helper()
	s, err := NewZooKeeper(opts)
	if err != nil {
		t.Fatal(err)
	}
	sink := newCoinRecorder()
	s.Start(sink)
	t.Cleanup(s.Close)
	return s, sink
}

// dialTest connects the guarded client until the end of the test.
func dialTest(t *testing.T, addr string) *zkConn {
	t.Helper()
	connected := make(chan struct{}, 10)
	conn, err := dialZK([]string{addr}, 10*time.Second, func(e zkEvent) {
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
	case <-time.After(testLimit):
		t.Fatal("no connection")
	}
	return conn
}

// zkGoroutines counts the goroutines of the source and of the client library. It leaves
// out requests of zktest.Admin, which the library may never answer.
func zkGoroutines() (n int, stacks string) {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "/internal/zktest.") {
			continue
		}
		if strings.Contains(g, "coins.(*ZooKeeper)") || strings.Contains(g, "go-zookeeper") || strings.Contains(g, "zkConn") {
			n++
			stacks += g + "\n\n"
		}
	}
	return n, stacks
}

// wantNoZKGoroutines checks after Close that no goroutine is left.
func wantNoZKGoroutines(t *testing.T) {
	t.Helper()
	var n int
	var stacks string
	for limit := time.Now().Add(testLimit); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if n, stacks = zkGoroutines(); n == 0 {
			return
		}
	}
	t.Fatalf("%d goroutines are left:\n%s", n, stacks)
}
