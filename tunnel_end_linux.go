//go:build linux && !portable_relay

package main

import (
	"errors"
	"net/netip"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hostaddr"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// tunnelEnd is a session's end of a connection that a tunnel process holds. Its socket
// is a carried one (relay.Socket.SetCarried). It belongs to the session's loop. The
// tunnel's calls are posted there, and may come before or after the socket's own
// events.
//
// It stays in the loop's ends until neither the tunnel nor the socket needs it.
type tunnelEnd struct {
	tunnels *tunnels
	session *Session
	socket  *relay.Socket
	conn    *tunnel.Conn
	peer    netip.AddrPort // the other end of the TCP connection
	pool    bool           // whether the peer is a pool rather than the miner
	version uint16         // of TLS; 0 until the handshake is done

	ending *tunnel.Ending // set when the tunnel has reported the end
	lost   error          // why the socket has ended; set while the tunnel's reason is awaited
	wait   *relay.Timer   // bounds that wait
	reset  relay.Handle   // of a socket that was reset, to be closed when the tunnel has reset the connection; 0 if there is none
}

// endingWait is how long a lost link waits for the tunnel's reason. The reason
// usually comes at once. It comes late if the pool has ended the link but does not
// receive the bytes that are still to be sent to it.
const endingWait = time.Second

// securedGrace is how much longer than the tunnel the session waits for a TLS
// handshake.
const securedGrace = 2 * time.Second

// errEarlyBytes reports that the miner has sent more bytes than a ClientHello can have.
// Nothing else comes before the answer to it, because the tunnel accepts no 0-RTT data
// (RFC 8446, section 2.3).
var errEarlyBytes = errors.New("not a TLS ClientHello: too long")

// carryEnds prepares the loop for carried sockets.
func (l *sessionLoop) carryEnds() { l.ResetCarried = l.resetCarried }

// resetCarried asks the tunnel to reset the peer's connection, and closes h after
// that.
func (l *sessionLoop) resetCarried(sock *relay.Socket, h relay.Handle) {
	e := l.ends[sock]
	if e == nil || e.ending != nil {
		h.Close()
		return
	}
	e.reset = h
	e.conn.Reset()
}

// tlsVersion returns the version of TLS that a socket's peer uses. It is 0 without
// TLS, and until the handshake is done.
func (l *sessionLoop) tlsVersion(sock *relay.Socket) uint16 {
	if sock == nil || !sock.Carried() || l.ends[sock] == nil {
		return 0
	}
	return l.ends[sock].version
}

// peerAddr returns the remote address of the TCP connection that a socket is or
// stands for.
func (l *sessionLoop) peerAddr(sock *relay.Socket) (netip.AddrPort, error) {
	if !sock.Carried() {
		return relay.PeerAddr(sock.FD())
	}
	if e := l.ends[sock]; e != nil && e.peer.IsValid() {
		return e.peer, nil
	}
	return netip.AddrPort{}, errNoPeer
}

var errNoPeer = errors.New("the peer's address is not known")

// opener hands a TCP connection to the tunnel, which owns it unless there is an
// error, and returns the session's end of the pair.
type opener func(fd int, owner tunnel.Owner) (int, *tunnel.Conn, error)

// newEnd hands the connection of sock to the tunnel. It closes sock in any case, and
// the socket of the new end takes its place.
func (s *Session) newEnd(sock *relay.Socket, pool bool, open opener) (*tunnelEnd, error) {
	e := &tunnelEnd{tunnels: s.manager.tunnels, session: s, pool: pool}
	e.peer, _ = relay.PeerAddr(sock.FD())
	h, err := sock.Detach()
	if err != nil {
		return nil, err
	}
	fd, conn, err := open(int(h), e)
	if err != nil {
		h.Close()
		return nil, err
	}
	e.conn = conn
	if e.socket, err = s.loop.Adopt(relay.Handle(fd), s); err != nil {
		conn.Reset() // its end is closed already
		e.socket = sock
		return nil, err
	}
	s.loop.keepEnd(e)
	return e, nil
}

// keepEnd adds e to the loop's ends.
func (l *sessionLoop) keepEnd(e *tunnelEnd) {
	e.socket.SetCarried()
	if l.ends == nil {
		l.ends = make(map[*relay.Socket]*tunnelEnd)
	}
	l.ends[e.socket] = e
}

// secure begins TLS with the miner. early has the bytes received so far, which are the
// beginning of its ClientHello.
func (s *Session) secure(early []byte) {
	h := s.handshake
	if len(early) > tunnel.MaxEarly {
		s.handshakeFailed(failNotStratum)
		s.close(errEarlyBytes.Error())
		return
	}
	timeout := s.manager.timing.firstByte
	e, err := s.newEnd(s.miner, false, func(fd int, owner tunnel.Owner) (int, *tunnel.Conn, error) {
		return s.manager.tunnels.use().Server(tunnel.ServerRequest{
			FD: fd, Address: hostaddr.Key(s.addr.Addr()).String(), Early: early, Timeout: timeout,
		}, owner)
	})
	if err != nil {
		s.handshakeFailed(failTLS)
		s.manager.limitedLog.Errorf("TLS", "%s TLS: %v", s, err)
		s.close(err.Error())
		return
	}
	s.miner = e.socket
	h.secured = true
	s.restartHandshake(timeout + securedGrace)
}

// restartHandshake gives the miner a new time limit for the next step of its
// handshake.
func (s *Session) restartHandshake(limit time.Duration) {
	h := s.handshake
	s.loop.StopTimer(h.timer)
	h.began = time.Now()
	h.timer = s.loop.After(limit, s.handshakeTimeout)
}

// secure begins TLS on one of the established TCP connections. The dial goes on until
// the TLS handshake is done.
func (d *poolDial) secure(i int) error {
	k, t := d.link, &d.tries[i]
	s := k.session
	e, err := s.newEnd(t.socket, true, func(fd int, owner tunnel.Owner) (int, *tunnel.Conn, error) {
		r, err := k.address.tls.request(fd, t.attempt.at.String(), s.manager.timing.poolHandshake)
		if err != nil {
			return -1, nil, err
		}
		return s.manager.tunnels.use().Client(r, owner)
	})
	if err != nil {
		return err
	}
	e.socket.Pause(false) // the link will read what the pool sends
	t.socket = e.socket
	return nil
}

// TunnelReady implements tunnel.Owner.
func (e *tunnelEnd) TunnelReady(_ *tunnel.Conn, secured tunnel.Secured) {
	e.session.loop.Post(func() { e.ready(secured) })
}

// TunnelEnded implements tunnel.Owner.
func (e *tunnelEnd) TunnelEnded(_ *tunnel.Conn, ending tunnel.Ending) {
	e.session.loop.Post(func() { e.ended(ending) })
}

func (e *tunnelEnd) ready(secured tunnel.Secured) {
	s := e.session
	e.counts().done.Add(1)
	e.version = secured.Version
	switch {
	case e.reset != 0:
		e.conn.Reset() // the reset was requested while the connection waited for a tunnel process
	case e.socket.Closed():
	case e.pool:
		if k := s.preparing(); k != nil && k.dial != nil && k.dial.owns(e.socket) {
			k.dial.connected(e.socket, nil)
			e.socket.Resume()
		}
	case s.phase == phaseHandshaking && !s.handshake.started:
		s.restartHandshake(s.manager.timing.firstByte)
	}
}

func (e *tunnelEnd) ended(ending tunnel.Ending) {
	s := e.session
	e.ending = &ending
	e.countFailure()
	if e.reset != 0 {
		e.reset.Close()
		e.reset = 0
	}
	s.loop.StopTimer(e.wait)
	switch k := s.preparing(); {
	case e.lost != nil:
		e.finish()
	case k != nil && k.dial != nil && k.dial.owns(e.socket):
		e.socket.Close()
		e.finish()
	case e.socket.Closed():
		delete(s.loop.ends, e.socket)
	default:
		// The socket may still hold bytes that came before the end. They are handled
		// first.
		s.loop.Post(func() {
			if e.socket.Closed() {
				delete(s.loop.ends, e.socket)
				return
			}
			e.socket.Close()
			e.finish()
		})
	}
}

// countFailure counts the ending if it is a failed handshake, and logs the reason if the
// handshake was with the miner.
func (e *tunnelEnd) countFailure() {
	s := e.session
	if e.ending.Ready || e.ending.Reason == tunnel.ResetByDaemon {
		return
	}
	e.counts().fail(e.ending.Reason)
	if !e.pool {
		s.handshakeFailed(failTLS)
		e.logFailure()
	}
}

// logFailure logs why a miner's handshake failed: each time at -v 2, otherwise once a
// minute for each reason. Reasons that port scans and leaving miners cause are not
// logged as warnings. The end of a tunnel process is logged elsewhere.
func (e *tunnelEnd) logFailure() {
	s, why := e.session, min(e.ending.Reason, tunnel.Internal)
	if glog.V(2) {
		glog.Infof("%s %v", s, &tunnelError{*e.ending})
		return
	}
	kind := "TLS handshake failed: " + why.String()
	switch why {
	case tunnel.Died:
	case tunnel.Closed, tunnel.Reset, tunnel.Timeout, tunnel.NotTLS, tunnel.Malformed:
		e.tunnels.failures.Infof(kind, "miner=%s: %s", s.addr, e.ending.Text)
	default:
		e.tunnels.failures.Warningf(kind, "miner=%s: %s", s.addr, e.ending.Text)
	}
}

func (e *tunnelEnd) counts() *handshakeCounts {
	if e.pool {
		return &e.tunnels.pools
	}
	return &e.tunnels.miners
}

// finish reports to the session that a connection has ended, with the tunnel's
// reason.
func (e *tunnelEnd) finish() {
	s := e.session
	delete(s.loop.ends, e.socket)
	err := &tunnelError{*e.ending}
	if k := s.preparing(); k != nil && k.dial != nil && k.dial.owns(e.socket) {
		k.dial.connected(e.socket, err)
		return
	}
	s.connectionEnded(e.socket, err)
}

// endingAwaited is called at the end of a socket. It returns true if the session is told
// of that end by finish, when the tunnel has given the reason, because the end of a
// tunnel process must not be held against the pool. It returns false for the miner's
// socket and for one without TLS.
func (s *Session) endingAwaited(sock *relay.Socket, err error) bool {
	e := s.loop.ends[sock]
	switch {
	case e == nil || sock == s.miner:
		return false
	case e.ending != nil:
		e.finish()
		return true
	}
	e.lost = err
	e.wait = s.loop.After(endingWait, func() {
		e.lost, e.wait = nil, nil
		s.connectionEnded(sock, err)
	})
	return true
}
