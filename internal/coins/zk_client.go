package coins

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"
	"github.com/samuel/go-zookeeper/zk"
)

const (
	zkDialTimeout = 3 * time.Second
	// zkDialPause is the least time between two connections to a broker.
	zkDialPause      = time.Second
	zkRequestTimeout = 10 * time.Second
	// zkRearmWait is how long requests wait at most, after a reconnect, until the
	// client has set its watches again.
	zkRearmWait = time.Second
	// zkMaxReply bounds the memory that an answer of a broker can make this process
	// allocate. A node holds at most 1 MB.
	zkMaxReply = 4 << 20
	// zkMaxRequest has room for the client's largest request, 128 KB of watches.
	zkMaxRequest = 512 << 10
)

// zkEventKind is the kind of an event of a connection.
type zkEventKind int

const (
	zkConnected zkEventKind = iota
	zkDisconnected
	zkExpired
	zkNodeChanged
	// zkWatchLost means that a watched node has changed and no watch has reported it.
	zkWatchLost
	// zkBrokerFailed means that a broker does not answer, or not as ZooKeeper does.
	zkBrokerFailed
)

func (k zkEventKind) String() string {
	switch k {
	case zkConnected:
		return "connected"
	case zkDisconnected:
		return "disconnected"
	case zkExpired:
		return "expired"
	case zkNodeChanged:
		return "node changed"
	case zkWatchLost:
		return "watch lost"
	case zkBrokerFailed:
		return "broker failed"
	}
	return "unknown"
}

type zkEvent struct {
	kind zkEventKind
	path string // the node, or the broker's address for zkBrokerFailed
	why  string // only for zkBrokerFailed
	// wrong means that a failed broker has sent something that ZooKeeper never sends.
	wrong bool
}

// zkConn wraps the ZooKeeper client library. Only this file and zk_requests.go use the
// library, which is no longer maintained. These are its faults and how they are handled:
//
//   - A request without a connection may hang, and one after Close hangs for ever. So
//     requests without a session fail at once, a request that takes too long ends
//     with its connection, and close waits for the requests in progress.
//   - Close panics when it is called again, so close calls it once.
//   - A change during a reconnect may get lost, because the library sets its watches
//     again relative to a transaction that was never compared with them (which is
//     also a data race). So requests wait until the watches are set, and the owner
//     of the connection must read every watched node after zkConnected.
//   - Each GetW of a node whose watch has not fired adds a channel, which is kept
//     until the watch fires. So such a node is read without setting a watch, unless
//     it has changed although the watch has not fired.
//   - It waits ten receive timeouts for a broker that accepts connections but never
//     answers, resolves a broker's name only once, and does not close the socket of
//     an expired session. So zkSocket sets the deadlines, zkBrokers provides names, and
//     dial closes the previous socket.
//   - It does not check answers, so zkSocket checks them first.
//   - If brokers greet it and then close the connection, it tries one after the other
//     without a pause, so dial waits.
//
// All methods may block for as long as a request may take, and any goroutine may call
// them. Events come from the library's goroutines, in order.
type zkConn struct {
	client  *zk.Conn
	events  <-chan zk.Event
	onEvent func(zkEvent)
	silence time.Duration // how long a broker may send nothing
	brokers int           // how many there are
	// contact is when a broker last answered, in Unix nanoseconds.
	contact atomic.Int64

	ctx       context.Context
	cancel    context.CancelFunc
	closeOnce sync.Once
	calls     sync.WaitGroup

	mu      sync.Mutex
	closing bool
	session bool
	socket  *zkSocket
	// armed holds the paths for which the library has a watch that has not fired.
	armed map[string]*zkWatch
	// rearmed is closed once requests may be sent over the current connection.
	rearmed     chan struct{}
	rearmedDone bool
	// unanswered counts the new connections in a row that were not answered in time.
	unanswered int
	// granted is the session timeout that the broker has granted, or 0.
	granted time.Duration
	// dialled is when each broker was last dialled. Only the library's own goroutine
	// dials.
	dialled map[string]time.Time
}

