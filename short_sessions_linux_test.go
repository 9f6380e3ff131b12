//go:build linux && !portable_relay

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Short sessions: a client that does as little as can be, so that hundred
// thousands of connects take minutes. It takes no share's work.

// visit is one way in which a short session goes and ends. It connects, sends
// text, reads until an answer and leaves.
type visit struct {
	name string
	// text is what it sends, in one write; i is the session's number.
	text func(i int) string
	// until is what it reads for before it goes on; empty: nothing.
	until string
	// mines: a share follows, and its answer.
	mines bool
	// shown: the switcher is expected to close the connection.
	shown bool
}

const (
	shortSubscribe = `{"id":1,"method":"mining.subscribe","params":["short/1"]}` + "\n"
	// shortAuthorized is an answer and not the end of what may be read: the
	// job may be in the same segment.
	shortAuthorized = `{"id":2,"result":true,"error":null}`
	shortProxied    = "PROXY TCP4 198.51.100.7 127.0.0.1 4444 18080\r\n"
)

// shortAuthorize is a handshake as far as the authorization.
func shortAuthorize(worker string) string {
	return shortSubscribe + `{"id":2,"method":"mining.authorize","params":["` + worker + `","x"]}` + "\n"
}

// shortAccounts is how many sub-accounts are known: user0 and so on.
const shortAccounts = 50

func shortUser(i int) string { return fmt.Sprintf("user%d.rig%d", (i/20+i)%shortAccounts, i%7) }

// shortVisits are all ways, a session's being number i modulo their number.
// registered gives a worker whose sub-account becomes known by registration.
func shortVisits(registered func(i int) string) []visit {
	fixed := func(text string) func(int) string { return func(int) string { return text } }
	mining := func(header string) func(int) string {
		return func(i int) string { return header + shortAuthorize(shortUser(i)) }
	}
	mines := visit{name: "mines", text: mining(""), mines: true}
	return []visit{
		mines,
		{name: "silent", text: fixed("")},
		mines,
		{name: "half a line", text: fixed(shortSubscribe[:30])},
		mines,
		{name: "subscribed only", text: fixed(shortSubscribe), until: `"id":1,`},
		mines,
		{name: "leaves while it is authorized", text: mining("")},
		{name: "leaves without a share", text: mining(""), until: shortAuthorized},
		{name: "worker refused", text: func(i int) string { return shortAuthorize("user0.refused") }, until: `"error":[`},
		mines,
		{name: "unknown sub-account", text: func(i int) string { return shortAuthorize(fmt.Sprintf("new%d.rig", i)) }, until: `"id":1,`},
		{name: "registered sub-account", text: func(i int) string { return shortAuthorize(registered(i)) }, mines: true},
		{name: "through a proxy", text: mining(shortProxied), mines: true},
		{name: "half a proxy's header", text: fixed(shortProxied[:20])},
		{name: "not Stratum", text: fixed("GET / HTTP/1.1\r\n\r\n"), shown: true},
		mines,
		{name: "line too long", text: fixed("{" + strings.Repeat("x", 17<<10)), shown: true},
		{name: "authorizes first", text: fixed(`{"id":1,"method":"mining.authorize","params":["user0.rig","x"]}` + "\n"), until: `"error":[101`},
		{name: "subscribes twice", text: fixed(shortSubscribe + shortSubscribe), until: `"error":[102`},
	}
}

// shortSessions makes short sessions, some at a time.
type shortSessions struct {
	addr   string
	visits []visit
	next   chan int // numbers of sessions to come
	wg     sync.WaitGroup
	done   atomic.Int64
	shares atomic.Int64

	mu       sync.Mutex
	failures []string
}

// startShortSessions begins as many workers; numbers put into next are their
// work, until finish.
func startShortSessions(addr string, workers int, visits []visit) *shortSessions {
	s := &shortSessions{addr: addr, visits: visits, next: make(chan int)}
	for range workers {
		s.wg.Go(s.work)
	}
	return s
}

