package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// How the requests of a handshake are answered, up to the miner's coin. The lines come
// from session_handshake.go.

// maxSuggestions bounds the suggestions that are remembered for the pools.
const maxSuggestions = 4

// handleOther answers the remaining requests, because the miner may wait for an answer. A
// request without an id gets none, because the miner would take it for the answer to
// another request.
func (s *Session) handleOther(r *stratum.Request) {
	switch r.Method {
	case "mining.extranonce.subscribe":
		s.wantsExtranonce = true
	case "mining.suggest_difficulty", "mining.suggest_target":
		s.remember(r)
	case "mining.multi_version", "mining.capabilities":
	case "agent.get_capabilities":
		s.answerCapabilities(r)
		return
	case "mining.get_transactions":
		if !r.IsNotification() {
			s.answer(r.ID, []byte("[]"))
		}
		return
	default:
		if !r.IsNotification() {
			s.answerError(r, stratum.ErrUnknownMethod)
		}
		return
	}
	if !r.IsNotification() {
		s.answer(r.ID, []byte("true"))
	}
}

// remember keeps the latest suggestion of each kind for the pools.
func (s *Session) remember(r *stratum.Request) {
	if len(r.Params) == 0 || r.Params[0] != '[' || len(r.Params) > 200 {
		return
	}
	for i := range s.suggestions {
		if s.suggestions[i].method == r.Method {
			s.suggestions[i].params = r.Params
			return
		}
	}
	if len(s.suggestions) < maxSuggestions {
		s.suggestions = append(s.suggestions, suggestion{r.Method, r.Params})
	}
}

func (s *Session) handleSubscribe(r *stratum.Request) {
	if s.subscription != nil {
		s.answerError(r, stratum.ErrDuplicateSubscribed)
		return
	}
	if s.subscribe(s.manager.newSubscription(r.ParamList())) {
		result := s.manager.chain.SubscribeResult(s.subscription, s.id)
		if s.shape.Extranonce1 != "" {
			result = s.shape.Result()
		}
		s.answer(r.ID, result)
	}
}

// subscribe gives the session its ID. If the server ID or the size of its
// extranonce2 is not known yet, the request is held and read again when it is.
func (s *Session) subscribe(sub *stratum.Subscription) bool {
	if !s.manager.serverIDOrWait(s) || !s.manager.sizeOrWait(s, sub.IsAgent()) {
		s.handshake.held = true
		s.miner.Pause(true)
		return false
	}
	id, err := s.manager.ids.allocate()
	if err != nil {
		s.manager.limitedLog.Errorf("no session ID", "%s refused: %v", s, err)
		s.close(err.Error())
		return false
	}
	s.id, s.hasID = id, true
	s.subscription = s.loop.shared(sub)
	s.shape = s.manager.planNow().shapeFor(id, sub.IsAgent())
	if sub.IsAgent() {
		s.agent = newAgentWorkers()
		s.agent.wantsAnswers = s.handshake.wantsAnswers
	}
	return true
}

func (s *Session) handleAuthorize(r *stratum.Request) {
	if s.subscription == nil {
		s.answerError(r, stratum.ErrNeedSubscribed)
		return
	}
	params := r.ParamList()
	if len(params) == 0 {
		s.answerError(r, stratum.ErrTooFewParams)
		return
	}
	full, ok := stratum.JsonString(params[0])
	if !ok {
		s.answerError(r, stratum.ErrWorkerNotString)
		return
	}
	name := s.manager.chain.ParseWorker(full, r.Worker)
	if name.Account == "" {
		s.answerError(r, stratum.ErrEmptySubAccount)
		return
	}
	// The copies keep the whole line from staying in memory with its id.
	form := &authorizationForm{id: bytes.Clone(r.ID), method: r.Method, rest: furtherParams(params)}
	s.auth = &authorization{s.loop.sharedForm(form), name}
	s.phase = phaseRouting
	s.miner.Pause(true)
	s.manager.route(s)
}

// coinFound continues routing when the coin source has answered.
func (s *Session) coinFound(account *subAccount, err error) {
	if s.phase != phaseRouting || s.query == nil {
		s.manager.dropPending(account)
		return
	}
	s.query = nil
	if err != nil {
		s.refuse(stratum.ErrInvalidSubAccount, err.Error())
		return
	}
	s.auth.name = s.auth.name.WithAccount(account.name)
	wanted := s.manager.accounts.join(s, account)
	s.interest = true
	p := s.manager.pools[wanted]
	if p == nil {
		if line := s.manager.refusedAccounts.note(account.name, wanted, s.addr, time.Now()); line != "" {
			s.manager.limitedLog.Errorf("refused for a coin without a pool", "%s", line)
		}
		s.refuse(stratum.ErrServerNotFound, fmt.Sprintf("coin %q is not in StratumServerMap", wanted))
		return
	}
	s.connect(p)
}
