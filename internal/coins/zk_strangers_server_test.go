//go:build e2e

package coins

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// says answers the first bytes with a text and then stays silent.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 100))
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// saysSlowly sends the bytes one after the other.
func saysSlowly(text string, pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		for i := range text {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(pause)
		}
		io.Copy(io.Discard, conn)
	}
}

// Whatever answers in place of a ZooKeeper server, the next broker is tried soon,
// memory does not grow, and the reason is reported.
func TestZKStrangers(t *testing.T) {
	server := zktest.Shared(t)
	cases := []struct {
		name   string
		answer func(net.Conn)
		why    string
	}{
		{"mail", says("220 mail"), `is not a ZooKeeper server: it said "220 mail"`},
		{"HTTP", says("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), `it said "HTTP/1.1 400 Bad Request"`},
		{"SSH", says("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), `it said "SSH-2.0-OpenSSH_9.2p1 Debian-2"`},
		{"TLS", says("\x15\x03\x03\x00\x02\x02\x46"), `it said "\x15\x03\x03\x00\x02\x02F"`},
		{"control characters", says("\x1b[2J\x1b[31m" + strings.Repeat("x", 500)), `it said "\x1b[2J\x1b[31mxxx`},
		{"silent", func(conn net.Conn) { io.Copy(io.Discard, conn) }, "accepts connections and does not answer"},
		{"closes", func(conn net.Conn) {}, "closes connections without an answer"},
		{"slow", saysSlowly("HTTP/1.1 400", 300*time.Millisecond), `it said "H`},
		{"slow as ZooKeeper", saysSlowly(zkGreetingText, 300*time.Millisecond), `it said "\x00`},
		{"half a greeting", says(zkGreetingText[:20]), "it said"},
		{"long password", says(strings.Replace(zkGreetingText, "\x00\x00\x00\x10", "\x7f\xff\xff\xff", 1)), "it said"},
		{"no timeout", says(strings.Replace(zkGreetingText, "\x0f\xa0", "\x00\x00", 1)), "it said"},
		{"short", says("\x00\x00\x00\x02ab"), "it said"},
		{"long", says("\x00\x01\x00\x00" + strings.Repeat("x", 1<<16)), "it said"},
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	t.Run("all", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				stranger := startFakeBroker(t, c.answer)
				// The order of brokers is random: the good one does not serve
				// before the stranger was tried.
				proxy := zktest.StartProxy(t, server.Addr())
				proxy.Cut()
				failed, connected := make(chan string, 100), make(chan struct{}, 100)
				conn, err := dialZK([]string{stranger.Addr().String(), proxy.Addr()}, 4*time.Second, func(e zkEvent) {
					switch {
					case e.kind == zkConnected:
						connected <- struct{}{}
					case e.kind == zkBrokerFailed && e.path == stranger.Addr().String():
						failed <- e.why
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.close()
				select {
				case why := <-failed:
					if !strings.Contains(why, c.why) || len(why) > 300 || strings.ContainsAny(why, "\x1b\r\n") {
						t.Errorf("the reason is %q, want %q", why, c.why)
					}
				case <-time.After(testLimit):
					t.Fatal("the connection to the stranger is not given up")
				}
				proxy.Restore()
				select {
				case <-connected:
				case <-time.After(testLimit):
					t.Fatal("there is no connection to the good broker")
				}
			})
		}
	})
	// The client has buffers of 2 MB for each connection.
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 300 {
		t.Errorf("%d MB were allocated, which is too much", mb)
	}
}

// The answers of a real server pass the checks, for every operation, with and
// without errors.
func TestZKFramesOfARealServer(t *testing.T) {
	t.Parallel()
	conn := dialTest(t, zktest.Shared(t).Addr())
	root := zkTestOptions("").CoinDir
	put := func(path, value string) {
		t.Helper()
		if err := errors.Join(makeParents(conn, path), conn.create(path, nil, false)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.set(path, []byte(value), -1); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) zkNode {
		t.Helper()
		node, err := conn.get(path)
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	if _, err := conn.get(root + "/none"); !errors.Is(err, errZKNoNode) {
		t.Errorf("got %v", err)
	}
	big := strings.Repeat("x", 400<<10) // it comes in several pieces
	put(root+"/a", "1")
	put(root+"/b/empty", "")
	put(root+"/big", big)
	if node := get(root + "/big"); string(node.Value) != big {
		t.Errorf("got a value of %d bytes, want %d", len(node.Value), len(big))
	}
	for i := range 51 {
		put(root+"/many/"+strings.Repeat("n", i+1), "x")
	}
	if names, err := conn.children(root + "/many"); err != nil || len(names) != 51 {
		t.Errorf("got %d children, %v", len(names), err)
	}
	if node := get(root + "/b/empty"); len(node.Value) != 0 {
		t.Errorf("got %q", node.Value)
	}
	if err := conn.replace(root+"/a", get(root+"/a").Version, []byte("2")); err != nil {
		t.Error(err)
	}
	if err := conn.replace(root+"/a", 77, []byte("3")); !errors.Is(err, errZKBadVersion) {
		t.Errorf("got %v", err)
	}
	if err := conn.replace(root+"/none", 0, nil); !errors.Is(err, errZKNoNode) {
		t.Errorf("got %v", err)
	}
	if err := conn.remove(root+"/a", -1); err != nil {
		t.Error(err)
	}
}
