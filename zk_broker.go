package main

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

// zkGreetingWait is how long a broker has to answer a new connection. It is
// doubled, up to the session's own silence, each time that none of them did:
// they may be slow.
const zkGreetingWait = 5 * time.Second

// zkSocket is a connection to a broker, as the client sees it: only whole
// frames that were checked come through, and no read is without a deadline.
// Reading is done by one goroutine at a time, writing by another.
type zkSocket struct {
	net.Conn
	owner   *zkConn
	address string
	// silence is how long the broker may say nothing once the session stands.
	silence time.Duration
	greeted bool
	frame   []byte
	unread  []byte // the part of frame that the client has not taken

	mu sync.Mutex
	// asked has the operations of the requests without an answer, by number.
	asked map[int32]int32
}

func newZKSocket(conn net.Conn, owner *zkConn, address string) *zkSocket {
	conn.SetReadDeadline(time.Now().Add(owner.greetingWait()))
	return &zkSocket{Conn: conn, owner: owner, address: address, silence: owner.silence, asked: make(map[int32]int32)}
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

// readGreeting reads the broker's answer to the connect request, and tells the
// owner of anything else that answers.
func (s *zkSocket) readGreeting() error {
	frame, greeting, err := readGreeting(s.Conn)
	var stranger *zkStranger
	if errors.As(err, &stranger) && len(stranger.said) < zkSaidMost {
		// What it says at once is worth knowing.
		s.Conn.SetReadDeadline(time.Now().Add(zkSaidWait))
		more := make([]byte, zkSaidMost-len(stranger.said))
		n, _ := s.Conn.Read(more)
		stranger.said = append(stranger.said, more[:n]...)
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

// Write sees one whole request each: length, number, operation, ...
func (s *zkSocket) Write(p []byte) (int, error) {
	op := int32(0)
	if len(p) >= 12 {
		op = int32(binary.BigEndian.Uint32(p[8:]))
		if number := int32(binary.BigEndian.Uint32(p[4:])); number > 0 {
			s.mu.Lock()
			s.asked[number] = op
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

// operation gives the operation that an answer is for, 0 if nobody asked.
func (s *zkSocket) operation(number int32) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := s.asked[number]
	delete(s.asked, number)
	return op
}

// SetReadDeadline keeps the deadline of a connection that was not greeted yet,
// and allows none that is later than the broker may be silent.
func (s *zkSocket) SetReadDeadline(t time.Time) error {
	if !s.greeted {
		return nil
	}
	if latest := time.Now().Add(s.silence); t.IsZero() || t.After(latest) {
		t = latest
	}
	return s.Conn.SetReadDeadline(t)
}

// SetWriteDeadline allows none that is later than the broker may be silent.
func (s *zkSocket) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(s.owner.silence); t.After(latest) {
		t = latest
	}
	return s.Conn.SetWriteDeadline(t)
}

// greetingWait is how long a new connection may take to be answered.
func (c *zkConn) greetingWait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	rounds := c.unanswered / max(c.brokers, 1)
	return min(c.silence, zkGreetingWait<<min(rounds, 5))
}

// greeted notes that a broker has answered as one does.
func (c *zkConn) greeted(g zkGreeting) {
	c.contact.Store(time.Now().UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unanswered = 0
	if g.session != 0 {
		c.granted = g.timeout
	}
}

// brokerFailed notes why a connection is no use, and tells it.
func (c *zkConn) brokerFailed(address string, err error) {
	why, wrong := "", false
	var stranger *zkStranger
	switch {
	case errors.Is(err, net.ErrClosed):
		return // closed by this side
	case errors.As(err, &stranger):
		why, wrong = stranger.Error(), true
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

// zkBrokers goes round the brokers by name, so that a broker that moved to
// another address is found.
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

// zkLogger keeps the client's chatter out of the log.
type zkLogger struct{ conn *zkConn }

func (l zkLogger) Printf(format string, args ...any) {
	glog.V(2).Infof("zookeeper client: "+format, args...)
	if strings.HasPrefix(format, "Failed to set previous watches") {
		l.conn.watchesRefused()
	}
}
