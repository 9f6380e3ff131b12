package main

import (
	"encoding/json"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

func (k *poolLink) answerLine(line []byte) {
	r, err := stratum.ParseResponse(line)
	if err != nil {
		k.noise(line)
		return
	}
	id, ok := stratum.OwnIDOf(r.ID)
	if !ok && stratum.AnswerJobID(line) != nil && k.session.manager.chain == stratum.Ethereum {
		// ETHProxy pools send jobs as answers to no request.
		k.hasJob = true
		k.keep(line)
		return
	}
	if !ok {
		if id, ok = k.inTurn(r); !ok {
			return
		}
	}
	switch id {
	case k.configureID:
		k.pending &^= pendingConfigure
		k.configured(r)
		k.subscribeNext()
	case k.subscribeID:
		if k.pending&pendingSubscribe == 0 {
			return
		}
		k.pending &^= pendingSubscribe
		if !stratum.NoError(r.Error) {
			k.fail(&subscribeError{r})
		} else if err := k.subscribed(r.Result); err != nil {
			k.fail(err)
		} else {
			k.attempt.subscribed()
			if k.pool.picksExtranonce {
				k.authorizeNext()
			}
		}
	case k.authorizeID:
		k.authorized(r)
	default:
		if k.pending&pendingCapabilities != 0 && id == k.capabilitiesID {
			k.pending &^= pendingCapabilities
			k.answersShares = stratum.HasSubmitAnswers(r)
			return
		}
		if own, ok := k.requests.Take(stratum.OwnIDText(id)); ok {
			k.session.workerHeard(own.ID, r)
		}
	}
}

// inTurn returns the request that an answer is for whose id is none of the switcher's.
// Some pools give all their answers the same id, or null, which miners that wait for one
// answer at a time accept. The requests before the link is ready are answered in their
// order, and the form of the result tells when one of them was left out.
func (k *poolLink) inTurn(r *stratum.Response) (id uint32, ok bool) {
	form := byte(0)
	if len(r.Result) > 0 {
		form = r.Result[0]
	}
	configuring, subscribing := k.pending&pendingConfigure != 0, k.subscribeID != 0 && k.pending&pendingSubscribe != 0
	switch {
	case form == '[':
		return k.subscribeID, subscribing && string(r.Result) != "[]"
	case form == '{':
		return k.configureID, configuring
	case configuring && k.pending&pendingSubscribe != 0:
		return k.configureID, true
	case subscribing:
		return k.subscribeID, k.session.manager.chain == stratum.Ethereum || !stratum.NoError(r.Error)
	}
	if id, ok = k.requests.Oldest(); ok && id < k.authorizeID {
		return id, true // a suggestion
	}
	return k.authorizeID, k.authorizeID != 0 && k.pending&pendingAuthorize != 0
}

// subscribed checks the pool's answer to mining.subscribe and decides how the
// lines have to be changed.
func (k *poolLink) subscribed(result json.RawMessage) error {
	s := k.session
	if !k.pool.picksExtranonce {
		if err := s.manager.chain.CheckPoolSubscribe(s.subscription, s.id, result); err != nil {
			return &extranonceError{err}
		}
		if s.shape.Extranonce1 == "" {
			return nil
		}
	}
	given, err := stratum.ParseGiven(result)
	if err != nil {
		return err
	}
	return k.take(given)
}

// take adopts the extranonce that the pool gave. It returns an error if the miner cannot
// work with it.
func (k *poolLink) take(given *stratum.GivenExtranonce) error {
	k.session.lookAhead()
	if k.pool.picksExtranonce {
		k.session.manager.sizes.saw(k.address, given.Size)
	}
	t, usePoolExtranonce, err := k.session.translationFor(k.pool, given)
	if err != nil {
		return err
	}
	k.given, k.usePoolExtranonce, k.translate = given, usePoolExtranonce, t
	return nil
}

// extranonceChanged handles mining.set_extranonce. Jobs before it are void.
func (k *poolLink) extranonceChanged(line []byte) {
	if !k.pool.picksExtranonce {
		k.fail(&extranonceError{k.session.extranonceRefused(line)})
		return
	}
	if k.changes++; k.changes > maxChanges {
		k.fail(errPoolTooMuch)
		return
	}
	given, err := extranonceOf(line)
	if err == nil {
		err = k.take(given)
	}
	if err != nil {
		k.fail(err)
		return
	}
	kept := k.early
	k.early, k.hasJob = nil, false
	for len(kept) > 0 {
		line := stratum.NextLine(kept)
		kept = kept[len(line):]
		if stratum.PoolLineKind(line) != stratum.KindJob {
			k.keep(line)
		}
	}
}

// configured reads the pool's answer to mining.configure. A pool without
// version rolling allows no bit.
func (k *poolLink) configured(r *stratum.Response) {
	if rolling, allowed := rollingOf(r); rolling {
		k.rolling, k.allowedMask = true, allowed
	}
}

// rollingOf reads from an answer to mining.configure whether the pool supports
// version rolling and which bits it allows.
func rollingOf(r *stratum.Response) (rolling bool, allowed uint32) {
	var result map[string]json.RawMessage
	if len(r.Result) == 0 || stratum.JSON.Unmarshal(r.Result, &result) != nil {
		return false, 0
	}
	switch string(result["version-rolling"]) {
	case "true", "1", `"true"`:
		allowed, _ = stratum.ParseMask(result["version-rolling.mask"])
		return true, allowed
	}
	return false, 0
}

// authorized reads the pool's answer to mining.authorize. A refused name is
// tried once more with the coin's suffix.
func (k *poolLink) authorized(r *stratum.Response) {
	if k.pending&pendingAuthorize == 0 {
		return
	}
	if stratum.Consents(r.Result, r.Error) {
		if stratum.IsNull(r.Result) {
			// P2Pool answers with neither an error nor a result, which not all miners
			// understand as consent.
			r.Result = json.RawMessage("true")
		}
		k.pending &^= pendingAuthorize
		k.answer = r
		if k.pool.picksExtranonce {
			k.socket.Write(k.appendSuggestions(nil))
		}
		k.introduce()
		return
	}
	k.refusal = r
	if !k.suffixed && k.pool.suffix != "" && !k.pool.renames() {
		k.suffixed = true
		k.socket.Write(k.appendAuthorize(nil))
		return
	}
	k.fail(&refusedError{r})
}
