package main

import (
	"encoding/binary"
	"slices"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// An agent that has asked for answers gets one for each binary share: the
// share's number (2 bytes) and a status (4 bytes). The agent counts all shares
// of its connection, while a pool counts only those that it received. After a
// switch the two numbers differ, so each answer gets the agent's number before it
// is passed on. If a pool does not answer, the switcher answers in its place.

const (
	// maxAgentShares bounds the shares of a link that wait for an answer, because
	// their numbers have only 16 bits. It also bounds the answers that wait for
	// other answers.
	maxAgentShares = 1 << 15

	// agentSilence is how many seconds a pool that promised answers may leave its
	// first share unanswered. After that, it counts as a pool that does not
	// answer.
	agentSilence = 10

	// agentOvertaken is how many seconds a share may stay unanswered after the pool has
	// answered a later one. A pool may answer shares that it refuses at once before
	// those that it still checks, but not by so much.
	agentOvertaken = 2
)

// agentLink is what one pool connection owes an agent.
type agentLink struct {
	tag     stratum.LinkTag
	answers bool   // the pool has promised to answer shares
	proved  bool   // the pool has answered a share
	next    uint16 // the pool's number of the next share
	since   uint32 // when the first of waiting was sent, by Session.now

	// waiting has the last shares that were sent, up to next. The first one is
	// unanswered.
	waiting  []agentWaiting
	answered int    // how many of waiting are answered; they have overtaken the first one
	overtook uint32 // since when that is so, by Session.now

	miners hashrate.AgentMiners // the miners' difficulties
	held   []agentHeld          // answers that wait for those to earlier shares at other pools
}

// agentWaiting is a share that was sent to a pool.
type agentWaiting struct {
	Number     uint32 // as the agent counts
	Answered   bool
	Late       bool                `json:",omitempty"` // the job is of a pool that the agent has left
	Difficulty hashrate.Difficulty `json:",omitempty"`
}

// agentHeld is an answer that waits for the answers to earlier shares.
type agentHeld struct {
	Number uint32
	Status stratum.AgentStatus
}

// open adds a link. It is a no-op on nil.
func (w *agentWorkers) open(tag stratum.LinkTag, answers bool) {
	if w == nil {
		return
	}
	w.links = slices.DeleteFunc(w.links, func(l *agentLink) bool {
		return l.tag == tag || len(l.waiting) == 0 && len(l.held) == 0 && !l.answers
	})
	w.links = append(w.links, &agentLink{tag: tag, answers: answers})
}

// link returns the link with this tag, or nil. It returns nil on nil.
func (w *agentWorkers) link(tag stratum.LinkTag) *agentLink {
	if w != nil {
		for _, l := range w.links {
			if l.tag == tag {
				return l
			}
		}
	}
	return nil
}

// owes reports whether the link has shares to answer.
func (w *agentWorkers) owes(tag stratum.LinkTag) bool {
	l := w.link(tag)
	return l != nil && len(l.waiting) > 0
}

// follows reports whether another link has to answer an earlier share first. It
// returns false when too many answers wait, and the order is no longer kept.
func (w *agentWorkers) follows(l *agentLink, number uint32) bool {
	if w.holding >= maxAgentShares {
		return false
	}
	for _, other := range w.links {
		if other != l && len(other.waiting) > 0 && int32(other.waiting[0].Number-number) < 0 {
			return true
		}
	}
	return false
}

// agentShare sends an agent's binary share to the pool that gave its job. It
// reports whether the share goes to the pool in use unchanged; the caller then
// sends it. If not, agentShare first calls flush, which writes what came before.
func (s *Session) agentShare(message []byte, flush func()) (asItIs bool) {
	w := s.agent
	number := w.next
	w.next++
	session, ok := s.manager.chain.AgentShareSession(message)
	if !ok {
		s.countShare(s.link)
		return true // the pool cannot read this share and does not count it
	}
	if _, known := w.messages[session]; !known && w.registered {
		// The miner has left. sserver neither answers nor counts its shares.
		flush()
		s.countShare(s.link)
		s.answerAgent(&w.unrouted, number, stratum.StatusUnauthorized)
		return false
	}
	var buf [2 * 32]byte
	job := s.manager.chain.AgentShareJob(buf[:0], message) // before it gets the pool's number
	to, late := s.routeAgentShare(message, job)
	s.countShare(to)
	if to == s.link {
		s.agentShareSent(to, number, late, s.agentDifficulty(to, session, job))
		return true
	}
	flush()
	if !to.open() {
		if late {
			s.countLate(lateLost)
		}
		s.answerAgent(&w.unrouted, number, stratum.StatusUnknown)
		return false
	}
	to.socket.Write(message)
	s.agentShareSent(to, number, late, s.agentDifficulty(to, session, job))
	return false
}

// routeAgentShare returns the link whose pool gave the share's job, and puts that
// pool's number of the job into the share. late is true for a job of a
// pool that the agent has left.
func (s *Session) routeAgentShare(message, job []byte) (to *link, late bool) {
	to = s.link
	if len(s.drains) == 0 && to.jobs.Unrenamed() && !s.countsLate() {
		return to, false
	}
	poolJob, here := to.jobs.Find(job)
	if !here {
		var former *link
		if former, poolJob = s.formerLinkGiving(job); former != nil {
			to, late = former, s.lateMark(former) != 0
		} else {
			late = s.countsLate()
		}
	}
	if number, ok := stratum.JobNumber(poolJob); ok {
		message[stratum.AgentHeader] = number
	}
	return to, late
}

// agentShareSent records a share that was sent on a link.
func (s *Session) agentShareSent(to *link, number uint32, late bool, d hashrate.Difficulty) {
	l := s.agent.link(to.tag)
	if l != nil {
		l.next++
	}
	if !s.agent.wantsAnswers {
		s.countUnanswered(to, late)
		return
	}
	if l == nil {
		s.countUnanswered(to, late)
		s.answerAgent(&s.agent.unrouted, number, stratum.StatusAccept)
		return
	}
	if l.answers && !l.proved && len(l.waiting) > 0 && s.now()-l.since >= agentSilence && !to.socket.HasMore() {
		l.answers = false
		for _, share := range l.waiting {
			if !share.Answered {
				s.countUnanswered(to, share.Late)
			}
		}
		s.giveUpAnswers(l, stratum.StatusAccept)
	}
	if !l.answers {
		s.countUnanswered(to, late)
		// Without answers, an agent also tells its miners that their shares are accepted.
		s.answerAgent(l, number, stratum.StatusAccept)
		return
	}
	if len(l.waiting) == 0 {
		l.since = s.now()
	}
	if l.waiting = append(l.waiting, agentWaiting{number, false, late, d}); len(l.waiting) > maxAgentShares {
		first := l.waiting[0]
		l.answer(0, s.now())
		l.trim(s.now())
		s.countUnanswered(to, first.Late)
		s.answerAgent(l, first.Number, stratum.StatusAccept)
	}
}

// answer marks a share of waiting as answered.
func (l *agentLink) answer(at int, now uint32) {
	if l.waiting[at].Answered = true; l.answered == 0 {
		l.overtook = now
	}
	l.answered++
}

// trim drops the answered shares at the front of waiting.
func (l *agentLink) trim(now uint32) {
	n := 0
	for n < len(l.waiting) && l.waiting[n].Answered {
		n++
	}
	l.waiting = l.waiting[n:]
	if l.answered -= n; n > 0 {
		l.overtook = now
	}
}

// giveUpOvertaken answers, in place of their pools, shares that were left unanswered although
// their pool answered later ones agentOvertaken seconds ago. The answers of the next pool
// would have to wait for them until the drain ends.
func (s *Session) giveUpOvertaken() {
	s.answerOvertaken(s.link)
	for _, d := range slices.Clone(s.drains) {
		if s.answerOvertaken(d.link) && d.ending && !d.owes() {
			d.lose()
		}
	}
}

// answerOvertaken is giveUpOvertaken for one link. It reports whether it answered a share.
func (s *Session) answerOvertaken(from *link) bool {
	l, now := s.agent.link(from.tag), s.now()
	if l == nil || l.answered == 0 || now-l.overtook < agentOvertaken {
		return false
	}
	var numbers []uint32
	for at, left := 0, l.answered; left > 0; at++ {
		if share := l.waiting[at]; share.Answered {
			left--
		} else {
			l.answer(at, now)
			s.countUnanswered(from, share.Late)
			numbers = append(numbers, share.Number)
		}
	}
	l.trim(now)
	for _, number := range numbers {
		s.answerAgent(l, number, stratum.StatusAccept)
	}
	s.releaseAgentAnswers()
	return true
}

// agentAnswered puts the agent's number of the share into a pool's answer. It
// reports whether the answer may go to the agent now. If an earlier share at
// another pool is unanswered, the answer is held; if it answers no share, it is
// dropped.
func (s *Session) agentAnswered(from *link, answer []byte) bool {
	if !s.agent.wantsAnswers {
		return true
	}
	l := s.agent.link(from.tag)
	if l == nil || len(answer) != stratum.AgentAnswerSize {
		return false
	}
	number, status := answer[stratum.AgentHeader:][:2], stratum.AgentStatus(binary.LittleEndian.Uint32(answer[stratum.AgentHeader+2:]))
	at := len(l.waiting) - int(l.next-binary.LittleEndian.Uint16(number))
	if at < 0 || at >= len(l.waiting) || l.waiting[at].Answered {
		return false
	}
	l.proved = true
	share := &l.waiting[at]
	l.answer(at, s.now())
	if share.Late {
		s.countLateAnswer(from, status.Accepted())
	}
	if status.Accepted() {
		s.countAccepted(from, share.Difficulty)
	} else {
		s.countRefused(from, share.Difficulty, hashrate.RefusalOfCode(int(status)))
	}
	if s.agent.follows(l, share.Number) {
		s.agent.hold(l, share.Number, status)
		l.trim(s.now())
		return false
	}
	binary.LittleEndian.PutUint16(number, uint16(share.Number))
	l.trim(s.now())
	return true
}

func (w *agentWorkers) hold(l *agentLink, number uint32, status stratum.AgentStatus) {
	l.held = append(l.held, agentHeld{number, status})
	w.holding++
}

// releaseAgentAnswers sends the held answers that no longer have to wait.
func (s *Session) releaseAgentAnswers() {
	w := s.agent
	var out []byte
	for w.holding > 0 {
		var first *agentLink
		if len(w.unrouted.held) > 0 {
			first = &w.unrouted
		}
		for _, l := range w.links {
			if len(l.held) > 0 && (first == nil || int32(l.held[0].Number-first.held[0].Number) < 0) {
				first = l
			}
		}
		if first == nil || w.follows(first, first.held[0].Number) {
			break
		}
		out = stratum.AppendAgentAnswer(out, first.held[0].Number, first.held[0].Status)
		first.held = first.held[1:]
		w.holding--
	}
	if len(out) > 0 {
		s.miner.Write(out)
	}
}

// failAgentShares answers the shares that an ended link leaves unanswered. It is
// a no-op for miners that are not agents.
func (s *Session) failAgentShares(tag stratum.LinkTag) {
	if l := s.agent.link(tag); l != nil {
		l.answers = false
		for _, share := range l.waiting {
			if share.Late && !share.Answered {
				s.countLate(lateLost)
			}
		}
		s.giveUpAnswers(l, stratum.StatusUnknown)
	}
}

// giveUpAnswers answers all unanswered shares of a link in place of its pool.
func (s *Session) giveUpAnswers(l *agentLink, status stratum.AgentStatus) {
	waiting := l.waiting
	l.waiting, l.answered = nil, 0
	var out []byte
	for _, share := range waiting {
		switch {
		case share.Answered || !s.agent.wantsAnswers:
		case s.agent.follows(l, share.Number):
			s.agent.hold(l, share.Number, status)
		default:
			out = stratum.AppendAgentAnswer(out, share.Number, status)
		}
	}
	if len(out) > 0 {
		s.miner.Write(out)
	}
	s.releaseAgentAnswers()
}

// answerAgent answers a share in place of a pool. l is the link that the share was
// sent on, or agentWorkers.unrouted if it was sent nowhere.
func (s *Session) answerAgent(l *agentLink, number uint32, status stratum.AgentStatus) {
	if !s.agent.wantsAnswers {
		return
	}
	if s.agent.follows(l, number) {
		s.agent.hold(l, number, status)
		return
	}
	s.miner.Write(stratum.AppendAgentAnswer(nil, number, status))
}
