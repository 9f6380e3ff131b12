package main

import (
	"bytes"
	"slices"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The relay scans lines without decoding them. It passes nearly all of them on
// unchanged, with all lines of one read in one write. Only the lines of a few methods
// are decoded; see session_special_lines.go. Odd lines, which other readers may understand
// differently, are passed on in canonical form; see stratum.CanonicalLine.

// minerReceived passes complete lines of the miner to the pool.
func (s *Session) minerReceived(b []byte) int {
	if !s.link.open() {
		return 0 // the lines wait for the next link
	}
	end, err := s.completeEnd(b)
	switch {
	case err != nil || end == len(b):
	case s.agent == nil && b[end] == stratum.AgentMagic:
		err = errUnlistedAgent
	case len(b)-end > stratum.MaxMinerLine && !s.isAgentBody(b[end:]):
		err = relay.ErrLineTooLong
	}
	if err != nil {
		s.manager.monitor.tooLong(err)
		s.close(err.Error())
		return len(b)
	}
	from := 0 // start of the lines not passed on yet
	for at := 0; at < end; {
		line, asItIs := s.minerLine(b[at:end], func() { s.link.socket.Write(b[from:at]) })
		next := at + len(line)
		if !asItIs {
			from = next
		}
		if s.phase == phaseClosed {
			return len(b)
		}
		at = next
	}
	s.link.socket.Write(b[from:end])
	// The switcher's own answers may pile up if the miner does not read them. The miner
	// is then not read until it has taken them.
	if s.link.socket.Congested() || s.miner.Backlog() > relay.MaxUnsent/2 {
		s.miner.Pause(false)
	}
	return end
}

// isAgentBody reports whether b begins a binary message of an agent. Its two-byte length
// field bounds its size, so MaxMinerLine does not apply.
func (s *Session) isAgentBody(b []byte) bool { return s.agent != nil && b[0] == stratum.AgentMagic }

// minerLine looks at the first line or message of b, which must be complete. It returns
// it and reports whether it goes to the pool unchanged. If not, it first calls flush,
// which writes the lines before it.
func (s *Session) minerLine(b []byte, flush func()) (line []byte, asItIs bool) {
	if s.agent != nil && b[0] == stratum.AgentMagic {
		message := s.nextMessage(b)
		asItIs, err := s.agentToPool(message, flush)
		if err != nil {
			s.close(err.Error())
		}
		return message, asItIs
	}
	var sc stratum.ScannedLine
	line = sc.ScanNext(b, true)
	if len(line) > stratum.MaxMinerLine {
		s.manager.monitor.tooLong(relay.ErrLineTooLong)
		s.close(relay.ErrLineTooLong.Error())
		return line, false
	}
	if !sc.Whole || sc.Odd || !sc.HasMethodName(line) {
		flush()
		if line[0] == stratum.AgentMagic {
			s.close(errUnlistedAgent.Error())
			return line, false
		}
		s.oddMinerLine(line)
		return line, false
	}
	return line, s.plainMinerLine(line, &sc, flush)
}

// plainMinerLine is minerLine for lines that all readers understand in the same
// way.
func (s *Session) plainMinerLine(line []byte, sc *stratum.ScannedLine, flush func()) bool {
	id := sc.ID(line)
	switch sc.MinerKind(line) {
	case stratum.KindAnswer:
		return s.minerAnswers(line, id, flush)
	case stratum.KindShare:
		if s.routeShare(line) {
			flush()
			return false
		}
		s.rolls(line)
		s.countShare(s.link)
		if s.link.rules != nil || s.link.ownRequests.Find(id) >= 0 {
			flush()
			s.sendShare(s.link, line, nil, 0)
			return false
		}
		s.keepForgotten(s.requests.PushShare(s.link.tag, id, s.link.generationOf(line)))
		return true
	}
	flush()
	if s.minerSpecial(line) {
		return false
	}
	wire, ok := s.wireID(s.link, id)
	if !ok {
		s.miner.Write(s.dialect().AppendError(nil, id, stratum.ErrTooMany, s.manager.ids.server()))
		return false
	}
	if string(sc.Method(line)) == "mining.configure" {
		s.keepForgotten(s.requests.PushMarked(s.link.tag, wire, stratum.MarkConfigure))
	} else {
		s.keepForgotten(s.requests.Push(s.link.tag, wire))
	}
	if !bytes.Equal(wire, id) {
		line = stratum.WithID(line, sc.Members[stratum.MemberID], wire)
	}
	s.link.socket.Write(line)
	return false
}

// minerAnswers handles a miner's answer to a request of a pool, such as
// client.get_version. It goes to the pool that has asked. Some pools close a
// connection on which they get an answer that they did not ask for.
func (s *Session) minerAnswers(line, id []byte, flush func()) (asItIs bool) {
	if id == nil || s.link.ownRequests.TakePoolRequest(id) || s.link.tag == firstTag {
		return true
	}
	flush()
	for _, d := range slices.Backward(s.drains) {
		if d.ownRequests.TakePoolRequest(id) {
			if d.open() {
				d.socket.Write(line)
			}
			break
		}
	}
	return false
}

// sendShare sends a share on a link, changed by the link's rules, and expects its
// answer. poolJob is the pool's ID of the share's job, or nil if the miner knows the
// job by the same ID. late is lateShare if the miner has left the pool that gave the
// job, and otherwise 0.
func (s *Session) sendShare(to *link, line, poolJob []byte, late hashrate.Generation) {
	generation := to.generationOf(line) | late
	if poolJob != nil {
		line = stratum.PutJobID(bytes.Clone(line), 1, poolJob)
	}
	sc := stratum.ScanPoolLine(line)
	id := sc.ID(line)
	wire, ok := s.wireID(to, id)
	if !ok {
		s.refuseShare(to, id, generation, stratum.ErrTooMany)
		return
	}
	aliased := !bytes.Equal(wire, id)
	if aliased {
		line = stratum.WithID(line, sc.Members[stratum.MemberID], wire)
	}
	if to.rules == nil {
		to.socket.Write(line)
	} else if e := s.writeShare(to, line); e != nil {
		if aliased {
			to.ownRequests.Take(wire)
		}
		s.refuseShare(to, id, generation, e)
		return
	}
	s.keepForgotten(s.requests.PushShare(to.tag, wire, generation))
}

// refuseShare answers a share that is sent to no pool.
func (s *Session) refuseShare(to *link, id []byte, generation hashrate.Generation, e *stratum.Error) {
	if generation&lateShare != 0 {
		s.countLate(lateLost)
	}
	s.countRefused(to, to.work.Difficulty(generation), hashrate.RefusalOther)
	if len(id) > 0 {
		s.miner.Write(s.dialect().AppendError(nil, id, e, s.manager.ids.server()))
	}
}

// poolReceived passes complete lines of the pool to the miner.
func (s *Session) poolReceived(b []byte) int {
	end, err := s.completeEnd(b)
	if err == nil && len(b)-end > stratum.MaxPoolLine {
		err = relay.ErrLineTooLong
	}
	if err != nil {
		s.poolLost(err)
		return len(b)
	}
	from, used := 0, s.link
	for at := 0; at < end; {
		line, asItIs := s.poolLine(b[at:end], func() { s.miner.Write(b[from:at]) })
		next := at + len(line)
		if !asItIs {
			from = next
		}
		if s.link != used || !used.open() {
			return len(b) // the link has ended or was replaced
		}
		at = next
	}
	s.miner.Write(b[from:end])
	if s.miner.Congested() {
		s.link.socket.Pause(false)
	}
	return end
}

// poolLine looks at the first line or message of b, which must be complete. It returns
// it and reports whether it goes to the miner unchanged. If not, it first calls flush,
// which writes the lines before it.
func (s *Session) poolLine(b []byte, flush func()) (line []byte, asItIs bool) {
	if line, known := s.loop.job.Next(b); known != nil {
		return line, s.plainPoolLine(line, known, flush)
	}
	if s.agent != nil && b[0] == stratum.AgentMagic {
		message := s.nextMessage(b)
		return message, s.poolMessage(message, flush)
	}
	var sc stratum.ScannedLine
	line = sc.ScanNext(b, false)
	if !sc.Whole || sc.Odd {
		flush()
		plain := s.oddPoolLine(s.link, line)
		if plain == nil {
			switch kind := sc.PoolKind(line); {
			case kind == stratum.KindSetExtranonce:
				s.poolLost(errPoolNoise) // the extranonce may have changed
			case kind == stratum.KindJob && s.link.rules.translates():
				s.poolLost(jobError(line))
			}
			return line, false
		}
		sc = stratum.ScanPoolLine(plain)
		if s.plainPoolLine(plain, &sc, func() {}) {
			s.miner.Write(plain)
		}
		return line, false
	}
	if sc.PoolKind(line) == stratum.KindJob {
		s.loop.job.Remember(line, &sc)
	}
	return line, s.plainPoolLine(line, &sc, flush)
}

// poolMessage is poolLine for a binary message to an agent.
func (s *Session) poolMessage(message []byte, flush func()) (asItIs bool) {
	if message[1] == hashrate.AgentDifficulty {
		s.recordAgentDifficulty(message)
	}
	if message[1] != stratum.AgentAnswer {
		return true
	}
	now := s.agentAnswered(s.link, message)
	if now && s.agent.holding == 0 {
		return true
	}
	flush()
	if now {
		s.miner.Write(message)
	}
	s.releaseAgentAnswers()
	return false
}

// formerAnswer returns what the miner is sent now for a line of a former link, or nil if
// the line is dropped or has to wait.
func (s *Session) formerAnswer(former *link, line []byte) []byte {
	sc := stratum.ScanPoolLine(line)
	if !sc.Whole || sc.Odd {
		if line = s.oddPoolLine(former, line); line == nil {
			return nil
		}
		sc = stratum.ScanPoolLine(line)
	}
	if sc.PoolKind(line) != stratum.KindAnswer {
		return nil
	}
	return s.answered(former, s.plainAnswer(line, &sc), &sc)
}

// plainPoolLine is poolLine for lines that all readers understand in the same way.
func (s *Session) plainPoolLine(line []byte, sc *stratum.ScannedLine, flush func()) bool {
	switch kind := sc.PoolKind(line); kind {
	case stratum.KindAnswer:
		if s.link.ownRequests.Former > 0 && isFormerOwnID(sc.ID(line)) {
			s.link.ownRequests.Former--
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
	case stratum.KindJob:
		s.gotJob()
		s.recordJobDifficulty(line)
		if newID := s.recordJob(line, sc); newID != nil || s.link.rules != nil {
			flush()
			if err := s.writeJob(line, newID); err != nil {
				s.poolLost(err)
			}
			return false
		}
	case stratum.KindDifficulty, stratum.KindTarget:
		s.recordDifficulty(kind, line)
		if s.link.difficultyDue != nil && setsDifficulty(kind, line) {
			s.stopAwaitingDifficulty()
		}
	case stratum.KindVersionMask, stratum.KindSetExtranonce, stratum.KindReconnect:
		flush()
		s.poolSpecial(kind, line)
		return false
	case stratum.KindOther:
		if usual := sc.WithUsualMethod(line); usual != nil {
			flush()
			again := stratum.ScanPoolLine(usual)
			if s.plainPoolLine(usual, &again, func() {}) {
				s.miner.Write(usual)
			}
			return false
		}
		s.link.ownRequests.AddPoolRequest(sc.ID(line))
	}
	return true
}

// isFormerOwnID reports whether an answer has an id that earlier builds used for
// their own requests. Such a request may be unanswered on a link that was taken over
// in an upgrade.
func isFormerOwnID(id []byte) bool {
	switch string(id) {
	case stratum.FormerConfigure, stratum.FormerSuggest, stratum.FormerWorker:
		return true
	}
	return false
}
