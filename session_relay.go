package main

import (
	"bytes"
	"fmt"

	"github.com/golang/glog"
)

// Relaying looks at lines without decoding them. Nearly all of them go on as
// they are, all lines of one read in one write. Only a few methods, found by
// a byte search, are read in full.

// lineKind is what a byte search tells of a line.
type lineKind uint8

const (
	lineAnswer lineKind = iota // no method
	lineJob
	lineDifficulty
	lineVersionMask
	lineSetExtranonce
	lineReconnect
	lineShare
	lineOther
)

var methodKey = []byte(`"method"`)

// lineMethod finds the value of a line's "method" member, nil if it has none.
func lineMethod(line []byte) []byte {
	value := memberValue(line, methodKey)
	if len(value) == 0 || value[0] != '"' {
		return nil
	}
	end := bytes.IndexByte(value[1:], '"')
	if end < 0 {
		return nil
	}
	return value[1 : 1+end]
}

// memberValue finds the first member named key, which is in quotes, and
// returns the line from its value on. Quotes inside JSON strings are escaped,
// so a key is not found in them.
func memberValue(line, key []byte) []byte {
	for {
		at := bytes.Index(line, key)
		if at < 0 {
			return nil
		}
		inside := at > 0 && line[at-1] == '\\' // the end of a longer key
		line = line[at+len(key):]
		if inside {
			continue
		}
		if value := skipSpace(line); len(value) > 0 && value[0] == ':' {
			return skipSpace(value[1:])
		}
	}
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

func poolLineKind(line []byte) lineKind {
	switch string(lineMethod(line)) {
	case "":
		return lineAnswer
	case "mining.notify":
		return lineJob
	case "mining.set_difficulty":
		return lineDifficulty
	case "mining.set_version_mask":
		return lineVersionMask
	case "mining.set_extranonce":
		return lineSetExtranonce
	case "client.reconnect":
		return lineReconnect
	}
	return lineOther
}

func minerLineKind(line []byte) lineKind {
	switch string(lineMethod(line)) {
	case "":
		return lineAnswer
	case "mining.submit", "eth_submitWork":
		return lineShare
	}
	return lineOther
}

// minerReceived passes complete lines of the miner to the pool.
func (s *Session) minerReceived(b []byte) int {
	if s.upstream == nil {
		return 0 // paused: they wait for the next link
	}
	end, err := s.completeEnd(b)
	if err == nil && len(b)-end > maxMinerLine && !s.isAgentBody(b[end:]) {
		err = errLineTooLong
	}
	if err != nil {
		s.manager.monitor.tooLong(err)
		s.close(err.Error())
		return len(b)
	}
	from := 0 // start of the lines not passed on yet
	for at := 0; at < end; {
		line := s.nextMessage(b[at:end])
		next := at + len(line)
		if !s.minerLine(line, func() { s.upstream.write(b[from:at]) }) {
			from = next
		}
		if s.phase == phaseClosed {
			return len(b)
		}
		at = next
	}
	s.upstream.write(b[from:end])
	// Answers of the switcher itself may pile up: a miner that does not take
	// them is not read until it does.
	if s.upstream.congested() || s.miner.backlog() > maxUnsent/2 {
		s.miner.pause(false)
	}
	return end
}

// isAgentBody says that b is part of a binary message, whose length is bounded
// by its two bytes.
func (s *Session) isAgentBody(b []byte) bool { return s.agent != nil && b[0] == agentMagic }

// minerLine looks at one line or message and reports whether it goes to the
// pool as it is. flush writes the lines before it, and is called if not.
func (s *Session) minerLine(line []byte, flush func()) bool {
	if s.agent != nil && line[0] == agentMagic {
		if err := s.agentToPool(line); err != nil {
			s.close(err.Error())
		}
		return true
	}
	if len(line) > maxMinerLine {
		s.manager.monitor.tooLong(errLineTooLong)
		s.close(errLineTooLong.Error())
		return false
	}
	share := false
	switch minerLineKind(line) {
	case lineShare:
		share = true
		if s.drainShare(line) {
			flush()
			return false
		}
		s.countShare(s.pool)
		if s.rules != nil {
			flush()
			s.writeShare(s.upstream, s.rules, line)
			s.requests.push(s.tag, lineID(line), true)
			return false
		}
	case lineOther:
		flush()
		if !s.minerSpecial(line) {
			s.requests.push(s.tag, lineID(line), false)
			s.upstream.write(line)
		}
		return false
	case lineAnswer:
		return true
	}
	s.requests.push(s.tag, lineID(line), share)
	return true
}

// minerSpecial handles a request that the switcher answers itself or
// remembers. It reports whether the line is done with.
func (s *Session) minerSpecial(line []byte) bool {
	switch string(lineMethod(line)) {
	case "mining.extranonce.subscribe":
		r, err := parseRequest(line)
		if err != nil {
			return false
		}
		s.wantsExtranonce = true
		if !r.isNotification() {
			s.miner.write(s.dialect().appendResult(nil, r.ID, []byte("true")))
		}
		return true
	case "mining.suggest_difficulty", "mining.suggest_target":
		if r, err := parseRequest(line); err == nil {
			s.remember(r)
		}
	case "mining.subscribe":
		r, err := parseRequest(line)
		if err != nil {
			return false
		}
		s.miner.write(s.dialect().appendError(nil, r.ID, errDuplicateSubscribed, s.manager.ids.server()))
		return true
	case "mining.authorize", "eth_submitLogin":
		return s.authorizeExtra(line)
	}
	return false
}

// poolReceived passes complete lines of the pool to the miner.
func (s *Session) poolReceived(b []byte) int {
	end, err := s.completeEnd(b)
	if err == nil && len(b)-end > maxPoolLine {
		err = errLineTooLong
	}
	if err != nil {
		s.poolLost(err)
		return len(b)
	}
	upstream := s.upstream
	from := 0
	for at := 0; at < end; {
		line := s.nextMessage(b[at:end])
		next := at + len(line)
		if !s.poolLine(line, func() { s.miner.write(b[from:at]) }) {
			from = next
		}
		if s.upstream != upstream {
			return len(b) // the link is gone
		}
		at = next
	}
	s.miner.write(b[from:end])
	if s.miner.congested() {
		s.upstream.pause(false)
	}
	return end
}

// poolLine looks at one line or message and reports whether it goes to the
// miner as it is. flush writes the lines before it, and is called if not.
func (s *Session) poolLine(line []byte, flush func()) bool {
	if s.agent != nil && line[0] == agentMagic {
		if line[1] == agentAnswer {
			s.owed--
		}
		return true
	}
	switch kind := poolLineKind(line); kind {
	case lineAnswer:
		if s.ownAnswers > 0 && s.isOwnAnswer(line) {
			s.ownAnswers--
			flush()
			return false
		}
		if !s.answered(s.tag, line) {
			flush()
			return false
		}
		if len(s.held) > 0 {
			flush()
			s.miner.write(line)
			s.releaseHeld()
			return false
		}
	case lineJob:
		s.gotJob()
		if s.jobs != nil {
			s.jobs.note(line)
		}
		if s.rules != nil {
			flush()
			s.writeJob(line)
			return false
		}
	case lineDifficulty:
		s.difficultyTold()
	case lineVersionMask, lineSetExtranonce, lineReconnect:
		flush()
		s.poolSpecial(kind, line)
		return false
	}
	return true
}

// isOwnAnswer recognises answers to requests of the link's handshake.
func (s *Session) isOwnAnswer(line []byte) bool {
	r, err := parseResponse(line)
	return err == nil && (string(r.ID) == idSuggest || string(r.ID) == idWorker || string(r.ID) == idConfigure)
}

// poolSpecial handles what a pool may not simply tell the miner.
func (s *Session) poolSpecial(kind lineKind, line []byte) {
	switch kind {
	case lineVersionMask:
		r, err := parseRequest(line)
		if err != nil {
			return
		}
		if mask, ok := versionMaskOf(r); ok && s.askedMask != 0 {
			s.sentMask = s.askedMask & mask
			s.miner.write(appendVersionMask(nil, s.sentMask))
			if s.rules != nil {
				s.rules.dropBits = false // it knows version rolling after all
			}
		}
	case lineReconnect:
		if !s.mayRenew() {
			return
		}
		// The miner must stay here; the link is what gets renewed.
		glog.V(2).Infof("%s pool asked to reconnect coin=%q", s, s.pool.coin)
		s.renew(nil)
	case lineSetExtranonce:
		if err := s.extranonceChanged(line); err != nil {
			s.poolLost(err)
		}
	}
}

// extranonceRefused: a pool that wants another extranonce than the session's
// would refuse every share.
func (s *Session) extranonceRefused(line []byte) error {
	glog.V(1).Infof("%s pool changed the extranonce: %q", s, clip(bytes.TrimSpace(line)))
	return fmt.Errorf("pool changed the extranonce: %q", clip(bytes.TrimSpace(line)))
}