// finish waits for all sessions and fails the test if one did not go as it
// should.
func (s *shortSessions) finish(t *testing.T) {
	t.Helper()
	close(s.next)
	s.wg.Wait()
	for i, failure := range s.failures {
		if i < 10 {
			t.Error(failure)
		}
	}
	if n := len(s.failures); n > 10 {
		t.Errorf("%d short sessions failed in all", n)
	}
}

func (s *shortSessions) work() {
	buffer := make([]byte, 32<<10)
	for i := range s.next {
		v := &s.visits[i%len(s.visits)]
		if err := s.one(i, v, buffer); err != nil {
			s.mu.Lock()
			s.failures = append(s.failures, fmt.Sprintf("session %d, %s: %v", i, v.name, err))
			s.mu.Unlock()
		}
		s.done.Add(1)
	}
}

func (s *shortSessions) one(i int, v *visit, buffer []byte) error {
	// Each address has ports of its own: those of the last minute's
	// connections can not be used again.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/250%16), byte(1+i%250))}
	dialer := net.Dialer{LocalAddr: from, KeepAliveConfig: net.KeepAliveConfig{Enable: false}}
	nc, err := dialer.Dial("tcp4", s.addr)
	if err != nil {
		return err
	}
	conn := nc.(*net.TCPConn)
	defer conn.Close()
	if i/len(s.visits)%2 == 0 {
		conn.SetLinger(0) // a reset, as of a miner that lost its power
	}
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	if text := v.text(i); text != "" {
		if _, err := io.WriteString(conn, text); err != nil && !v.shown {
			return err
		}
	}
	switch {
	case v.shown:
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			return fmt.Errorf("is not closed: %w", err)
		}
		return nil
	case v.mines:
		return s.mine(conn, i, buffer)
	case v.until != "":
		_, err := readFor(conn, buffer, 0, v.until)
		return err
	}
	return nil
}

// readFor reads until what was read, n bytes so far, has text in it.
func readFor(conn net.Conn, buffer []byte, n int, text string) (int, error) {
	for !bytes.Contains(buffer[:n], []byte(text)) {
		more, err := conn.Read(buffer[n:])
		n += more
		if err != nil && !bytes.Contains(buffer[:n], []byte(text)) {
			return n, fmt.Errorf("no %q in %.300q: %w", text, buffer[:n], err)
		}
	}
	return n, nil
}

// shortJob finds the ID and the time of a job.
var shortJob = regexp.MustCompile(`"mining\.notify","params":\["([^"]+)".*"([0-9a-f]{8})",(?:true|false)\]\}\n`)

// mine reads the first job, submits one share and reads the answer.
func (s *shortSessions) mine(conn net.Conn, i int, buffer []byte) error {
	n, err := readFor(conn, buffer, 0, shortAuthorized)
	if err != nil {
		return err
	}
	job := shortJob.FindSubmatch(buffer[:n])
	for job == nil {
		more, err := conn.Read(buffer[n:])
		n += more
		if job = shortJob.FindSubmatch(buffer[:n]); job == nil && err != nil {
			return fmt.Errorf("no job in %.300q: %w", buffer[:n], err)
		}
	}
	submit := fmt.Sprintf(`{"id":3,"method":"mining.submit","params":["%s","%s","%0*x","%s","%08x"]}`+"\n",
		s.workerOf(i), job[1], 2*extranonce2Size, i, job[2], i)
	if _, err := io.WriteString(conn, submit); err != nil {
		return err
	}
	if n, err = readFor(conn, buffer, 0, `"id":3,`); err != nil {
		return err
	}
	if !bytes.Contains(buffer[:n], []byte(`"id":3,"result":true`)) {
		return fmt.Errorf("share refused: %.300q", buffer[:n])
	}
	s.shares.Add(1)
	return nil
}

// workerOf is the worker that session i authorized.
func (s *shortSessions) workerOf(i int) string {
	text := s.visits[i%len(s.visits)].text(i)
	_, after, _ := strings.Cut(text, `"mining.authorize","params":["`)
	worker, _, _ := strings.Cut(after, `"`)
	return worker
}
