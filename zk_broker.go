package main

import (
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/golang/glog"
)

// zkOpSetWatches is the number of the request with which the client renews its
// watches after a reconnect.
const zkOpSetWatches = 101

// zkSocket is a connection to a broker, as the client sees it.
type zkSocket struct {
	net.Conn
	owner *zkConn
}

func (s *zkSocket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.owner.contact.Store(time.Now().UnixNano())
	}
	return n, err
}

// Write sees one whole request each: length, number, operation, ...
func (s *zkSocket) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if len(p) >= 12 && binary.BigEndian.Uint32(p[8:]) == zkOpSetWatches {
		s.owner.mu.Lock()
		s.owner.openGateLocked()
		s.owner.mu.Unlock()
	}
	return n, err
}

func (s *zkSocket) SetReadDeadline(t time.Time) error {
	if latest := time.Now().Add(s.owner.silence); t.After(latest) {
		t = latest
	}
	return s.Conn.SetReadDeadline(t)
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
