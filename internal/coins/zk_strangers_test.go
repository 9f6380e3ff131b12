package coins

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeBroker answers each connection with a given function.
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

const zkGreetingText = "\x00\x00\x00\x25" + "\x00\x00\x00\x00" + "\x00\x00\x0f\xa0" + "\x01\x00\x00\x00\x00\x00\x00\x01" +
	"\x00\x00\x00\x10" + "0123456789abcdef" + "\x00"

// No answer of a broker ends the process or makes it allocate more than it has received.
func TestZKHostileAnswers(t *testing.T) {
	t.Parallel()
	const header = "nnnn" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00" // number, transaction, no error
	stat := strings.Repeat("\x00", zkStatSize)
	get := func(c *zkConn) error { _, err := c.get("/a"); return err }
	children := func(c *zkConn) error { _, err := c.children("/a"); return err }
	replace := func(c *zkConn) error { return c.replace("/a", 0, nil) }
	create := func(c *zkConn) error { return c.create("/a", nil, true) }
	for _, c := range []struct {
		name   string
		ask    func(*zkConn) error
		length int // the announced length; 0 means the real one
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
			if err := c.ask(conn); !errors.Is(err, errZKUnavailable) {
				t.Errorf("got %v, want %v", err, errZKUnavailable)
			}
			<-failed
		})
	}
}

// Events without a watch are not passed on, because nothing would bound their number.
func TestZKUnaskedEvents(t *testing.T) {
	t.Parallel()
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
			t.Fatalf("an event of %s without a watch was passed on", e.path)
		}
	}
}

// A broker may grant a longer session timeout than was asked for. The connection
// then must not count as dead before the library's first ping is due.
func TestZKLongerSessionTimeout(t *testing.T) {
	t.Parallel()
	const ping = 0xfffffffe
	pinged := make(chan bool, 100)
	broker := startFakeBroker(t, func(conn net.Conn) {
		request := make([]byte, 1000)
		conn.Read(request)
		io.WriteString(conn, zkGreetingText) // it grants 4 s
		n, _ := conn.Read(request)
		pinged <- n >= 12 && binary.BigEndian.Uint32(request[4:]) == ping
	})
	conn, err := dialZK([]string{broker.Addr().String()}, 400*time.Millisecond, func(zkEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	// On a busy machine a greeting may come so late that the client has given up on it.
	for range 5 {
		if <-pinged {
			return
		}
	}
	t.Error("five connections ended before the first ping")
}

// FuzzZKFrames checks that no bytes of a broker cause a panic, or allocate more than was
// received.
func FuzzZKFrames(f *testing.F) {
	f.Add([]byte(zkGreetingText), int32(zkOpGetData))
	f.Add([]byte("HTTP/1.1 400"), int32(zkOpMulti))
	f.Add([]byte("\x00\x00\x00\x1a"+strings.Repeat("\x00", 26)), int32(zkOpMulti))
	f.Add([]byte("\x00\x00\x00\x14"+strings.Repeat("\x00", 16)+"\x7f\xff\xff\xff"), int32(zkOpGetChildren2))
	f.Fuzz(func(t *testing.T, data []byte, op int32) {
		frame, greeting, err := readGreeting(bytes.NewReader(data))
		if err == nil && (len(frame) > 4+zkGreetingMost || greeting.session != 0 && greeting.timeout < zkLeastTimeout) {
			t.Fatalf("%q is taken for a greeting", frame)
		}
		frame, err = readReply(bytes.NewReader(data), nil)
		if cap(frame) > 2*(len(data)+zkReadStep) {
			t.Fatalf("%d bytes were allocated for %d received", cap(frame), len(data))
		}
		if err == nil {
			checkReply(frame[4:], op)
		}
	})
}
