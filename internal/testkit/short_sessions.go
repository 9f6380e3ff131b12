package testkit

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

// The client of short sessions does as little as possible, so that hundreds of thousands
// of connections take only minutes. It computes no hashes for its shares.

// Visit is one kind of short session. It connects, sends a text, reads up to a given
// answer and disconnects.
type Visit struct {
	Name string
	// Text returns the text that session i sends in one write.
	Text func(i int) string
	// Until is the text up to which the session reads. If it is empty, the session reads
	// nothing.
	Until string
	// Mines makes the session submit a share and wait for its answer.
	Mines bool
	// Closed means that the switcher must close the connection.
	Closed bool
}

const (
	ShortSubscribe = `{"id":1,"method":"mining.subscribe","params":["short/1"]}` + "\n"
	// ShortAuthorized is the answer to mining.authorize. More text may follow in the
	// same read, because the job may be in the same segment.
	ShortAuthorized = `{"id":2,"result":true,"error":null}`
	ShortProxied    = "PROXY TCP4 198.51.100.7 127.0.0.1 4444 18080\r\n"
)

// ShortAuthorize returns a miner's requests to subscribe and to authorize the worker.
func ShortAuthorize(worker string) string {
	return ShortSubscribe + `{"id":2,"method":"mining.authorize","params":["` + worker + `","x"]}` + "\n"
}

// ShortAccounts is the number of sub-accounts that have a coin. They are called user0,
// user1 and so on.
const ShortAccounts = 50

func ShortUser(i int) string { return fmt.Sprintf("user%d.rig%d", (i/20+i)%ShortAccounts, i%7) }

// ShortVisits returns all kinds of short sessions. Session i is of the kind whose index
// is i modulo their number. registered returns a worker whose sub-account gets its coin
// from automatic registration.
func ShortVisits(registered func(i int) string) []Visit {
	fixed := func(text string) func(int) string { return func(int) string { return text } }
	mining := func(header string) func(int) string {
		return func(i int) string { return header + ShortAuthorize(ShortUser(i)) }
	}
	mines := Visit{Name: "mines", Text: mining(""), Mines: true}
	return []Visit{
		mines,
		{Name: "silent", Text: fixed("")},
		mines,
		{Name: "half a line", Text: fixed(ShortSubscribe[:30])},
		mines,
		{Name: "subscribed only", Text: fixed(ShortSubscribe), Until: `"id":1,`},
		mines,
		{Name: "leaves while it is authorized", Text: mining("")},
		{Name: "leaves without a share", Text: mining(""), Until: ShortAuthorized},
		{Name: "worker refused", Text: func(i int) string { return ShortAuthorize("user0.refused") }, Until: `"error":[`},
		mines,
		{Name: "unknown sub-account", Text: func(i int) string { return ShortAuthorize(fmt.Sprintf("new%d.rig", i)) }, Until: `"id":1,`},
		{Name: "registered sub-account", Text: func(i int) string { return ShortAuthorize(registered(i)) }, Mines: true},
		{Name: "through a proxy", Text: mining(ShortProxied), Mines: true},
		{Name: "half a proxy's header", Text: fixed(ShortProxied[:20])},
		{Name: "not Stratum", Text: fixed("GET / HTTP/1.1\r\n\r\n"), Closed: true},
		mines,
		{Name: "line too long", Text: fixed("{" + strings.Repeat("x", 17<<10)), Closed: true},
		{Name: "authorizes first", Text: fixed(`{"id":1,"method":"mining.authorize","params":["user0.rig","x"]}` + "\n"), Until: `"error":[101`},
		{Name: "subscribes twice", Text: fixed(ShortSubscribe + ShortSubscribe), Until: `"error":[102`},
	}
}

// ShortSessions runs several short sessions at a time.
type ShortSessions struct {
	Addr   string
	Visits []Visit
	Next   chan int // numbers of the sessions to run
	Wg     sync.WaitGroup
	Done   atomic.Int64
	Shares atomic.Int64

	mu       sync.Mutex
	Failures []string
}

// StartShortSessions starts this many goroutines. Until Finish is called, they run the
// sessions whose numbers are sent to Next.
func StartShortSessions(addr string, workers int, visits []Visit) *ShortSessions {
	s := &ShortSessions{Addr: addr, Visits: visits, Next: make(chan int)}
	for range workers {
		s.Wg.Go(s.Work)
	}
	return s
}

