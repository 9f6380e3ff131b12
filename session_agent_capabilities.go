package main

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Agents ask with agent.get_capabilities what the pool can do, before they subscribe and
// again after their authorization. The first time no pool is known yet, so the switcher
// answers with everything that btcpool's sserver can do. A pool answers binary shares
// ("subres") only if it was asked after the authorization. So once the agent has asked,
// the switcher asks each pool (docs/protocol.md, "Agents").

// answerCapabilities answers agent.get_capabilities before the authorization.
func (s *Session) answerCapabilities(r *stratum.Request) {
	if s.subscription != nil && s.agent == nil {
		s.logUnlistedAgent()
		if !r.IsNotification() {
			s.answerError(r, stratum.ErrUnknownMethod)
		}
		return
	}
	if stratum.AsksForAnswers(r) {
		s.handshake.wantsAnswers = true
		if s.agent != nil {
			s.agent.wantsAnswers = true
		}
	}
	if !r.IsNotification() {
		s.handshake.out = stratum.AppendCapabilities(s.handshake.out, r.ID)
	}
}

// logUnlistedAgent logs that a miner that is not known as an agent asks for capabilities.
// It gets an error, because an answer would invite binary messages, which only agents may
// send.
func (s *Session) logUnlistedAgent() {
	if s.subscription == nil {
		return
	}
	glog.V(1).Infof("%s asks agent.get_capabilities, but user agent %q is not in AgentUserAgents", s, stratum.Clip([]byte(s.subscription.UserAgent)))
}

// askCapabilities answers agent.get_capabilities of an authorized agent. If it is
// the agent's first request for answers, the pool is asked too. It reports
// whether the line was handled.
func (s *Session) askCapabilities(line []byte) bool {
	r, err := stratum.ParseRequest(line)
	if err != nil {
		return false
	}
	if s.agent == nil {
		s.logUnlistedAgent()
		if !r.IsNotification() {
			s.miner.Write(s.dialect().AppendError(nil, r.ID, stratum.ErrUnknownMethod, s.manager.ids.server()))
		}
		return true
	}
	if stratum.AsksForAnswers(r) && !s.agent.wantsAnswers {
		s.agent.wantsAnswers = true
		if id, ok := s.link.ownRequests.Issue(); ok {
			s.link.socket.Write(stratum.AppendPoolCapabilities(nil, id))
			s.link.ownRequests.ExpectCapabilities(id)
		}
		if k := s.preparing(); k != nil && k.introduced {
			k.askCapabilities()
		}
	}
	if !r.IsNotification() {
		s.miner.Write(stratum.AppendCapabilities(nil, r.ID))
	}
	return true
}

// askCapabilities asks the pool whether it answers the agent's binary shares.
func (k *poolLink) askCapabilities() {
	var ok bool
	if k.capabilitiesID, ok = k.requests.Issue(); ok {
		k.socket.Write(stratum.AppendPoolCapabilities(nil, k.capabilitiesID))
		k.pending |= pendingCapabilities
	}
}

// capabilities records the pool's answer. It is a no-op on nil.
func (l *agentLink) capabilities(line []byte) {
	if r, err := stratum.ParseResponse(line); err == nil && l != nil {
		l.answers = stratum.HasSubmitAnswers(r)
	}
}

// askTransactions passes mining.get_transactions on with the pool's ID of the job
// if the miner knows the job by another ID. It reports whether it did that.
func (s *Session) askTransactions(line []byte) bool {
	at, _, ok := stratum.JobIDSpan(line, 0)
	if !ok || s.link.jobs.Unrenamed() {
		return false
	}
	poolJob, _ := s.link.jobs.Find(stratum.PlainID(line[at.Start:at.End]))
	if poolJob == nil {
		return false
	}
	line = stratum.PutJobID(slices.Clone(line), 0, poolJob)
	sc := stratum.ScanPoolLine(line)
	id := sc.ID(line)
	wire, ok := s.wireID(s.link, id)
	if !ok {
		s.miner.Write(s.dialect().AppendError(nil, id, stratum.ErrTooMany, s.manager.ids.server()))
		return true
	}
	s.keepForgotten(s.requests.Push(s.link.tag, wire))
	if !bytes.Equal(wire, id) {
		line = stratum.WithID(line, sc.Members[stratum.MemberID], wire)
	}
	s.link.socket.Write(line)
	return true
}

// newSubscription reads the parameters of mining.subscribe.
func (m *sessionManager) newSubscription(params []json.RawMessage) *stratum.Subscription {
	sub := m.chain.NewSubscription(params)
	sub.ListedAgent = slices.ContainsFunc(m.config.AgentUserAgents, func(prefix string) bool { return stratum.HasPrefixFold(sub.UserAgent, prefix) })
	return sub
}
