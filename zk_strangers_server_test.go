//go:build e2e

package main

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Whatever answers instead of a ZooKeeper server, the next one is tried soon,
// memory does not grow and the reason is told.
func TestZKStrangers(t *testing.T) {
	server := zkServer(t)
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
				// The order of brokers is random: the good one does not serve before
				// the stranger was met.
				proxy := newZKProxy(t, server.Addr())
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
						t.Errorf("told %q, want %q", why, c.why)
					}
				case <-time.After(6 * time.Second):
					t.Fatal("the stranger is not given up")
				}
				proxy.Restore()
				select {
				case <-connected:
				case <-time.After(6 * time.Second):
					t.Fatal("not connected to the good broker")
				}
			})
		}
	})
	// The client has buffers of 2 MB for each connection.
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 300 {
		t.Errorf("%d MB allocated", mb)
	}
}

// The answers of a real server pass: every operation, with and without errors.
func TestZKFramesOfARealServer(t *testing.T) {
	admin := newZKAdmin(t, zkServer(t).Addr())
	root := zkTestOptions("").CoinDir
	big := strings.Repeat("x", 400<<10) // of several pieces
	admin.put(root+"/a", "1")
	admin.put(root+"/b/empty", "")
	admin.put(root+"/big", big)
	if node, _ := admin.get(root + "/big"); string(node.Value) != big {
		t.Errorf("got %d bytes, want %d", len(node.Value), len(big))
	}
	admin.put(root+"/many/0", "x")
	for i := range 50 {
		admin.put(root+"/many/"+strings.Repeat("n", i+1), "x")
	}
	if names := admin.children(root + "/many"); len(names) != 51 {
		t.Errorf("%d children", len(names))
	}
	if node, _ := admin.get(root + "/b/empty"); len(node.Value) != 0 {
		t.Errorf("got %q", node.Value)
	}
	node, _ := admin.get(root + "/a")
	if err := admin.conn.replace(root+"/a", node.Version, []byte("2")); err != nil {
		t.Error(err)
	}
	if err := admin.conn.replace(root+"/a", 77, []byte("3")); !errors.Is(err, errZKBadVersion) {
		t.Errorf("got %v", err)
	}
	if err := admin.conn.replace(root+"/none", 0, nil); !errors.Is(err, errZKNoNode) {
		t.Errorf("got %v", err)
	}
	admin.remove(root + "/a")
}
