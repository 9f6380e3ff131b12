package main

import (
	"fmt"
	"net/netip"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// sessionPhase says what a session is doing. See docs/architecture.md.
type sessionPhase uint8

const (
	// phaseHandshaking means that the miner has not named its sub-account yet.
	phaseHandshaking sessionPhase = iota
	// phaseRouting means that the session asks for its coin and then prepares its
	// first pool link.
	phaseRouting
	// phaseRelaying means that lines pass between miner and pool.
	phaseRelaying
	// phaseSwitching is like phaseRelaying, but a link to another pool is also being
	// prepared.
	phaseSwitching
	// phaseReconnecting means that the pool was lost and a new link is being
	// prepared. The miner is not read meanwhile.
	phaseReconnecting
	// phaseClosed means that everything was released.
	phaseClosed
)

var phaseNames = [...]string{"handshaking", "routing", "relaying", "switching", "reconnecting", "closed"}

func (p sessionPhase) String() string { return phaseNames[p] }

// Session is one miner's connection and everything that belongs to it. It lives on
// one loop, and all its methods are called on that loop's goroutine, except where
// noted. It owns its sockets, timers, dial ticket and session ID, and close releases
// them all.
type Session struct {
	manager *sessionManager
	loop    *sessionLoop

	miner *relay.Socket
	addr  netip.AddrPort // of the miner, possibly as a trusted proxy has reported it
	since int64          // when the miner connected, by steadyUnix; 0: not known

	// The small fields are kept together, which saves 32 bytes of padding.

	slot        int32 // index in manager.sessions; guarded by manager.mu
	loopSlot    int32 // index in loop.sessions
	accountSlot int32 // index in account.sessions; guarded by the book's mu

	id        uint32 // session ID, which is the miner's extranonce; valid if hasID
	renewedAt uint32 // start of the minute that renewals counts, by the manager's clock

	// askedMask is the version mask (BIP 310) that the miner asked for, 0 without
	// version rolling. sentMask is the last mask that the miner was sent.
	askedMask uint32
	sentMask  uint32

	phase     sessionPhase
	admission admission
	hasID     bool
	interest  bool // the coin source reports changes of the account's coin until Release
	// configureAhead means that lookAhead has seen a mining.configure that still
	// waits to be read.
	configureAhead bool
	// wantsExtranonce means that the miner accepts mining.set_extranonce.
	wantsExtranonce bool
	rolling         stratum.Rolling // whether the miner uses version rolling, or has lost it
	unstable        uint8           // links in a row that ended before they were stable
	served          bool            // the session has had a stable link
	renewals        uint8           // how many requests of the pool to renew the link were followed since renewedAt

	handshake    *handshake // nil once relaying
	subscription *stratum.Subscription
	auth         *authorization
	account      *subAccount
	query        *coins.Query

	// agent is set for BTCAgents; workers are all workers but the first.
	agent   *agentWorkers
	workers []*extraWorker
	// workerIndex is nil while workers is empty.
	workerIndex *workerIndex

	shape          stratum.Shape            // the extranonce and its sizes that the miner was given
	poolExtranonce *stratum.GivenExtranonce // the extranonce that the miner was given in place of shape's, or nil

	// suggestions are the miner's mining.suggest_* requests, which each pool gets.
	suggestions []suggestion

	// link is the link in use. If that was lost, it is the last one; before the
	// first one it is nil. drains are former links that may owe answers, the oldest
	// first.
	link    *link
	linking *linking // the next link while it is prepared, otherwise nil
	drains  []*drain

	shares   hashrate.Miner
	requests stratum.RequestQueue // not answered yet
	held     []heldAnswer
}

// suggestion is a request that each pool gets at the handshake.
type suggestion struct {
	method string
	params []byte // JSON array
}

// newSession takes over an accepted connection.
func newSession(m *sessionManager, l *sessionLoop, h relay.Handle, addr netip.AddrPort) (*Session, error) {
	s := &Session{manager: m, loop: l, addr: addr, since: m.steadyUnix()}
	miner, err := l.Adopt(h, s)
	if err != nil {
		return nil, err
	}
	s.miner = miner
	s.shares = hashrate.NewMiner(s.now())
	s.beginHandshake()
	return s, nil
}

// String names the session in log lines: ID, address and worker.
func (s *Session) String() string {
	id := "--------"
	if s.hasID {
		id = fmt.Sprintf("%08x", s.id)
	}
	worker := "-"
	if s.auth != nil {
		worker = s.auth.name.String()
	}
	return fmt.Sprintf("session=%s miner=%s worker=%s", id, s.addr, worker)
}

// close ends the session and releases everything that it holds. It may be called in
// any phase, and more than once.
func (s *Session) close(why string) {
	if s.phase == phaseClosed {
		return
	}
	glog.V(2).Infof("%s closed phase=%s: %s", s, s.phase, why)
	s.phase = phaseClosed
	s.recordGone(why)
	s.endHandshake()
	if s.query != nil {
		s.manager.coins.Cancel(s.query)
		s.query = nil
	}
	s.stopLinking()
	s.miner.Close()
	s.endDrains()
	s.stopAwaitingDifficulty()
	s.leaveEndpoint(false)
	if s.link.open() {
		s.link.disconnect(s.mayOwe(s.link))
	}
	s.manager.remove(s)
}

// refuse answers the miner's authorization with an error and closes the
// connection, so that the miner's own failover can act.
func (s *Session) refuse(e *stratum.Error, why string) {
	s.manager.monitor.refused(s.auth.name.Account, handshakeFailureOf(e), why)
	s.recordRefused(handshakeFailureOf(e), why)
	glog.V(2).Infof("%s refused code=%d: %s", s, e.Code, why)
	s.miner.Write(s.dialect().AppendError(nil, s.auth.id, e, s.manager.ids.server()))
	s.close(e.Text)
}

// dialect returns the form of the answers to this miner.
func (s *Session) dialect() stratum.Dialect {
	if s.subscription != nil && s.subscription.Protocol == stratum.ProtocolETHProxy {
		return stratum.DialectRPC2
	}
	return stratum.DialectStratum
}

// SocketConnected implements relay.Owner.
func (s *Session) SocketConnected(sock *relay.Socket, err error) {
	if k := s.preparing(); k != nil && k.dial != nil && k.dial.owns(sock) {
		k.dial.connected(sock, err)
	}
}

// SocketReceived implements relay.Owner.
func (s *Session) SocketReceived(sock *relay.Socket, b []byte) int {
	switch {
	case sock == s.miner:
		used := 0
		if s.phase == phaseHandshaking {
			used = s.handshakeReceived(b)
		} else {
			used = s.minerReceived(b)
		}
		s.loop.fromMiners += uint64(used)
		return used
	case s.link.leads(sock):
		used := s.poolReceived(b)
		s.loop.fromPools += uint64(used)
		s.recordReceived()
		return used
	}
	if d := s.drainOf(sock); d != nil {
		return d.received(b)
	}
	if k := s.preparing(); k != nil && k.socket == sock {
		used := k.received(b)
		if s.link.leads(sock) && s.phase != phaseClosed {
			used += s.poolReceived(b[used:]) // the socket has just become the link's
		}
		return used
	}
	return len(b)
}

// SocketDrained implements relay.Owner. What was sent to sock has left, so the other
// side may be read again.
func (s *Session) SocketDrained(sock *relay.Socket) {
	switch {
	case sock == s.miner:
		if s.link.open() {
			s.link.socket.Resume()
		}
		for _, d := range s.drains {
			if d.socket != nil {
				d.socket.Resume()
			}
		}
		if s.mayRead() {
			s.miner.Resume()
		}
	case s.mayRead():
		s.miner.Resume()
	}
}

// mayRead reports whether the miner is read in this phase. It may be paused even
// then, because the miner or the pool does not read what was sent.
func (s *Session) mayRead() bool {
	switch s.phase {
	case phaseHandshaking:
		return !s.handshake.held
	case phaseRelaying, phaseSwitching:
		return s.link.open() && !s.link.socket.Congested()
	}
	return false
}

// SocketClosed implements relay.Owner.
func (s *Session) SocketClosed(sock *relay.Socket, err error) {
	if !sock.Carried() || !s.endingAwaited(sock, err) {
		s.connectionEnded(sock, err)
	}
}

// connectionEnded deals with the end of one of the session's connections.
func (s *Session) connectionEnded(sock *relay.Socket, err error) {
	switch {
	case sock == s.miner:
		s.close(err.Error())
	case s.link.leads(sock):
		s.poolLost(err)
	default:
		if k := s.preparing(); k != nil && k.socket == sock {
			k.fail(k.lostBy(err))
		} else if d := s.drainOf(sock); d != nil {
			d.lose()
		}
	}
}

// preparing returns the link that is being prepared, or nil.
func (s *Session) preparing() *poolLink {
	if s.linking == nil {
		return nil
	}
	return s.linking.link
}
