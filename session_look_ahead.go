package main

import (
	"encoding/json"
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Some miners send mining.extranonce.subscribe or mining.configure right behind
// mining.authorize. The miner is not read while its first pool link is prepared,
// so these wait, but what they ask for is of use to that link already.

// maxLookAhead bounds what is looked at of the lines that wait.
const maxLookAhead = 4096

// lookAhead heeds what waits to be read of a miner whose first link is prepared.
// The requests are answered when they are read.
func (s *Session) lookAhead() {
	if s.phase != phaseRouting || s.agent != nil {
		return
	}
	for rest := s.miner.Peek(maxLookAhead); ; {
		line := stratum.NextLine(rest)
		if line == nil {
			return
		}
		rest = rest[len(line):]
		switch string(stratum.LineMethod(line)) {
		case "mining.extranonce.subscribe":
			s.wantsExtranonce = true
		case "mining.configure":
			if r, err := stratum.ParseRequest(line); err == nil && s.askedMask == 0 {
				s.noteConfigure(r)
				s.configureAhead = s.askedMask != 0
			}
		}
	}
}

// noteConfigure remembers what a mining.configure asks for, without an answer.
func (s *Session) noteConfigure(r *stratum.Request) {
	if s.manager.chain == stratum.Bitcoin {
		s.configure(r, 0)
	}
}

// configureLate deals with a mining.configure after the authorization. Where
// the link was prepared with it in sight, it is answered here, with what the
// pool allows; otherwise it goes to the pool. It reports whether the request is
// done with.
func (s *Session) configureLate(line []byte) bool {
	r, err := stratum.ParseRequest(line)
	if err != nil || s.manager.chain != stratum.Bitcoin {
		return false
	}
	if !s.configureAhead {
		s.noteConfigure(r)
		s.sentMask = anyBits // what the pool will answer is not known: the next one's mask is told
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

// configure reads BIP 310's mining.configure, remembers what it asks for and
// gives the result that grants at most the version bits of allowed.
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

// anyBits is a version mask without limits.
const anyBits = 0xffffffff

// configuredLate tells the miner what the pool says of version rolling when the
// link is in use already.
func (s *Session) configuredLate(line []byte) {
	r, err := stratum.ParseResponse(line)
	if err != nil || s.askedMask == 0 {
		return
	}
	rolling, allowed := rollingOf(r)
	if !rolling {
		return // that is what the miner was told
	}
	if s.link.rules != nil {
		s.link.rules.dropBits = false
	}
	if mask := s.askedMask & allowed; mask != s.sentMask {
		s.sentMask = mask
		s.miner.Write(stratum.AppendVersionMask(nil, mask))
	}
}
