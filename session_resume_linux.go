//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file takes over a session of the former process. The session is made from its form
// in runtime.json and the inherited descriptors while its loop is not running, and goes on
// when the loop runs.

// resumeSession makes the session that st describes. On an error all its
// descriptors are closed.
func resumeSession(m *sessionManager, l *sessionLoop, st *sessionState, version int) (*Session, error) {
	s := &Session{
		manager: m, loop: l,
		id: st.SessionID, hasID: st.HasID,
		askedMask: st.VersionMask, sentMask: st.SentMask, rolling: st.Rolling,
		wantsExtranonce: st.Extranonce,
		since:           st.Since,
	}
	s.restoreShares(st)
	fds := st.descriptors()
	s.shape, s.poolExtranonce = st.Shape, st.OwnGiven
	for _, h := range st.Held {
		s.held = append(s.held, heldAnswer{h.Link, h.ID, h.Line})
	}
	phase := phaseRelaying
	err := st.checkShapes()
	if err == nil {
		err = s.takeIdentity(st, version, &phase)
	}
	for _, fd := range fds {
		if err == nil {
			err = takeDescriptor(fd, version)
		}
	}
	if err == nil && s.hasID {
		err = m.ids.take(s.id)
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("session %08x: %w", st.SessionID, err)
	}
	if err := s.takeSockets(st); err != nil {
		if s.hasID {
			m.ids.free(s.id)
		}
		return nil, fmt.Errorf("session %08x: %w", st.SessionID, err)
	}
	s.enter(phase, st)
	return s, nil
}

// checkShapes checks that pools and miners can have the extranonces of a state
// file.
func (ss *sessionState) checkShapes() error {
	shapes := []stratum.GivenExtranonce{{Extranonce1: ss.Shape.Extranonce1, Size: ss.Shape.Size}}
	if ss.OwnGiven != nil {
		shapes = append(shapes, *ss.OwnGiven)
	}
	for _, shape := range shapes {
		if shape.Size < 0 || shape.Size > maxExtranonce2 || len(shape.Extranonce1) > maxExtranonce1 ||
			!stratum.IsHex([]byte(shape.Extranonce1), len(shape.Extranonce1)) {
			return fmt.Errorf("extranonce %q with %d bytes to count in", stratum.Clip([]byte(shape.Extranonce1)), shape.Size)
		}
	}
	return nil
}

const (
	maxExtranonce1 = 64 // hex digits
	maxExtranonce2 = 32 // bytes
)

