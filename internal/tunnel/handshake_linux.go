package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/epoll"
)

// maxHandshakeTime bounds the time that the daemon may allow for a handshake.
const maxHandshakeTime = time.Minute

// handshake is the state that a connection needs only until it is secured.
type handshake struct {
	conn     *conn
	ready    chan struct{} // receives a value after an event on either side
	timer    *time.Timer
	deadline time.Time
	server   bool         // whether the peer is a miner
	address  string       // the miner's address; handshakes with miners only
	aborted  atomic.Int32 // the reason given to abort plus 1, or 0
}

func (h *handshake) wake() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// abort makes the handshake end soon, for this reason. Any goroutine may call it.
func (h *handshake) abort(why Reason) {
	h.aborted.CompareAndSwap(0, int32(why)+1)
	h.wake()
}

// abortReason returns the reason given to abort, and whether abort was called.
func (h *handshake) abortReason() (Reason, bool) {
	v := h.aborted.Load()
	return Reason(v - 1), v != 0
}

// open accepts a connection from the daemon and starts its handshake. Only the control
// goroutine may call it.
func (s *server) open(m *message, fds []int) {
	c := &conn{server: s, id: m.id, tcp: int32(fds[0]), pair: int32(fds[1]), early: m.early}
	wait := m.deadline
	if wait <= 0 || wait > maxHandshakeTime {
		wait = maxHandshakeTime
	}
	h := &handshake{conn: c, ready: make(chan struct{}, 1), deadline: time.Now().Add(wait)}
	c.half = h
	config := s.config
	reason, err := Internal, error(nil)
	if m.kind == kindClient {
		config, err = s.configFor(m)
	}
	if err == nil {
		reason, err = s.admit(c, m)
	}
	if err != nil {
		s.failed[reason].Add(1)
		s.sendToDaemon(&message{kind: kindEnded, id: m.id, reason: reason, text: plainText(err.Error())})
		closeAll(fds)
		return
	}
	if m.kind == kindServer {
		c.secured = tls.Server((*wire)(c), config)
	} else {
		c.secured = tls.Client((*wire)(c), config)
	}
	c.loop = s.loops[s.next%len(s.loops)]
	s.next++
	c.loop.post(func() {
		if err := c.loop.add(c); err != nil {
			h.abort(Internal)
		}
		h.timer = time.AfterFunc(wait, func() { h.abort(Timeout) })
		select {
		case s.idle <- h:
		default:
			go s.shakeHands(h)
		}
	})
}

// admit counts a connection and its handshake. It returns an error if there are too many
// of them already.
func (s *server) admit(c *conn, m *message) (Reason, error) {
	h := c.half
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conns[m.id] != nil:
		return Internal, errors.New("the connection's number is in use")
	case s.retired:
		return Busy, errors.New("the tunnel process takes no new connections")
	}
	if m.kind == kindClient {
		s.conns[m.id] = c
		s.clients++
		return 0, nil
	}
	if s.handshaking >= maxHandshakes {
		return Busy, errors.New("too many handshakes wait")
	}
	if s.byAddress[m.address] >= maxAddressHandshakes {
		return Busy, errors.New("too many handshakes of this address wait")
	}
	s.conns[m.id] = c
	s.handshaking++
	h.server, h.address = true, m.address
	s.byAddress[h.address]++
	return 0, nil
}

// leave removes a handshake from the counts of admit.
func (s *server) leave(h *handshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.server {
		s.clients--
		return
	}
	s.handshaking--
	if s.byAddress[h.address]--; s.byAddress[h.address] == 0 {
		delete(s.byAddress, h.address)
	}
}

func (s *server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c.id)
	s.mu.Unlock()
}

// maxIdle bounds the goroutines that wait for the next handshake. They are kept
// because their stacks have already grown.
const maxIdle = 4

// shakeHands is a goroutine that runs one handshake after another.
func (s *server) shakeHands(h *handshake) {
	for {
		h.run()
		if s.waiting.Add(1) > maxIdle {
			s.waiting.Add(-1)
			return
		}
		h = <-s.idle
		s.waiting.Add(-1)
	}
}

// crowd is how many handshakes have to wait for a token before takeToken calls
// epoll.KeepWatch.
const crowd = 16

