package main

import (
	"encoding/json"
	"slices"

	"github.com/golang/glog"
)

// Agents ask what the pool can do by agent.get_capabilities, before they
// subscribe and again after their authorization. They are answered here, as no
// pool is known yet the first time: all that sserver can do. A pool answers
// binary shares ("subres") only if it was asked after the authorization, so the
// switcher asks each pool on its own once the agent has.

const (
	agentCapabilities = `{"capabilities":["verrol","subres"]}`
	capSubmitAnswers  = "subres"
)

// poolCapabilitiesRequest asks a pool for answers to shares: in the form, a list
// in the list, that sserver heeds.
var poolCapabilitiesRequest = []byte(`["verrol","subres"]`)

// appendCapabilities appends an answer of the form that sserver gives.
func appendCapabilities(b []byte, id json.RawMessage) []byte {
	b = append(b, `{"id":`...)
	b = append(b, orNull(id)...)
	return append(b, `,"result":`+agentCapabilities+"}\n"...)
}

// answerCapabilities answers before the authorization.
func (s *Session) answerCapabilities(r *request) {
	if s.subscription != nil && s.agent == nil {
		// It would send binary messages, which only an agent may.
		glog.V(1).Infof("%s asks agent.get_capabilities, but user agent %q is not in AgentUserAgents", s, clip([]byte(s.subscription.UserAgent)))
		if !r.isNotification() {
			s.answerError(r, errUnknownMethod)
		}
		return
	}
	if asksForAnswers(r) {
		s.handshake.wantsAnswers = true
		if s.agent != nil {
			s.agent.wantsAnswers = true
		}
	}
	if !r.isNotification() {
		s.handshake.out = appendCapabilities(s.handshake.out, r.ID)
	}
}

// askCapabilities answers an authorized agent, and asks the pool if the agent
// has not asked before. It reports whether the line is done with.
func (s *Session) askCapabilities(line []byte) bool {
	r, err := parseRequest(line)
	if err != nil || s.agent == nil {
		return false
	}
	if asksForAnswers(r) && !s.agent.wantsAnswers {
		s.agent.wantsAnswers = true
		if id, ok := s.link.own.issue(); ok {
			s.link.socket.Write(appendPoolCapabilities(nil, id))
			s.link.own.expectCapabilities(id)
		}
		if k := s.preparing(); k != nil && k.introduced {
			k.askCapabilities()
		}
	}
	if !r.isNotification() {
		s.miner.Write(appendCapabilities(nil, r.ID))
	}
	return true
}

func appendPoolCapabilities(b []byte, id uint32) []byte {
	return appendRequest(b, ownIDText(id), "agent.get_capabilities", poolCapabilitiesRequest)
}

// askCapabilities asks the pool for answers to the agent's shares.
func (k *poolLink) askCapabilities() {
	var ok bool
	if k.capabilitiesID, ok = k.requests.issue(); ok {
		k.socket.Write(appendPoolCapabilities(nil, k.capabilitiesID))
		k.pending |= pendingCapabilities
	}
}

// capabilities notes the pool's answer. It is a no-op on nil.
func (l *agentLink) capabilities(line []byte) {
	if r, err := parseResponse(line); err == nil && l != nil {
		l.answers = hasSubmitAnswers(r)
	}
}

// asksForAnswers reads the parameters of agent.get_capabilities: a list of
// texts, by itself or in a list.
func asksForAnswers(r *request) bool {
	for _, p := range r.paramList() {
		if text, _ := jsonString(p); text == capSubmitAnswers || namesSubmitAnswers(p) {
			return true
		}
	}
	return false
}

func namesSubmitAnswers(list json.RawMessage) bool {
	var names []json.RawMessage
	return len(list) > 0 && list[0] == '[' && wireJSON.Unmarshal(list, &names) == nil &&
		slices.ContainsFunc(names, func(raw json.RawMessage) bool { text, _ := jsonString(raw); return text == capSubmitAnswers })
}

// hasSubmitAnswers says whether the pool answers binary shares, by its answer.
func hasSubmitAnswers(r *response) bool {
	var result struct {
		Capabilities json.RawMessage `json:"capabilities"`
	}
	return len(r.Result) > 0 && r.Result[0] == '{' && wireJSON.Unmarshal(r.Result, &result) == nil && namesSubmitAnswers(result.Capabilities)
}

// askTransactions passes mining.get_transactions on with the pool's own job ID,
// if the miner knows another. It reports whether it did.
func (s *Session) askTransactions(line []byte) bool {
	at, _, ok := jobIDSpan(line, 0)
	if !ok || s.link.jobs.renamed == 0 {
		return false
	}
	own, _ := s.link.jobs.find(plainID(line[at.start:at.end]))
	if own == nil {
		return false
	}
	id := slices.Clone(lineID(line))
	s.link.socket.Write(putJobID(slices.Clone(line), 0, own))
	s.requests.push(s.link.tag, id, false)
	return true
}

// newSubscription reads the parameters of mining.subscribe.
func (m *sessionManager) newSubscription(params []json.RawMessage) *subscription {
	sub := m.chain.newSubscription(params)
	sub.agent = slices.ContainsFunc(m.config.AgentUserAgents, func(prefix string) bool { return hasPrefixFold(sub.UserAgent, prefix) })
	return sub
}
