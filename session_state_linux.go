//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file writes sessions in their form in runtime.json, and reads the counts of their
// shares back. session_resume_linux.go reads the rest. The loop of the session must not be
// running.

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
		for _, share := range l.Waiting {
			if share.Answered {
				link.answered++
			}
		}
		link.overtook = now
		link.trim(now)
		w.holding += len(link.held)
		w.links = append(w.links, link)
	}
}