// dialZK starts to connect and keeps trying until close. onEvent must not block.
func dialZK(brokers []string, sessionTimeout time.Duration, onEvent func(zkEvent)) (*zkConn, error) {
	c := &zkConn{
		onEvent:     onEvent,
		silence:     sessionTimeout * 2 / 3,
		brokers:     len(brokers),
		armed:       make(map[string]*zkWatch),
		dialled:     make(map[string]time.Time),
		rearmed:     make(chan struct{}),
		rearmedDone: true,
	}
	close(c.rearmed)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	var err error
	c.client, c.events, err = zk.Connect(brokers, sessionTimeout,
		zk.WithEventCallback(c.handleEvent),
		zk.WithDialer(c.dial),
		zk.WithHostProvider(&zkBrokers{}),
		zk.WithLogger(zkLogger{c}),
		zk.WithMaxBufferSize(zkMaxReply),
		zk.WithMaxConnBufferSize(zkMaxRequest))
	if err != nil {
		c.cancel()
		return nil, fmt.Errorf("zookeeper client: %w", err)
	}
	return c, nil
}

// close ends the session, so that the broker removes its ephemeral nodes. It waits, a
// few seconds at most, until all goroutines of the library have ended.
func (c *zkConn) close() {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closing = true
		session := c.session
		c.openGateLocked()
		c.mu.Unlock()
		c.cancel()

		if !session || !c.callsEnded(time.Second) {
			// The library fails all requests in progress when its socket is closed and
			// there is no new one.
			c.cut(nil)
			c.callsEnded(3 * time.Second)
		}
		c.client.Close()
		c.cut(nil)
		limit := time.NewTimer(3 * time.Second)
		defer limit.Stop()
		for {
			select {
			case _, open := <-c.events:
				if !open {
					return
				}
			case <-limit.C:
				glog.Warning("zookeeper: the client did not end in time")
				return
			}
		}
	})
}

// callsEnded waits until no request is in progress and reports whether that happened
// within the limit.
func (c *zkConn) callsEnded(limit time.Duration) bool {
	ended := make(chan struct{})
	go func() {
		c.calls.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}

func (c *zkConn) hasSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// sessionID returns the current session, or 0 before the first one.
func (c *zkConn) sessionID() int64 { return c.client.SessionID() }

// sessionTimeout returns the timeout that the broker has granted, or the one that was
// asked for.
func (c *zkConn) sessionTimeout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.granted > 0 {
		return c.granted
	}
	return c.silence * 3 / 2
}

func (c *zkConn) lastContact() time.Time {
	if at := c.contact.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// handleEvent is the library's callback.
func (c *zkConn) handleEvent(event zk.Event) {
	if event.Type != zk.EventSession {
		// The watch is forgotten before the event is reported, or the node would be
		// read without a new one. Events without a watch are not reported, because a
		// broker could fill the memory with them.
		if c.disarm(event.Path) {
			c.onEvent(zkEvent{kind: zkNodeChanged, path: event.Path})
		}
		return
	}
	c.mu.Lock()
	kind, report := zkDisconnected, c.session
	switch event.State {
	case zk.StateHasSession:
		kind, report = zkConnected, true
		c.session = true
		c.forgetStatesLocked()
		if len(c.armed) > 0 {
			gate := make(chan struct{})
			c.rearmed, c.rearmedDone = gate, false
			time.AfterFunc(zkRearmWait, func() { c.openGate(gate) })
		}
	case zk.StateExpired:
		kind, report = zkExpired, true
		c.session = false
		clear(c.armed)
		c.openGateLocked()
	case zk.StateDisconnected:
		c.session = false
		c.openGateLocked()
	default:
		report = false
	}
	c.mu.Unlock()
	if report {
		c.onEvent(zkEvent{kind: kind})
	}
}

// openGate lets requests continue if gate is still the current one.
func (c *zkConn) openGate(gate chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rearmed == gate {
		c.openGateLocked()
	}
}

func (c *zkConn) openGateLocked() {
	if !c.rearmedDone {
		c.rearmedDone = true
		close(c.rearmed)
	}
}

// dial is the library's dialer.
func (c *zkConn) dial(network, address string, _ time.Duration) (net.Conn, error) {
	c.cut(nil)
	if wait := zkDialPause - time.Since(c.dialled[address]); wait > 0 {
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return nil, net.ErrClosed
		}
	}
	c.dialled[address] = time.Now()
	dialer := net.Dialer{Timeout: zkDialTimeout}
	conn, err := dialer.DialContext(c.ctx, network, address)
	if err != nil {
		return nil, err
	}
	socket := newZKSocket(conn, c, address)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		conn.Close()
		return nil, net.ErrClosed
	}
	c.socket = socket
	return socket, nil
}

// cut closes the given socket, or the current one if socket is nil. The library then
// fails the requests that it has sent there and connects again.
func (c *zkConn) cut(socket *zkSocket) {
	if socket == nil {
		c.mu.Lock()
		socket = c.socket
		c.mu.Unlock()
	}
	if socket != nil {
		socket.Close()
	}
}
