package coins

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang/glog"
)

// zkGreetingWait is how long a broker may take to answer a new connection. Each time
// that none of the brokers has answered, it is doubled, because they may be slow. The
// limit is the silence that is allowed in a session.
const zkGreetingWait = 5 * time.Second

// zkSocket is the connection to a broker that the library uses. It passes on only
// complete frames that were checked, and each read has a deadline. One goroutine reads
// and another one writes.
type zkSocket struct {
	net.Conn
	owner   *zkConn
	address string
	// silence is how long the broker may send nothing once there is a session.
	silence time.Duration
	greeted bool
	frame   []byte
	unread  []byte // the part of frame that the library has not read

	mu sync.Mutex
	// pending maps the number of each unanswered request to its operation.
	pending map[int32]int32
}

func newZKSocket(conn net.Conn, owner *zkConn, address string) *zkSocket {
	conn.SetReadDeadline(time.Now().Add(owner.greetingWait()))
	return &zkSocket{Conn: conn, owner: owner, address: address, silence: owner.silence, pending: make(map[int32]int32)}
}

func (s *zkSocket) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		if err := s.readFrame(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	if len(s.unread) == 0 && cap(s.frame) > zkReadStep {
		s.frame = nil
	}
	return n, nil
}

func (s *zkSocket) readFrame() error {
	if !s.greeted {
		return s.readGreeting()
	}
	frame, err := readReply(s.Conn, s.frame[:0])
	if err == nil {
		err = checkReply(frame[4:], s.operation(int32(binary.BigEndian.Uint32(frame[4:]))))
	}
	if errors.Is(err, errZKFrame) {
		s.owner.brokerFailed(s.address, err)
	}
	if err != nil {
		return err
	}
	s.frame, s.unread = frame, frame
	s.owner.contact.Store(time.Now().UnixNano())
	return nil
}

// readGreeting reads the broker's answer to the connect request. If something else
// arrives, it reports that to the owner.
func (s *zkSocket) readGreeting() error {
	frame, greeting, err := readGreeting(s.Conn)
	var foreign *zkForeignError
	if errors.As(err, &foreign) && len(foreign.received) < zkQuoteMost {
		// The next bytes may help the operator to recognize the program.
		s.Conn.SetReadDeadline(time.Now().Add(zkQuoteWait))
		more := make([]byte, zkQuoteMost-len(foreign.received))
		n, _ := s.Conn.Read(more)
		foreign.received = append(foreign.received, more[:n]...)
	}
	if err != nil {
		s.owner.brokerFailed(s.address, err)
		return err
	}
	s.greeted = true
	s.frame, s.unread = frame, frame
	s.silence = max(s.silence, min(greeting.timeout, zkMostTimeout)*2/3)
	s.owner.greeted(greeting)
	return nil
}

// Write sends one complete request of the library, which begins with its length, its
// number and its operation.
func (s *zkSocket) Write(p []byte) (int, error) {
	op := int32(0)
	if len(p) >= 12 {
		op = int32(binary.BigEndian.Uint32(p[8:]))
		if number := int32(binary.BigEndian.Uint32(p[4:])); number > 0 {
			s.mu.Lock()
			s.pending[number] = op
			s.mu.Unlock()
		}
	}
	n, err := s.Conn.Write(p)
	if op == zkOpSetWatches {
		s.owner.mu.Lock()
		s.owner.openGateLocked()
		s.owner.mu.Unlock()
	}
	return n, err
}

// operation returns the operation that an answer belongs to, or 0 if there was no
// such request.
func (s *zkSocket) operation(number int32) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := s.pending[number]
	delete(s.pending, number)
	return op
}

// SetReadDeadline is a no-op until the greeting has arrived, so that its deadline stays.
// Afterwards it limits the deadline to the silence that a broker may keep.
func (s *zkSocket) SetReadDeadline(t time.Time) error {
	if !s.greeted {
		return nil
	}
	if latest := time.Now().Add(s.silence); t.IsZero() || t.After(latest) {
		t = latest
	}
	return s.Conn.SetReadDeadline(t)
}

// SetWriteDeadline limits the deadline to the silence that a broker may keep.
func (s *zkSocket) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(s.owner.silence); t.After(latest) {
		t = latest
	}
	return s.Conn.SetWriteDeadline(t)
}

// greetingWait returns how long a broker may take to answer a new connection.
func (c *zkConn) greetingWait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	rounds := c.unanswered / max(c.brokers, 1)
	return min(c.silence, zkGreetingWait<<min(rounds, 5))
}

// greeted records that a broker has answered with a valid greeting.
func (c *zkConn) greeted(g zkGreeting) {
	c.contact.Store(time.Now().UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unanswered = 0
	if g.session != 0 {
		c.granted = g.timeout
	}
}

// brokerFailed reports why a connection cannot be used.
func (c *zkConn) brokerFailed(address string, err error) {
	why, wrong := "", false
	var foreign *zkForeignError
	switch {
	case errors.Is(err, net.ErrClosed):
		return // this side has closed the connection
	case errors.As(err, &foreign):
		why, wrong = foreign.Error(), true
	case errors.Is(err, errZKFrame):
		why, wrong = "gave an "+err.Error(), true
	case errors.Is(err, os.ErrDeadlineExceeded):
		why = "accepts connections and does not answer"
		c.mu.Lock()
		c.unanswered++
		c.mu.Unlock()
	default:
		why = "closes connections without an answer: it does not serve, or is not a ZooKeeper server"
	}
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if !closing {
		c.onEvent(zkEvent{kind: zkBrokerFailed, path: address, why: why, wrong: wrong})
	}
}

// zkBrokers is the library's HostProvider. It returns the brokers in turn by name, so
// that a broker is found if its address changes.
type zkBrokers struct {
	mu      sync.Mutex
	servers []string
	current int
	last    int
}

func (b *zkBrokers) Init(servers []string) error {
	b.servers, b.current, b.last = servers, -1, -1
	return nil
}

func (b *zkBrokers) Len() int { return len(b.servers) }

func (b *zkBrokers) Next() (server string, retryStart bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = (b.current + 1) % len(b.servers)
	retryStart = b.current == b.last
	if b.last == -1 {
		b.last = 0
	}
	return b.servers[b.current], retryStart
}

func (b *zkBrokers) Connected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = b.current
}

// zkLogger receives the library's messages. They are logged only with -v 2.
type zkLogger struct{ conn *zkConn }

func (l zkLogger) Printf(format string, args ...any) {
	glog.V(2).Infof("zookeeper client: "+format, args...)
	if strings.HasPrefix(format, "Failed to set previous watches") {
		l.conn.watchesRefused()
	}
}