// takeDescriptor prepares an inherited descriptor for the relay. checkDescriptors
// has accepted it before. Descriptors of older switchers are in blocking mode and
// lack the socket options.
func takeDescriptor(fd, version int) error {
	unix.CloseOnExec(fd)
	if version > 0 {
		return nil // the relay of the former process has prepared it
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	relay.SetSocketOptions(fd)
	return nil
}

// takeIdentity restores the miner's subscription and names, and returns the phase
// in phase.
func (s *Session) takeIdentity(st *sessionState, version int, phase *sessionPhase) error {
	chain := s.manager.chain
	// Files of older switchers have the names as the miners sent them.
	parse := chain.ParseWorker
	if version == 0 {
		s.hasID = true
	} else {
		parse = func(full, _ string) stratum.WorkerName { return stratum.SplitWorker(full) }
		i := slices.Index(phaseNames[:], st.Phase)
		if i < 0 || sessionPhase(i) == phaseClosed {
			return fmt.Errorf("unknown phase %q", st.Phase)
		}
		*phase = sessionPhase(i)
	}
	if r := st.StratumSubscribeRequest; r != nil {
		s.subscription = s.manager.newSubscription((&stratum.Request{Params: r.Params}).ParamList())
		// An agent stays an agent, even if AgentUserAgents has changed.
		s.subscription.ListedAgent = s.subscription.ListedAgent || st.AgentShares != nil
		if version > 0 {
			s.subscription.Protocol = st.Protocol
		} else if chain == stratum.Ethereum && st.StratumAuthorizeRequest != nil &&
			st.StratumAuthorizeRequest.Method == "eth_submitLogin" && stratum.HasPrefixFold(s.subscription.ProtocolText, "ETHProxy") {
			s.subscription = stratum.ETHProxySubscription()
		}
		if s.subscription.IsAgent() {
			s.agent = newAgentWorkers()
			s.agent.restore(st, s.manager.clock())
		}
	}
	if r := st.StratumAuthorizeRequest; r != nil {
		w, err := workerOf(parse, r)
		if err != nil {
			return err
		}
		s.auth = &authorization{&authorizationForm{r.ID, w.method, w.rest}, w.name}
	}
	if *phase != phaseHandshaking && (s.subscription == nil || s.auth == nil) {
		return fmt.Errorf("requests of a session in phase %s are missing", *phase)
	}
	for i := range st.Workers {
		w, err := workerOf(parse, &st.Workers[i])
		if err != nil {
			return err
		}
		s.workers = append(s.workers, w)
	}
	for _, r := range st.Suggestions {
		s.suggestions = append(s.suggestions, suggestion{r.Method, r.Params})
	}
	for _, message := range st.Agent {
		if s.agent == nil || len(message) < stratum.AgentHeader {
			return stratum.ErrAgentMessage
		}
		if err := s.agent.remember(message); err != nil {
			return err
		}
	}
	if *phase >= phaseRelaying {
		if err := s.restoreLink(st.linkInUse()); err != nil {
			return err
		}
		if *phase != phaseReconnecting && st.ServerConnFD < 0 {
			*phase = phaseReconnecting
		}
	}
	return nil
}

func workerOf(parse func(full, worker string) stratum.WorkerName, r *requestState) (*extraWorker, error) {
	params := (&stratum.Request{Params: r.Params}).ParamList()
	if len(params) == 0 {
		return nil, stratum.ErrTooFewParams
	}
	full, ok := stratum.JsonString(params[0])
	if !ok {
		return nil, stratum.ErrWorkerNotString
	}
	w := &extraWorker{method: r.Method, name: parse(full, r.Worker)}
	if r.Sent != "" {
		w.name.Sent = r.Sent
	}
	for _, p := range params[1:] {
		w.rest = append(w.rest, p)
	}
	return w, nil
}

// takeSockets gives the session's descriptors to its loop. On an error all of
// them are closed.
func (s *Session) takeSockets(st *sessionState) error {
	var err error
	if s.addr, err = netip.ParseAddrPort(st.ClientAddr); err != nil {
		// This fails if the miner has gone meanwhile, which the loop will notice.
		s.addr, _ = relay.PeerAddr(st.ClientConnFD)
	}
	left := st.descriptors() // Restore closes those that it cannot take
	take := func(fd int, partial, unsent []byte) (*relay.Socket, error) {
		left = slices.DeleteFunc(left, func(other int) bool { return other == fd })
		return s.loop.Restore(fd, s, partial, unsent)
	}
	fail := func(err error) error {
		if s.miner != nil {
			s.miner.Close()
		}
		for _, fd := range left {
			unix.Close(fd)
		}
		return err
	}
	if s.miner, err = take(st.ClientConnFD, st.MinerPartial, st.MinerUnsent); err != nil {
		return fail(err)
	}
	s.takeEnd(s.miner, st.MinerTunnel, false)
	if st.ServerConnFD >= 0 {
		if s.link == nil {
			return fail(errLinkTooEarly)
		}
		if s.link.socket, err = take(st.ServerConnFD, st.PoolPartial, st.PoolUnsent); err != nil {
			return fail(err)
		}
		s.takeEnd(s.link.socket, st.PoolTunnel, true)
	}
	for _, d := range st.Drains {
		p := s.manager.formerPool(d.Coin, d.Pool)
		if d.FD < 0 && p != nil {
			s.restoreDrain(p, nil, &d)
		}
		if d.FD < 0 {
			continue
		}
		sock, err := take(d.FD, d.Partial, d.Unsent)
		if err != nil {
			continue
		}
		s.takeEnd(sock, d.Tunnel, true)
		if p == nil {
			sock.Close()
			continue
		}
		s.restoreDrain(p, sock, &d)
	}
	return nil
}

// enter puts a resumed session into its phase.
func (s *Session) enter(phase sessionPhase, st *sessionState) {
	s.phase = phase
	s.restoreAsked(st.Workers)
	s.restoreAgain(st.Again)
	if phase <= phaseRouting {
		began := time.Now().Add(-st.Age)
		s.handshake = &handshake{began: began, started: st.Started, proxied: st.Proxied, secured: st.MinerTunnel != nil, badLines: st.BadLines, lines: st.Lines, wantsAnswers: st.WantsAnswers}
		limit := firstByteTimeout
		if st.Started {
			limit = authorizeTimeout
		}
		s.handshake.timer = s.loop.After(time.Until(began.Add(limit)), s.handshakeTimeout)
	}
	switch phase {
	case phaseRouting:
		s.miner.Pause(true)
	case phaseReconnecting:
		s.miner.Pause(true)
		s.failRequests(s.link) // if the link was not handed over
	case phaseSwitching:
		s.phase = phaseRelaying // the switch starts again when the coin is known
	}
	if s.link.open() {
		if st.NoDifficulty {
			s.awaitDifficulty()
		}
		if s.miner.Congested() {
			s.link.socket.Pause(false)
		}
		if s.link.socket.Congested() {
			s.miner.Pause(false)
		}
	}
}

// resumeAccount puts a resumed session into its sub-account, with the last
// known coin, because the coin source may need some time.
func (m *sessionManager) resumeAccount(s *Session, st *runtimeState, ss *sessionState) {
	name := ss.Account
	if name == "" {
		name = s.auth.name.Account
		if m.config.StratumServerCaseInsensitive {
			name = strings.ToLower(name)
		}
	}
	wanted, ok := st.Wanted[name]
	if !ok {
		wanted = s.link.pool.coin
	}
	m.accounts.resume(s, name, wanted, st.Switched[name])
	s.takeEndpoint()
}

// takeEndpoint sets the endpoint of an inherited link. The link has worked until now, so
// it counts as stable.
func (s *Session) takeEndpoint() {
	s.served = true
	if !s.link.open() {
		return
	}
	addr, err := s.loop.peerAddr(s.link.socket)
	if err != nil {
		return // the connection has just ended
	}
	s.link.pool.linksTo(s.link.address).taken.Store(true)
	s.link.endpoint = s.link.address.endpoint(addr)
	s.manager.health.stableResumed(s.account, s.link.endpoint, !s.link.pool.picksExtranonce)
	s.link.endpoint.jobAt.Store(s.manager.health.moment(time.Now()))
}

// begin continues a resumed session on its loop.
func (s *Session) begin() {
	if s.subscription != nil {
		s.subscription = s.loop.shared(s.subscription)
	}
	if s.auth != nil {
		s.auth.authorizationForm = s.loop.sharedForm(s.auth.authorizationForm)
	}
	switch s.phase {
	case phaseRouting:
		s.manager.route(s)
	case phaseRelaying:
		s.manager.lookupEstablished(s)
		if wanted := s.manager.wantedPool(s); wanted != nil {
			s.switchTo(wanted)
		}
	case phaseReconnecting:
		s.manager.lookupEstablished(s)
		if s.linking == nil { // otherwise the pool was lost a moment ago
			s.reconnect()
		}
	}
}

// lookupEstablished asks for the coin of a resumed session, because it may have
// changed during the upgrade. The session keeps relaying.
func (m *sessionManager) lookupEstablished(s *Session) {
	q := &coins.Query{Account: s.account.name, SessionID: s.id, Worker: s.auth.name.String(), Established: true}
	q.Reply = func(account, coin string, err error) {
		if err == nil {
			m.CoinChanged(account, coin)
		}
		s.loop.Post(func() { s.coinConfirmed(q, account, err) })
	}
	s.query = q
	m.coins.Lookup(q)
}

func (s *Session) coinConfirmed(q *coins.Query, account string, err error) {
	switch {
	case err != nil:
		s.manager.limitedLog.Warningf("coin not known after the upgrade", "%s coin not known after the upgrade: %v", s, err)
	case s.query != q:
		s.manager.coins.Release(account)
	default:
		s.interest = true
	}
	if s.query == q {
		s.query = nil
	}
}
