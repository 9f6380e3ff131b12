package main

import (
	"encoding/json"
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// mining.configure (BIP 310): what miners ask for before and after their authorization,
// what pools are asked in their place, and the version masks that result.

// maxExtensions is how many extensions of one mining.configure are answered. BIP 310 has
// four.
const maxExtensions = 64

// handleConfigure answers BIP 310's mining.configure. A version mask is granted
// as requested; the bits that the pool allows follow after the authorization.
func (s *Session) handleConfigure(r *stratum.Request) {
	if s.manager.chain != stratum.Bitcoin {
		if !r.IsNotification() {
			s.answerError(r, stratum.ErrUnknownMethod)
		}
		return
	}
	s.configureAhead = false // lookAhead may have seen it before a pool refused the worker
	result, e := s.configure(r, anyBits)
	if e != nil {
		s.answerError(r, e)
		return
	}
	s.answer(r.ID, result)
}

// noteConfigure remembers what a mining.configure asks for and does not answer it.
func (s *Session) noteConfigure(r *stratum.Request) {
	if s.manager.chain == stratum.Bitcoin {
		s.configure(r, 0)
	}
}

// configureLate handles a mining.configure that comes after the authorization. If
// lookAhead has seen it before the link was prepared, it is answered here with what
// the pool allows. Otherwise it goes to the pool. configureLate reports whether it
// has handled the request.
func (s *Session) configureLate(line []byte) bool {
	r, err := stratum.ParseRequest(line)
	if err != nil || s.manager.chain != stratum.Bitcoin {
		return false
	}
	if !s.configureAhead {
		s.noteConfigure(r)
		s.sentMask = anyBits // the pool's answer is not known, so the next mask is sent in any case
		if k := s.preparing(); k != nil && k.socket != nil {
			k.askConfigure()
		}
		return false
	}
	s.configureAhead = false
	result, e := s.configure(r, s.sentMask)
	switch {
	case r.IsNotification():
	case e != nil:
		s.miner.Write(s.dialect().AppendError(nil, r.ID, e, s.manager.ids.server()))
	default:
		s.miner.Write(s.dialect().AppendResult(nil, r.ID, result))
	}
	return true
}

// configure reads a mining.configure (BIP 310) and remembers what it asks for. The
// result grants at most the version bits in allowed.
func (s *Session) configure(r *stratum.Request, allowed uint32) (result []byte, e *stratum.Error) {
	params := r.ParamList()
	var extensions []string
	if len(params) == 0 || stratum.IsNull(params[0]) || stratum.JSON.Unmarshal(params[0], &extensions) != nil {
		return nil, stratum.ErrTooFewParams
	}
	options := map[string]json.RawMessage{}
	if len(params) > 1 {
		if stratum.JSON.Unmarshal(params[1], &options) != nil {
			options = nil
		}
	}
	result = []byte{'{'}
	for _, extension := range extensions[:min(len(extensions), maxExtensions)] {
		if len(result) > 1 {
			result = append(result, ',')
		}
		result = append(result, stratum.Quote(extension)...)
		result = append(result, ':')
		switch extension {
		case "version-rolling":
			mask, ok := requestedMask(options)
			if !ok {
				result = append(result, `"version-rolling.mask is not a hex number"`...)
				break
			}
			s.askedMask = mask
			if mask &= allowed; mask == 0 && allowed != anyBits {
				result = append(result, "false"...)
				break
			}
			result = fmt.Appendf(result, `true,"version-rolling.mask":"%08x"`, mask)
		case "subscribe-extranonce":
			s.wantsExtranonce = true
			result = append(result, "true"...)
		default:
			result = append(result, "false"...)
		}
	}
	return append(result, '}'), nil
}

// requestedMask is the mask requested by BIP 310's version-rolling, or all bits
// if there is none.
func requestedMask(options map[string]json.RawMessage) (uint32, bool) {
	raw, ok := options["version-rolling.mask"]
	if !ok {
		return anyBits, true
	}
	return stratum.ParseMask(raw)
}

// anyBits is a version mask without limits.
const anyBits = 0xffffffff

// askConfigure asks the pool for version rolling because the miner has asked for it
// while the link is prepared.
func (k *poolLink) askConfigure() {
	if k.session.askedMask == 0 || k.configureID != 0 {
		return
	}
	var ok bool
	if k.configureID, ok = k.requests.Issue(); ok {
		k.pending |= pendingConfigure
		k.socket.Write(stratum.AppendConfigure(nil, k.configureID, k.session.askedMask))
	}
}

// configureAnswered records the pool's answer to a mining.configure of the miner, which
// the miner gets too. The answer may show that the pool supports version rolling, although
// it had not said so before.
func (l *link) configureAnswered(line []byte) {
	if l.rules == nil {
		return
	}
	if r, err := stratum.ParseResponse(line); err == nil {
		if rolling, _ := rollingOf(r); rolling {
			l.rules.dropBits = false
		}
	}
}

// configuredLate sends the miner the version mask from a pool's answer to
// mining.configure that came when the link was already in use.
func (s *Session) configuredLate(line []byte) {
	r, err := stratum.ParseResponse(line)
	if err != nil || s.askedMask == 0 {
		return
	}
	rolling, allowed := rollingOf(r)
	if !rolling {
		return // the miner was already sent a mask without any bits
	}
	if s.link.rules != nil {
		s.link.rules.dropBits = false
	}
	if mask := s.askedMask & allowed; mask != s.sentMask {
		s.recordSentMask(mask)
		s.miner.Write(stratum.AppendVersionMask(nil, mask))
	}
}