// takeToken waits for one of the tokens that a handshake needs in order to compute.
func (s *server) takeToken() {
	select {
	case s.compute <- struct{}{}:
		return
	default:
	}
	if s.queueing.Add(1) == crowd {
		epoll.KeepWatch()
	}
	s.compute <- struct{}{}
	s.queueing.Add(-1)
}

// run performs one handshake. It holds a token while it computes, so that a storm of
// handshakes leaves a processor to the established connections. It holds none while it
// waits for the peer, so that silent peers do not delay other handshakes.
func (h *handshake) run() {
	s := h.conn.server
	s.takeToken()
	err := h.shake()
	<-s.compute
	h.timer.Stop()
	h.conn.loop.post(func() { h.conn.shaken(err) })
}

func (h *handshake) shake() (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			fmt.Fprintf(os.Stderr, "tunnel: handshake: %v\n%s", fault, debug.Stack())
			err = errors.New("internal fault")
		}
	}()
	return h.conn.secured.Handshake()
}

// pause gives the token back, waits for an event, and takes a token again. It returns an
// error if the handshake was aborted.
func (h *handshake) pause() error {
	s := h.conn.server
	<-s.compute
	<-h.ready
	s.takeToken()
	if why, ok := h.abortReason(); ok {
		if why == Timeout {
			return os.ErrDeadlineExceeded
		}
		return errors.New(why.String())
	}
	return nil
}

func (h *handshake) read(b []byte) (int, error) {
	for {
		n, errno := receive(h.conn.tcp, b)
		switch {
		case errno == unix.EAGAIN:
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
		if err := h.pause(); err != nil {
			return 0, err
		}
	}
}

func (h *handshake) write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		n, errno := send(h.conn.tcp, b[sent:])
		sent += n
		if errno == unix.EAGAIN {
			if err := h.pause(); err != nil {
				return sent, err
			}
		} else if errno != 0 {
			return sent, errno
		}
	}
	return sent, nil
}

// shaken is called on the loop when the handshake has succeeded or failed.
func (c *conn) shaken(err error) {
	h := c.half
	s := c.server
	s.leave(h)
	c.half = nil
	if why, ok := h.abortReason(); ok && err == nil {
		err = errors.New(why.String())
	}
	if err != nil {
		reason := reasonOf(err)
		if why, ok := h.abortReason(); ok {
			reason = why
		}
		s.failed[reason].Add(1)
		shutdownWrite(c.tcp)
		// If bytes were left unread, the kernel would reset the connection at the
		// close, and the peer would not see the alert.
		for range 4 {
			if n, errno := receive(c.tcp, c.loop.buf); n <= 0 || errno != 0 {
				break
			}
		}
		text := plainText(err.Error())
		var errno syscall.Errno
		if reason == Closed && !errors.As(err, &errno) {
			text = "closed during the handshake"
		}
		c.release(&message{kind: kindEnded, id: c.id, reason: reason, text: text})
		return
	}
	s.handshakes.Add(1)
	state := c.secured.ConnectionState()
	ready := &message{kind: kindReady, id: c.id, version: state.Version, suite: state.CipherSuite, resumed: state.DidResume}
	if len(state.PeerCertificates) > 0 {
		ready.notAfter = state.PeerCertificates[0].NotAfter.Unix()
	}
	s.sendToDaemon(ready)
	c.peerBytes, c.records, c.pairBytes = true, true, true
	c.pump()
}

// configFor returns the configuration for a pool. Connections to the same pool share
// one. Only the control goroutine may call it.
func (s *server) configFor(m *message) (*tls.Config, error) {
	var authorities *x509.CertPool
	if m.trust == (digest{}) && len(m.pins) == 0 && !m.noVerify {
		authorities = s.roots.Load()
		if !s.follows {
			s.follows = true
			go s.followRoots()
		}
	}
	key := fmt.Sprintf("%s %x %x %v %p", m.serverName, m.trust, m.pins, m.noVerify, authorities)
	if config := s.configs[key]; config != nil {
		return config, nil
	}
	if m.trust != (digest{}) && len(m.pins) == 0 && !m.noVerify {
		if authorities = s.trusts[m.trust]; authorities == nil {
			return nil, errors.New("the certificates to trust are missing")
		}
	}
	config, err := clientConfig(m.serverName, authorities, m.pins, m.noVerify)
	if err != nil {
		return nil, err
	}
	config.DynamicRecordSizingDisabled = true
	if len(s.configs) >= maxClientConfigs {
		clear(s.configs)
	}
	s.configs[key] = config
	return config, nil
}
