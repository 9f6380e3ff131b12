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

// tunnelEnd is a session's end of a connection that a tunnel process holds: a
// carried socket. It belongs to the session's loop. The tunnel's calls are posted
// there, and may come before or after what the socket itself tells.
//
// It is in the loop's ends until both the tunnel and the socket are done with it.
type tunnelEnd struct {
	tunnels *tunnels
	session *Session
	socket  *relay.Socket
	conn    *tunnel.Conn
	peer    netip.AddrPort // the other end of the TCP connection
	pool    bool           // it leads to a pool, not to the miner
	version uint16         // of TLS; 0: the handshake is not done

	ending *tunnel.Ending // the tunnel has told the end
	lost   error          // the socket has told the end, and the tunnel's reason is waited for
	wait   *relay.Timer   // bounds that
	left   relay.Handle   // of a socket that was reset: closed once the tunnel has done so; 0: none
}

// endingWait is how long a lost link waits for the tunnel's reason. It comes at
// once, except if the pool has ended the link but does not take what is left for it.
const endingWait = time.Second

// securedGrace is how much later than the tunnel the session gives a TLS
// handshake up.
const securedGrace = 2 * time.Second

// errEarlyBytes: nothing but a ClientHello can come before the answer to it.
var errEarlyBytes = errors.New("not a TLS ClientHello: too long")

// carryEnds prepares the loop for carried sockets.
func (l *sessionLoop) carryEnds() { l.ResetCarried = l.resetCarried }

// resetCarried has the peer's connection reset, and closes h after that.
func (l *sessionLoop) resetCarried(sock *relay.Socket, h relay.Handle) {
	e := l.ends[sock]
	if e == nil || e.ending != nil {
		h.Close()
		return
	}
	e.left = h
	e.conn.Reset()
}

// tlsVersion is the version of TLS that is spoken with a socket's peer; 0 if none
// is, or none yet.
func (l *sessionLoop) tlsVersion(sock *relay.Socket) uint16 {
	if sock == nil || !sock.Carried() || l.ends[sock] == nil {
		return 0
	}
	return l.ends[sock].version
}

// peerAddr is the other end of the TCP connection that a socket is or stands for.
func (l *sessionLoop) peerAddr(sock *relay.Socket) (netip.AddrPort, error) {
	if !sock.Carried() {
		return relay.PeerAddr(sock.FD())
	}
	if e := l.ends[sock]; e != nil && e.peer.IsValid() {
		return e.peer, nil
	}
	return netip.AddrPort{}, errNoPeer
}

var errNoPeer = errors.New("nothing is known of the peer")

// opener hands a TCP connection to the tunnel, which owns it unless there is an
// error, and returns the session's end of the pair.
type opener func(fd int, owner tunnel.Owner) (int, *tunnel.Conn, error)

// newEnd hands the connection of sock to the tunnel. The socket is closed in any
// case; the end's takes its place.
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

// keepEnd notes whose end a socket is.
func (l *sessionLoop) keepEnd(e *tunnelEnd) {
	e.socket.SetCarried()
	if l.ends == nil {
		l.ends = make(map[*relay.Socket]*tunnelEnd)
	}
	l.ends[e.socket] = e
}

// secure begins TLS with the miner. early is what it has sent so far.
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

// restartHandshake gives the miner time for the next step of its handshake.
func (s *Session) restartHandshake(limit time.Duration) {
	h := s.handshake
	s.loop.StopTimer(h.timer)
	h.began = time.Now()
	h.timer = s.loop.After(limit, s.handshakeTimeout)
}

// secure begins TLS on one of the connections that were made. It is a try still
// under way until that is done.
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
	e.socket.Pause(false) // what the pool says is for the link, once there is one
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
	case e.left != 0:
		e.conn.Reset() // it waited for a tunnel process when that was wanted
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
	e.noteEnding()
	if e.left != 0 {
		e.left.Close()
		e.left = 0
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
		// What came before the end is still in the socket: its turn comes first.
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

// noteEnding counts a handshake that failed and says why.
func (e *tunnelEnd) noteEnding() {
	s := e.session
	if e.ending.Ready || e.ending.Reason == tunnel.ResetByDaemon {
		return
	}
	e.counts().fail(e.ending.Reason)
	if !e.pool {
		s.handshakeFailed(failTLS)
		if glog.V(2) {
			glog.Infof("%s %v", s, &tunnelError{*e.ending})
		}
	}
}

func (e *tunnelEnd) counts() *handshakeCounts {
	if e.pool {
		return &e.tunnels.pools
	}
	return &e.tunnels.miners
}

// finish tells the session that a connection has ended, with the tunnel's reason.
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

// endingAwaited reports whether the end of a carried socket is to be told later,
// when the tunnel has said why: a tunnel process that died is no fault of the pool.
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
