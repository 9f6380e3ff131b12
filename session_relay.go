package main

import (
	"bytes"
	"fmt"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
)

// Relaying looks at lines without decoding them. Nearly all of them go on as
// they are, all lines of one read in one write. Only a few methods, found by
// scanning bytes, are read in full. Odd lines, which other readers may
// understand in another way, go on in canonical form; see decode.go.

// lineKind is what a byte scan tells of a line.
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

func poolLineKind(line []byte) lineKind {
	sc := scanPoolLine(line)
	return sc.poolKind(line)
}

func (sc *scannedLine) poolKind(line []byte) lineKind {
	if sc.isDecorated(line) {
		return lineAnswer
	}
	switch string(sc.method(line)) {
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

// isDecorated reports whether a line with a method is an answer all the same:
// some pools repeat the request in it.
func (sc *scannedLine) isDecorated(line []byte) bool {
	if sc.members[memberMethod].end == 0 || sc.id(line) == nil {
		return false
	}
	return sc.has(line, memberResult) ||
		sc.members[memberParams].end == 0 && (sc.members[memberResult].end > 0 || sc.members[memberError].end > 0)
}

func minerLineKind(line []byte) lineKind {
	sc := scanMinerLine(line)
	return sc.minerKind(line)
}

func (sc *scannedLine) minerKind(line []byte) lineKind {
	if sc.members[memberMethod].end == 0 {
		return lineAnswer
	}
	switch string(sc.method(line)) {
	case "mining.submit", "eth_submitWork":
		return lineShare
	}
	return lineOther
}

// minerReceived passes complete lines of the miner to the pool.
func (s *Session) minerReceived(b []byte) int {
	if !s.link.open() {
		return 0 // paused: they wait for the next link
	}
	end, err := s.completeEnd(b)
	if err == nil && len(b)-end > maxMinerLine && !s.isAgentBody(b[end:]) {
		err = relay.ErrLineTooLong
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
		if !s.minerLine(line, func() { s.link.socket.Write(b[from:at]) }) {
			from = next
		}
		if s.phase == phaseClosed {
			return len(b)
		}
		at = next
	}
	s.link.socket.Write(b[from:end])
	// Answers of the switcher itself may pile up: a miner that does not take
	// them is not read until it does.
	if s.link.socket.Congested() || s.miner.Backlog() > relay.MaxUnsent/2 {
		s.miner.Pause(false)
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
		asItIs, err := s.agentToPool(line, flush)
		if err != nil {
			s.close(err.Error())
		}
		return asItIs
	}
	if len(line) > maxMinerLine {
		s.manager.monitor.tooLong(relay.ErrLineTooLong)
		s.close(relay.ErrLineTooLong.Error())
		return false
	}
	var sc scannedLine
	sc.scan(line, true)
	if !sc.whole || sc.odd || !sc.hasMethodName(line) {
		flush()
		s.oddMinerLine(line)
		return false
	}
	return s.plainMinerLine(line, &sc, flush)
}

// hasMethodName reports whether the method, if there is one, is a text.
func (sc *scannedLine) hasMethodName(line []byte) bool {
	at := sc.members[memberMethod]
	return at.end == 0 || line[at.start] == '"'
}

// plainMinerLine is minerLine for lines that are read in one way only.
func (s *Session) plainMinerLine(line []byte, sc *scannedLine, flush func()) bool {
	id := sc.id(line)
	switch sc.minerKind(line) {
	case lineAnswer:
		return true
	case lineShare:
		if s.routeShare(line) {
			flush()
			return false
		}
		s.countShare(s.link.pool)
		if s.link.rules != nil || s.link.own.find(id) >= 0 {
			flush()
			s.sendShare(s.link, line, nil)
			return false
		}
		s.requests.push(s.link.tag, id, true)
		return true
	}
	flush()
	if s.minerSpecial(line) {
		return false
	}
	wire, ok := s.wireID(s.link, id)
	if !ok {
		s.miner.Write(s.dialect().appendError(nil, id, errTooMany, s.manager.ids.server()))
		return false
	}
	s.requests.push(s.link.tag, wire, false)
	if !bytes.Equal(wire, id) {
		line = withID(line, sc.members[memberID], wire)
	}
	s.link.socket.Write(line)
	return false
}

// sendShare sends a share to a link by its rules, and expects its answer. The
// share gets the pool's own ID of its job, poolJob, if the miner knows another.
func (s *Session) sendShare(to *link, line, poolJob []byte) {
	if poolJob != nil {
		line = putJobID(bytes.Clone(line), 1, poolJob)
	}
	sc := scanPoolLine(line)
	id := sc.id(line)
	wire, ok := s.wireID(to, id)
	if !ok {
		s.refuseShare(to, id, errTooMany)
		return
	}
	aliased := !bytes.Equal(wire, id)
	if aliased {
		line = withID(line, sc.members[memberID], wire)
	}
	switch {
	case to.rules == nil:
		to.socket.Write(line)
	case !s.writeShare(to, line):
		if aliased {
			to.own.take(wire)
		}
		s.manager.notUnderstood.Add(1)
		s.refuseShare(to, id, errNotUnderstood)
		return
	}
	s.requests.push(to.tag, wire, true)
}

// refuseShare answers a share that no pool gets.
func (s *Session) refuseShare(to *link, id []byte, e *stratumError) {
	answer := s.dialect().appendError(nil, id, e, s.manager.ids.server())
	s.countVerdict(to.tag, answer)
	if len(id) > 0 {
		s.miner.Write(answer)
	}
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
			s.miner.Write(s.dialect().appendResult(nil, r.ID, []byte("true")))
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
		s.miner.Write(s.dialect().appendError(nil, r.ID, errDuplicateSubscribed, s.manager.ids.server()))
		return true
	case "mining.authorize", "eth_submitLogin":
		return s.authorizeExtra(line)
	case "mining.configure":
		return s.configureLate(line)
	case "agent.get_capabilities":
		return s.askCapabilities(line)
	case "mining.get_transactions":
		return s.askTransactions(line)
	default:
		if r, err := parseRequest(line); err == nil && resembles(r.Method) {
			s.miner.Write(s.dialect().appendError(nil, r.ID, errUnknownMethod, s.manager.ids.server()))
			return true
		}
	}
	return false
}

// poolReceived passes complete lines of the pool to the miner.
func (s *Session) poolReceived(b []byte) int {
	end, err := s.completeEnd(b)
	if err == nil && len(b)-end > maxPoolLine {
		err = relay.ErrLineTooLong
	}
	if err != nil {
		s.poolLost(err)
		return len(b)
	}
	from, used := 0, s.link
	for at := 0; at < end; {
		line := s.nextMessage(b[at:end])
		next := at + len(line)
		if !s.poolLine(line, func() { s.miner.Write(b[from:at]) }) {
			from = next
		}
		if s.link != used || !used.open() {
			return len(b) // the link is gone
		}
		at = next
	}
	s.miner.Write(b[from:end])
	if s.miner.Congested() {
		s.link.socket.Pause(false)
	}
	return end
}

// poolLine looks at one line or message and reports whether it goes to the
// miner as it is. flush writes the lines before it, and is called if not.
func (s *Session) poolLine(line []byte, flush func()) bool {
	if s.agent != nil && line[0] == agentMagic {
		if line[1] != agentAnswer {
			return true
		}
		now := s.agentAnswered(s.link, line)
		if now && s.agent.holding == 0 {
			return true
		}
		flush()
		if now {
			s.miner.Write(line)
		}
		s.releaseAgentAnswers()
		return false
	}
	var sc scannedLine
	sc.scan(line, false)
	if !sc.whole || sc.odd {
		flush()
		odd := line
		if line = s.oddPoolLine(s.link, line); line == nil {
			switch kind := sc.poolKind(odd); {
			case kind == lineSetExtranonce:
				s.poolLost(errPoolNoise) // it may have meant another extranonce
			case kind == lineJob && s.link.rules != nil:
				s.poolLost(jobError(odd))
			}
			return false
		}
		sc = scanPoolLine(line)
		if s.plainPoolLine(line, &sc, func() {}) {
			s.miner.Write(line)
		}
		return false
	}
	return s.plainPoolLine(line, &sc, flush)
}

// formerAnswer is a line of a former link as the miner gets it now, nil if it
// gets none.
func (s *Session) formerAnswer(former *link, line []byte) []byte {
	sc := scanPoolLine(line)
	if !sc.whole || sc.odd {
		if line = s.oddPoolLine(former, line); line == nil {
			return nil
		}
		sc = scanPoolLine(line)
	}
	if sc.poolKind(line) != lineAnswer {
		return nil
	}
	return s.answered(former, s.plainAnswer(line, &sc), &sc)
}

// plainPoolLine is poolLine for lines that are read in one way only.
func (s *Session) plainPoolLine(line []byte, sc *scannedLine, flush func()) bool {
	switch kind := sc.poolKind(line); kind {
	case lineAnswer:
		if s.link.formerAnswers > 0 && isFormerOwnID(sc.id(line)) {
			s.link.formerAnswers--
			flush()
			return false
		}
		answer := s.answered(s.link, s.plainAnswer(line, sc), sc)
		if answer == nil {
			flush()
			return false
		}
		if len(s.held) > 0 || &answer[0] != &line[0] {
			flush()
			s.miner.Write(answer)
			s.releaseHeld()
			return false
		}
	case lineJob:
		s.gotJob()
		if told := s.jobNoted(line, sc); told != nil || s.link.rules != nil {
			flush()
			if err := s.writeJob(line, told); err != nil {
				s.poolLost(err)
			}
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

// isFormerOwnID recognises answers to requests that an earlier build sent on a
// link taken over from it.
func isFormerOwnID(id []byte) bool {
	switch string(id) {
	case formerConfigure, formerSuggest, formerWorker:
		return true
	}
	return false
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
			s.miner.Write(appendVersionMask(nil, s.sentMask))
			if s.link.rules != nil {
				s.link.rules.dropBits = false // it knows version rolling after all
			}
		}
	case lineReconnect:
		if !s.mayRenew() {
			return
		}
		// The miner must stay here; the link is what gets renewed.
		glog.V(2).Infof("%s pool asked to reconnect coin=%q", s, s.link.pool.coin)
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
	if glog.V(1) {
		s.manager.limitedLog.Infof("extranonce changed", "%s pool changed the extranonce: %q", s, clip(bytes.TrimSpace(line)))
	}
	return fmt.Errorf("pool changed the extranonce: %q", clip(bytes.TrimSpace(line)))
}