// Finish waits for all sessions and fails the test if one failed.
func (s *ShortSessions) Finish(t *testing.T) {
	t.Helper()
	close(s.Next)
	s.Wg.Wait()
	for i, failure := range s.Failures {
		if i < 10 {
			t.Error(failure)
		}
	}
	if n := len(s.Failures); n > 10 {
		t.Errorf("%d short sessions failed in total", n)
	}
}

func (s *ShortSessions) Work() {
	buffer := make([]byte, 32<<10)
	for i := range s.Next {
		v := &s.Visits[i%len(s.Visits)]
		if err := s.One(i, v, buffer); err != nil {
			s.mu.Lock()
			s.Failures = append(s.Failures, fmt.Sprintf("session %d, %s: %v", i, v.Name, err))
			s.mu.Unlock()
		}
		s.Done.Add(1)
	}
}

func (s *ShortSessions) One(i int, v *Visit, buffer []byte) error {
	// The sessions come from many addresses, each of which has ports of its own. A port
	// cannot be used again within a minute.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/250%16), byte(1+i%250))}
	dialer := net.Dialer{LocalAddr: from, KeepAliveConfig: net.KeepAliveConfig{Enable: false}}
	nc, err := dialer.Dial("tcp4", s.Addr)
	if err != nil {
		return err
	}
	conn := nc.(*net.TCPConn)
	defer conn.Close()
	if i/len(s.Visits)%2 == 0 {
		conn.SetLinger(0) // makes Close send a reset, as when a miner restarts
	}
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	if text := v.Text(i); text != "" {
		if _, err := io.WriteString(conn, text); err != nil && !v.Closed {
			return err
		}
	}
	switch {
	case v.Closed:
		if _, err := io.Copy(io.Discard, conn); IsTimeout(err) {
			return fmt.Errorf("the connection is not closed: %w", err)
		}
		return nil
	case v.Mines:
		return s.Mine(conn, i, buffer)
	case v.Until != "":
		_, err := ReadFor(conn, buffer, 0, v.Until)
		return err
	}
	return nil
}

// ReadFor reads until the buffer, which already holds n bytes, contains text. It returns
// how many bytes the buffer then holds.
func ReadFor(conn net.Conn, buffer []byte, n int, text string) (int, error) {
	for !bytes.Contains(buffer[:n], []byte(text)) {
		more, err := conn.Read(buffer[n:])
		n += more
		if err != nil && !bytes.Contains(buffer[:n], []byte(text)) {
			return n, fmt.Errorf("there is no %q in %.300q: %w", text, buffer[:n], err)
		}
	}
	return n, nil
}

// ShortJob matches a job. Its groups are the job's ID and time.
var ShortJob = regexp.MustCompile(`"mining\.notify","params":\["([^"]+)".*"([0-9a-f]{8})",(?:true|false)\]\}\n`)

// Mine reads the first job, submits one share and reads the answer.
func (s *ShortSessions) Mine(conn net.Conn, i int, buffer []byte) error {
	n, err := ReadFor(conn, buffer, 0, ShortAuthorized)
	if err != nil {
		return err
	}
	job := ShortJob.FindSubmatch(buffer[:n])
	for job == nil {
		more, err := conn.Read(buffer[n:])
		n += more
		if job = ShortJob.FindSubmatch(buffer[:n]); job == nil && err != nil {
			return fmt.Errorf("there is no job in %.300q: %w", buffer[:n], err)
		}
	}
	submit := fmt.Sprintf(`{"id":3,"method":"mining.submit","params":["%s","%s","%0*x","%s","%08x"]}`+"\n",
		s.WorkerOf(i), job[1], 2*shortExtranonce2, i, job[2], i)
	if _, err := io.WriteString(conn, submit); err != nil {
		return err
	}
	if n, err = ReadFor(conn, buffer, 0, `"id":3,`); err != nil {
		return err
	}
	if !bytes.Contains(buffer[:n], []byte(`"id":3,"result":true`)) {
		return fmt.Errorf("the share was rejected: %.300q", buffer[:n])
	}
	s.Shares.Add(1)
	return nil
}

// WorkerOf returns the worker that session i authorized.
func (s *ShortSessions) WorkerOf(i int) string {
	text := s.Visits[i%len(s.Visits)].Text(i)
	_, after, _ := strings.Cut(text, `"mining.authorize","params":["`)
	worker, _, _ := strings.Cut(after, `"`)
	return worker
}

// shortExtranonce2 is the size of extranonce2, in bytes, for sessions whose extranonce1
// the switcher chooses.
const shortExtranonce2 = 8
