package main

import (
	"bytes"
	"slices"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// A session keeps the ids of the miner's unanswered requests in order, each with the
// link on which it was sent. Each answer therefore reaches the miner once and in order,
// even if two pools have requests with the same id. Requests that were lost with a pool
// are answered with an error.

// maxHeld bounds the bytes of answers that wait for another pool's answer. Answers
// beyond it are passed on out of order, because a pool could answer one request again
// and again.
const maxHeld = 64 << 10

// heldAnswer waits for the answer to an earlier request with the same id at
// another pool.
type heldAnswer struct {
	tag  stratum.LinkTag
	id   []byte
	line []byte
}

// answered handles an answer that a link received. It returns the line to send to
// the miner, with the miner's own id. It returns nil if the answer has to wait, if
// it is for a request of the switcher, or if it came on a former link and answers no
// request.
func (s *Session) answered(from *link, line []byte, sc *stratum.ScannedLine) []byte {
	id, tag, ownRequests := sc.ID(line), from.tag, &from.ownRequests
	var alias []byte
	if ownRequests.Has(id) {
		if id, alias = s.ownAnswered(from, line, id); alias == nil {
			return nil
		}
	}
	at, after := -1, false
	if len(id) > 0 {
		at, after = s.requests.Find(tag, id)
	}
	if from == s.link && s.manager.chain == stratum.Ethereum && stratum.AnswerJobID(line) != nil {
		s.gotJob()
		s.recordAnswerJob(line)
	}
	if at < 0 && alias == nil {
		// ETHProxy pools send jobs as answers, and long ids are not kept.
		s.workerAnswered(tag, id, line, sc)
		if (from == s.link || len(id) > stratum.MaxRequestID) && !ownRequests.Issued(id) {
			return line
		}
		return nil
	}
	if at >= 0 && alias == nil && !bytes.Equal(s.requests.ID(at), id) {
		id = bytes.Clone(s.requests.ID(at))
		alias = id
	}
	if alias != nil {
		line = stratum.WithID(line, sc.Members[stratum.MemberID], alias)
		*sc = stratum.ScanPoolLine(line)
	}
	if at < 0 {
		s.workerAnswered(tag, id, line, sc)
		return line // the queue had no room for the request
	}
	switch s.requests.MarkAt(at) {
	case stratum.MarkAuthorize:
		s.workerAnswered(tag, id, line, sc)
		line = s.consent(line, sc)
	case stratum.MarkConfigure:
		from.configureAnswered(line)
	}
	if after && s.heldBytes()+len(line) <= maxHeld {
		s.held = append(s.held, heldAnswer{tag, bytes.Clone(id), bytes.Clone(line)})
		return nil
	}
	if generation, share := s.requests.Remove(at); share {
		s.countAnswer(from, generation, line, sc)
	}
	return line
}

// ownAnswered handles an answer that has one of the switcher's ids. If the request is the
// miner's, it returns the id with which the request was sent, and the miner's own id as
// alias. If the request is the switcher's own, alias is nil.
func (s *Session) ownAnswered(from *link, line, id []byte) (sent, alias []byte) {
	r, _ := from.ownRequests.Take(id)
	if r.Remembered() {
		return r.Alias, r.Alias
	}
	if r.Alias != nil {
		return stratum.OwnIDText(r.ID), r.Alias
	}
	if r.Configure && from == s.link {
		s.configuredLate(line)
	}
	if r.Capabilities {
		s.agent.link(from.tag).capabilities(line)
	}
	return nil, nil
}

// consent returns the answer to the authorization of a further worker as the miner
// gets it. P2Pool answers with neither an error nor a result, which not all miners
// take for consent.
func (s *Session) consent(line []byte, sc *stratum.ScannedLine) []byte {
	if sc.Has(line, stratum.MemberResult) || !stratum.NoError(sc.Value(line, stratum.MemberError)) {
		return line
	}
	line = s.dialect().AppendResult(nil, sc.ID(line), []byte("true"))
	*sc = stratum.ScanPoolLine(line)
	return line
}

func (s *Session) heldBytes() int {
	n := 0
	for _, h := range s.held {
		n += len(h.line)
	}
	return n
}

// releaseHeld sends the held answers that no longer have to wait.
func (s *Session) releaseHeld() {
	for i := 0; i < len(s.held); {
		h := s.held[i]
		at, after := s.requests.Find(h.tag, h.id)
		if after {
			i++
			continue
		}
		if at >= 0 {
			if generation, share := s.requests.Remove(at); share {
				sc := stratum.ScanPoolLine(h.line)
				s.countAnswer(s.linkTagged(h.tag), generation, h.line, &sc)
			}
			s.miner.Write(h.line)
		}
		s.held = slices.Delete(s.held, i, i+1)
		i = 0
	}
}

// failRequests answers with an error each request that was lost with an ended link.
func (s *Session) failRequests(ended *link) {
	s.failRequestsWith(ended, stratum.ErrPoolConnectionLost)
}

// failRequestsWith is failRequests with this error.
func (s *Session) failRequestsWith(ended *link, e *stratum.Error) {
	tag, ownRequests := ended.tag, &ended.ownRequests
	s.failAgentShares(tag)
	if s.requests.Size() == 0 {
		return
	}
	// Requests whose answers are held get these later.
	held := make(map[string]int)
	for _, h := range s.held {
		if h.tag == tag {
			held[string(h.id)]++
		}
	}
	var out []byte
	for q, at := &s.requests, 0; at < q.Size(); {
		of, id, next := q.At(at)
		if of != tag {
			at = next
			continue
		}
		if held[string(id)] > 0 {
			held[string(id)]--
			at = next
			continue
		}
		if q.MarkAt(at) == stratum.MarkAuthorize && s.askedAs(tag, id) != nil {
			at = next // the next link's pool answers it
			continue
		}
		server := s.manager.ids.server()
		if _, after := q.Find(tag, id); after {
			// The answer to another link's request with this id has to come
			// first.
			s.countLateLost(q.ClearShare(at)) // no pool has judged this share
			line := s.dialect().AppendError(nil, ownRequests.MinersID(id), e, server)
			s.held = append(s.held, heldAnswer{tag, bytes.Clone(id), line})
			at = next
			continue
		}
		out = s.dialect().AppendError(out, ownRequests.MinersID(id), e, server)
		generation, share := q.Remove(at)
		s.countLateLost(generation, share)
	}
	s.miner.Write(out)
	if len(s.held) > 0 {
		s.releaseHeld()
	}
}

// keepForgotten remembers the requests for which the queue had no room and whose answers
// would otherwise be dropped. It is a no-op on nil.
func (s *Session) keepForgotten(forgotten *stratum.RequestQueue) {
	if forgotten != nil {
		s.rememberOnLinks(forgotten)
	}
}

func (s *Session) rememberOnLinks(forgotten *stratum.RequestQueue) {
	for at := 0; at < forgotten.Size(); {
		tag, id, next := forgotten.At(at)
		s.linkTagged(tag).ownRequests.Remember(id)
		at = next
	}
}

// wireID returns the id with which a miner's request is sent on a link. Usually that
// is the miner's id. It is another one while a request of the switcher with the same
// id is unanswered. wireID reports false if no id is left.
func (s *Session) wireID(to *link, id []byte) ([]byte, bool) {
	o := &to.ownRequests
	if !o.Has(id) {
		return id, true
	}
	return o.Alias(id, func(fresh []byte) bool {
		at, _ := s.requests.Find(to.tag, fresh)
		return at >= 0 // an unanswered request of the miner has this id
	})
}
