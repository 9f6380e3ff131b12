//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file converts sessions to their form in runtime.json and back. The loop of
// the session must not be running.

// state describes a session for the next process, and adds the session's
// descriptors to fds.
func (s *Session) state(fds *[]int) sessionState {
	shown := s.snapshot(s.manager.clock())
	st := sessionState{
		SessionID:    shown.id,
		ClientAddr:   shown.addr.String(),
		HasID:        shown.hasID,
		ClientConnFD: s.miner.FD(),
		ServerConnFD: -1,
		VersionMask:  s.askedMask,
		SentMask:     s.sentMask,
		Rolling:      s.rolling,
		Phase:        shown.phase.String(),
		Extranonce:   s.wantsExtranonce,
		Shape:        s.shape,
		OwnGiven:     s.poolExtranonce,
		MinerPartial: s.miner.Unconsumed(),
		MinerUnsent:  s.miner.Unsent(),
		MinerTunnel:  s.loop.endState(s.miner),
		JobsNoted:    true,
		Since:        shown.since,
		Account:      shown.account,
		Share:        shown.lastShare,
		Shares:       [3]uint32{shown.shares.Submitted, shown.shares.Accepted, shown.shares.RefusedShares()},
	}
	s.sharesState(&st)
	if h := s.handshake; h != nil {
		st.WantsAnswers = h.wantsAnswers
		st.Age, st.Started, st.BadLines = time.Since(h.began), h.started, h.badLines
		st.Proxied, st.Lines = h.proxied, h.lines
	}
	if s.subscription != nil {
		st.Protocol = s.subscription.Protocol
		st.StratumSubscribeRequest = &requestState{ID: json.RawMessage("null"), Method: "mining.subscribe",
			Params: joinParams([][]byte{stratum.Quote(s.subscription.UserAgent), stratum.Quote(s.subscription.ProtocolText)})}
	}
	if s.auth != nil {
		st.StratumAuthorizeRequest = workerState(s.auth.id, s.auth.method, s.auth.name, s.auth.rest)
	}
	for _, w := range s.workers {
		st.Workers = append(st.Workers, *workerState(w.askedState(), w.method, w.name, w.rest))
	}
	if a := s.askedAgain(); a != nil {
		st.Again = workerState(a.id, a.worker.method, a.worker.name, a.worker.rest)
	}
	for _, suggestion := range s.suggestions {
		st.Suggestions = append(st.Suggestions, requestState{ID: json.RawMessage("null"), Method: suggestion.method, Params: suggestion.params})
	}
	if s.agent != nil {
		st.Agent = slices.Collect(maps.Values(s.agent.messages))
		st.AgentShares, st.Owed = s.agent.sharesState(s.link)
	}
	for _, h := range s.held {
		st.Held = append(st.Held, heldState{Link: h.tag, ID: h.id, Line: h.line})
	}
	if s.link != nil {
		st.setLink(s.linkState(s.link))
	}
	for _, d := range s.drains {
		st.Drains = append(st.Drains, s.linkState(d.link))
	}
	*fds = append(*fds, st.descriptors()...)
	return st
}

func joinParams(params [][]byte) json.RawMessage {
	b := []byte{'['}
	for i, p := range params {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, p...)
	}
	return append(b, ']')
}

func workerState(id json.RawMessage, method string, name stratum.WorkerName, rest [][]byte) *requestState {
	params := append([][]byte{stratum.Quote(name.String())}, rest...)
	return &requestState{ID: stratum.OrNull(id), Method: method, Params: joinParams(params), Sent: name.Sent}
}

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

// sharesState writes the counts of the miner's shares to st.
func (s *Session) sharesState(st *sessionState) {
	miner := s.shares.State(s.manager.clock())
	st.Miner = &miner
	st.Requests, st.ShareWork = s.requests.State()
}

// restoreShares restores what sharesState has written. Files of earlier builds do
// not have the work; it is counted from now on, and earlier shares have an unknown
// difficulty.
func (s *Session) restoreShares(st *sessionState) {
	now := s.manager.clock()
	if st.Miner != nil {
		s.shares = st.Miner.Miner(now)
	} else {
		past := hashrate.MinerState{Counts: [3]uint32{st.Shares[0], st.Shares[1], 0}}
		past.Refused[hashrate.RefusalOther] = st.Shares[2]
		if at := time.Now().Unix(); st.Share > 0 && st.Share <= at {
			past.Last = uint32(min(at-st.Share, math.MaxUint32))
		}
		s.shares = past.Miner(now)
	}
	s.requests = stratum.NewRequestQueue(st.Requests, st.ShareWork)
}

// sharesState returns what the next process has to know about an agent's shares.
// owed is how many shares the link in use has to answer, which is all that older
// builds know.
func (w *agentWorkers) sharesState(inUse *link) (st *agentSharesState, owed int) {
	st = &agentSharesState{Registered: w.registered, WantsAnswers: w.wantsAnswers, Next: w.next, LastJob: w.lastJob, Held: w.unrouted.held}
	for _, l := range w.links {
		st.Links = append(st.Links, agentLinkState{l.tag, l.answers, l.proved, l.next, l.waiting, l.held})
		if inUse != nil && l.tag == inUse.tag {
			owed = len(l.waiting)
		}
	}
	return st, owed
}

// restore restores what the former process knew about an agent's shares. Older
// builds write nothing about them, because they had promised agents no
// answers.
func (w *agentWorkers) restore(st *sessionState, now uint32) {
	shares := st.AgentShares
	if shares == nil {
		w.next = st.Shares[0]
		return
	}
	w.registered, w.wantsAnswers, w.next, w.lastJob = shares.Registered, shares.WantsAnswers, shares.Next, shares.LastJob
	w.unrouted.held = shares.Held
	w.holding = len(shares.Held)
	for _, l := range shares.Links {
		if len(l.Waiting) > maxAgentShares {
			l.Waiting = l.Waiting[len(l.Waiting)-maxAgentShares:]
		}
		link := &agentLink{tag: l.Link, answers: l.Answers, proved: l.Proved, next: l.Next, since: now, waiting: l.Waiting, held: l.Held}
		link.trim()
		w.holding += len(link.held)
		w.links = append(w.links, link)
	}
}
