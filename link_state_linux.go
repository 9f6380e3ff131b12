//go:build linux && !portable_relay

package main

import (
	"errors"
	"fmt"
	"math"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file converts links to their form in runtime.json, linkState, and back.
// Older builds expect the parts of the link in use as members of its session, so
// they are written there.

// errLinkTooEarly means that a state file has a pool connection for a session
// whose miner is not authorized yet.
var errLinkTooEarly = errors.New("it has a connection to a pool before its miner is authorized")

// state describes the link for the next process.
func (l *link) state(m *sessionManager, now uint32) linkState {
	st := linkState{
		FD: -1, Coin: l.pool.coin, Pool: m.otherPool(l.pool), Link: l.tag, Suffixed: l.suffixed,
		Own: l.ownRequests.State(), Rules: l.rules.state(), Noted: !l.restJobs,
		FormerAnswers: int(l.ownRequests.Former), NoDifficulty: l.difficultyDue != nil,
	}
	if l.address != nil {
		st.Address = l.address.text
	}
	st.Jobs, st.Renamed, st.Generations = l.jobs.State()
	st.Work = l.work.State(now)
	if l.open() && !l.socket.Closed() {
		st.FD, st.Partial, st.Unsent = l.socket.FD(), l.socket.Unconsumed(), l.socket.Unsent()
	}
	return st
}

// linkState describes one of the session's links for the next process.
func (s *Session) linkState(l *link) linkState {
	st := l.state(s.manager, s.manager.clock())
	if st.FD >= 0 {
		st.Tunnel = s.loop.endState(l.socket)
	}
	if miners := s.agent.link(l.tag); miners != nil {
		st.AgentMiners = miners.miners.State()
	}
	return st
}

// takeMiners restores the difficulties of an agent's miners on a link. It is a
// no-op on nil.
func (w *agentWorkers) takeMiners(l *link, state []byte) {
	if known := w.link(l.tag); known != nil {
		known.miners = hashrate.NewAgentMiners(state, &l.work)
	}
}

// link restores the link to p that st describes, without its connection. Earlier
// builds do not write the difficulty; it is unknown until the pool sends one.
func (st *linkState) link(p *pool, now uint32) *link {
	work := st.Work.Link(now)
	if st.Work == nil && len(st.Jobs) > 0 {
		work.Job(now)
	}
	l := &link{
		pool: p, tag: st.Link, suffixed: st.Suffixed, ownRequests: st.Own.Requests(), rules: st.Rules.rules(p),
		work: work, difficultySet: !st.NoDifficulty,
		jobs: stratum.NewJobTable(st.Jobs, st.Renamed, st.Generations, work.Latest()), restJobs: !st.Noted,
	}
	l.ownRequests.Former = uint16(min(max(st.FormerAnswers, 0), math.MaxUint16))
	for _, a := range p.addresses {
		if a.text == st.Address {
			l.address = a
		}
	}
	return l
}

// setLink writes the link in use to the members where older builds expect it.
func (ss *sessionState) setLink(st linkState) {
	ss.ServerConnFD, ss.MiningCoin, ss.Pool, ss.PoolAddress = st.FD, st.Coin, st.Pool, st.Address
	ss.Link, ss.Suffixed, ss.Own, ss.Rules = st.Link, st.Suffixed, st.Own, st.Rules
	ss.OwnAnswers, ss.NoDifficulty = st.FormerAnswers, st.NoDifficulty
	ss.Jobs, ss.RenamedJobs, ss.RestJobs = st.Jobs, st.Renamed, !st.Noted
	ss.Work, ss.Generations, ss.AgentMiners = st.Work, st.Generations, st.AgentMiners
	ss.PoolPartial, ss.PoolUnsent, ss.PoolTunnel = st.Partial, st.Unsent, st.Tunnel
}

// linkInUse returns the link in use as setLink or an older build has written it.
// Older builds recorded jobs only while there were former links.
func (ss *sessionState) linkInUse() linkState {
	return linkState{
		FD: ss.ServerConnFD, Coin: ss.MiningCoin, Pool: ss.Pool, Address: ss.PoolAddress,
		Link: ss.Link, Suffixed: ss.Suffixed, Own: ss.Own, Rules: ss.Rules,
		FormerAnswers: ss.OwnAnswers, NoDifficulty: ss.NoDifficulty,
		Jobs: ss.Jobs, Renamed: ss.RenamedJobs, Noted: !ss.RestJobs && (ss.JobsNoted || len(ss.Drains) > 0),
		Partial: ss.PoolPartial, Unsent: ss.PoolUnsent, Tunnel: ss.PoolTunnel, Work: ss.Work, Generations: ss.Generations, AgentMiners: ss.AgentMiners,
	}
}

// restoreLink restores the session's last link, without its connection.
func (s *Session) restoreLink(st linkState) error {
	p := s.manager.formerPool(st.Coin, st.Pool)
	if p == nil && st.FD >= 0 {
		p = s.manager.connectedPool(st.Coin, st.FD)
	}
	if p == nil {
		return fmt.Errorf("nothing is known of its coin %q", st.Coin)
	}
	s.link = st.link(p, s.manager.clock())
	s.link.rules = s.linkRules(p, s.link.suffixed, s.link.rules)
	if s.link.address == nil {
		s.link.address = p.addresses[0]
	}
	s.link.jobSeen = s.manager.clock()
	s.agent.takeMiners(s.link, st.AgentMiners)
	return nil
}

// restoreDrain restores a former link. sock is its connection, or nil if that was
// lost.
func (s *Session) restoreDrain(p *pool, sock *relay.Socket, st *linkState) {
	d := &drain{link: st.link(p, s.manager.clock()), session: s}
	d.rules = s.linkRules(p, d.suffixed, d.rules)
	d.socket = sock
	s.agent.takeMiners(d.link, st.AgentMiners)
	d.timer = s.loop.After(s.manager.drainTime, d.expire)
	s.drains = append(s.drains, d)
	if sock != nil {
		s.manager.draining.Add(1)
	}
}
