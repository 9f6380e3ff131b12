package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeBroker answers each connection as it is told.
type fakeBroker struct {
	net.Listener
	ended sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func startFakeBroker(t *testing.T, answer func(net.Conn)) *fakeBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{Listener: ln}
	b.ended.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			b.ended.Go(func() {
				defer conn.Close()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		b.mu.Lock()
		for _, conn := range b.conns {
			conn.Close()
		}
		b.mu.Unlock()
		b.ended.Wait()
	})
	return b
}

// says answers the first bytes with a text and then says nothing more.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 100))
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// saysSlowly says one byte after the other.
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

const zkGreetingText = "\x00\x00\x00\x25" + "\x00\x00\x00\x00" + "\x00\x00\x0f\xa0" + "\x01\x00\x00\x00\x00\x00\x00\x01" +
	"\x00\x00\x00\x10" + "0123456789abcdef" + "\x00"

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

// What a broker may answer does not end the process, and no more is allocated
// than came.
func TestZKHostileAnswers(t *testing.T) {
	const header = "nnnn" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00" // number, transaction, no error
	stat := strings.Repeat("\x00", zkStatSize)
	get := func(c *zkConn) error { _, err := c.get("/a"); return err }
	children := func(c *zkConn) error { _, err := c.children("/a"); return err }
	replace := func(c *zkConn) error { return c.replace("/a", 0, nil) }
	create := func(c *zkConn) error { return c.create("/a", nil, true) }
	for _, c := range []struct {
		name   string
		ask    func(*zkConn) error
		length int // announced; 0: as long as it is
		answer string
	}{
		{"empty", get, 0, ""},
		{"shorter than a header", get, 0, header[:10]},
		{"huge", get, 0x7fffffff, header},
		{"negative", get, -1, header},
		{"over the limit", get, zkMaxReply + 1, header},
		{"huge value", get, 0, header + "\x7f\xff\xff\xff" + stat},
		{"negative value", get, 0, header + "\x80\x00\x00\x00" + stat},
		{"no value", get, 0, header},
		{"no state", get, 0, header + "\x00\x00\x00\x01x"},
		{"many children", children, 0, header + "\x7f\xff\xff\xff" + stat},
		{"negative children", children, 0, header + "\xff\xff\xff\x00" + stat},
		{"long child", children, 0, header + "\x00\x00\x00\x01\x7f\xff\xff\xff" + stat},
		{"no results", replace, 0, header},
		{"half a result", replace, 0, header + "\x00\x00\x00\x01"},
		{"long result", replace, 0, header + "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x7f\xff\xff\xff"},
		{"long path", create, 0, header + "\x7f\xff\xff\xff"},
		{"event without a path", get, 0, "\xff\xff\xff\xff" + header[4:] + "\x00\x00\x00\x03\x00\x00\x00\x03\x7f\xff\xff\xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker := startFakeBroker(t, func(conn net.Conn) {
				conn.Read(make([]byte, 100))
				io.WriteString(conn, zkGreetingText)
				request := make([]byte, 1000)
				for {
					n, err := conn.Read(request)
					if err != nil {
						return
					}
					if n < 12 || int32(binary.BigEndian.Uint32(request[4:])) <= 0 {
						continue // a ping
					}
					answer := []byte(strings.Replace(c.answer, "nnnn", string(request[4:8]), 1))
					length := len(answer)
					if c.length != 0 {
						length = c.length
					}
					conn.Write(binary.BigEndian.AppendUint32(nil, uint32(length)))
					conn.Write(answer)
				}
			})
			connected, failed := make(chan struct{}, 100), make(chan struct{}, 100)
			conn, err := dialZK([]string{broker.Addr().String()}, 4*time.Second, func(e zkEvent) {
				switch e.kind {
				case zkConnected:
					connected <- struct{}{}
				case zkBrokerFailed:
					failed <- struct{}{}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.close()
			<-connected
			if err := c.ask(conn); !errors.Is(err, errZKAway) {
				t.Errorf("got %v, want %v", err, errZKAway)
			}
			<-failed
		})
	}
}

// Events that no watch is for are not passed on: nobody would bound them.
func TestZKUnaskedEvents(t *testing.T) {
	const events = 10000
	event := "\x00\x00\x00\x1e" + "\xff\xff\xff\xff" + "\xff\xff\xff\xff\xff\xff\xff\xff" + "\x00\x00\x00\x00" +
		"\x00\x00\x00\x03" + "\x00\x00\x00\x03" + "\x00\x00\x00\x02/a"
	sent := make(chan struct{})
	broker := startFakeBroker(t, func(conn net.Conn) {
		conn.Read(make([]byte, 100))
		io.WriteString(conn, zkGreetingText)
		io.WriteString(conn, strings.Repeat(event, events))
		close(sent)
		io.Copy(io.Discard, conn)
	})
	told := make(chan zkEvent, 2*events)
	conn, err := dialZK([]string{broker.Addr().String()}, 4*time.Second, func(e zkEvent) { told <- e })
	if err != nil {
		t.Fatal(err)
	}
	<-sent
	conn.close()
	for len(told) > 0 {
		if e := <-told; e.kind == zkNodeChanged {
			t.Fatalf("told of %s", e.path)
		}
	}
}

// A broker may make the session timeout longer than was asked for. It is not
// taken for dead before the client's first ping is due.
func TestZKLongerSessionTimeout(t *testing.T) {
	const ping = 0xfffffffe
	pinged := make(chan bool, 100)
	broker := startFakeBroker(t, func(conn net.Conn) {
		request := make([]byte, 1000)
		conn.Read(request)
		io.WriteString(conn, zkGreetingText) // 4 s
		n, _ := conn.Read(request)
		pinged <- n >= 12 && binary.BigEndian.Uint32(request[4:]) == ping
	})
	conn, err := dialZK([]string{broker.Addr().String()}, 400*time.Millisecond, func(zkEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	if !<-pinged {
		t.Error("the connection ended before the first ping")
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

// FuzzZKFrames: no bytes of a broker cause a panic, or memory beyond what came.
func FuzzZKFrames(f *testing.F) {
	f.Add([]byte(zkGreetingText), int32(zkOpGetData))
	f.Add([]byte("HTTP/1.1 400"), int32(zkOpMulti))
	f.Add([]byte("\x00\x00\x00\x1a"+strings.Repeat("\x00", 26)), int32(zkOpMulti))
	f.Add([]byte("\x00\x00\x00\x14"+strings.Repeat("\x00", 16)+"\x7f\xff\xff\xff"), int32(zkOpGetChildren2))
	f.Fuzz(func(t *testing.T, data []byte, op int32) {
		frame, greeting, err := readGreeting(bytes.NewReader(data))
		if err == nil && (len(frame) > 4+zkGreetingMost || greeting.session != 0 && greeting.timeout < zkLeastTimeout) {
			t.Fatalf("taken for a greeting: %q", frame)
		}
		frame, err = readReply(bytes.NewReader(data), nil)
		if cap(frame) > 2*(len(data)+zkReadStep) {
			t.Fatalf("%d bytes allocated for %d", cap(frame), len(data))
		}
		if err == nil {
			checkReply(frame[4:], op)
		}
	})
}
