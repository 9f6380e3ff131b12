package main

import (
	"bytes"
	"slices"
)

// A session keeps the ids of the miner's unanswered requests in order, each
// with the link that it went to. So each answer reaches the miner once and in
// order, even if requests with the same id are under way at two pools, and
// requests that were lost with a pool are answered with an error.

const (
	// maxRequestID is the longest id that is kept. Answers to longer ids are
	// passed on as they come.
	maxRequestID = 64

	// maxRequests bounds the bytes of the ids kept of one session.
	maxRequests = 16 << 10

	// maxHeld bounds the bytes of answers that wait for another pool's. Beyond
	// it the order is given up, because a pool could answer one request without
	// end.
	maxHeld = 64 << 10
)

var errPoolConnectionLost = &stratumError{20, "Pool connection lost"}

// requestQueue holds each request as its link tag, the length of its id
// combined with shareBit, and the id. An empty queue keeps its memory for the
// next request.
type requestQueue struct{ b []byte }

// shareBit marks the length of a share's id.
const shareBit = 0x80

// push adds a request. If there is no room, the oldest requests other than
// shares are dropped, because some pools never answer them.
func (q *requestQueue) push(tag linkTag, id []byte, share bool) {
	if len(id) == 0 || len(id) > maxRequestID {
		return
	}
	if need := len(q.b) + 2 + len(id) - maxRequests; need > 0 && !q.dropOthers(need) {
		return
	}
	size := byte(len(id))
	if share {
		size |= shareBit
	}
	q.b = append(q.b, byte(tag), size)
	q.b = append(q.b, id...)
}

// dropOthers makes room for need bytes by dropping the oldest requests that are
// not shares. It reports whether there were enough of them; if not, it drops
// none.
func (q *requestQueue) dropOthers(need int) bool {
	room := 0
	for at := 0; at < len(q.b) && room < need; at += 2 + int(q.b[at+1]&^shareBit) {
		if q.b[at+1]&shareBit == 0 {
			room += 2 + int(q.b[at+1])
		}
	}
	if room < need {
		return false
	}
	for at := 0; need > 0; {
		size := 2 + int(q.b[at+1]&^shareBit)
		if q.b[at+1]&shareBit != 0 {
			at += size
			continue
		}
		q.remove(at)
		need -= size
	}
	return true
}

// find returns the position of the link's first request with this id, or -1,
// and whether another link's request with the same id comes before it. If no id
// is spelled the same, an id of the same value matches.
func (q *requestQueue) find(tag linkTag, id []byte) (at int, after bool) {
	for at = 0; at < len(q.b); {
		size := int(q.b[at+1] &^ shareBit)
		if size == len(id) && bytes.Equal(q.b[at+2:at+2+size], id) {
			if linkTag(q.b[at]) == tag {
				return at, after
			}
			after = true
		}
		at += 2 + size
	}
	return q.findValue(tag, id)
}

func (q *requestQueue) findValue(tag linkTag, id []byte) (at int, after bool) {
	for at = 0; at < len(q.b); at += 2 + int(q.b[at+1]&^shareBit) {
		if !sameID(q.id(at), id) {
			continue
		}
		if linkTag(q.b[at]) == tag {
			return at, after
		}
		after = true
	}
	return -1, false
}

// id is the id of the request at position at.
func (q *requestQueue) id(at int) []byte { return q.b[at+2 : at+2+int(q.b[at+1]&^shareBit)] }

// remove drops the request at position at and reports whether it was a share.
func (q *requestQueue) remove(at int) (share bool) {
	size := q.b[at+1]
	q.b = append(q.b[:at], q.b[at+2+int(size&^shareBit):]...)
	return size&shareBit != 0
}

// shares is how many of the link's shares are unanswered.
func (q *requestQueue) shares(tag linkTag) int {
	n := 0
	for at := 0; at < len(q.b); at += 2 + int(q.b[at+1]&^shareBit) {
		if linkTag(q.b[at]) == tag && q.b[at+1]&shareBit != 0 {
			n++
		}
	}
	return n
}

// validRequests reports whether b, from a state file, is the content of a
// queue.
func validRequests(b []byte) bool {
	at := 0
	for at < len(b) {
		if at+2 > len(b) {
			return false
		}
		at += 2 + int(b[at+1]&^shareBit)
	}
	return at == len(b)
}

// heldAnswer waits for the answer to an earlier request with the same id at
// another pool.
type heldAnswer struct {
	tag  linkTag
	id   []byte
	line []byte
}

// answered notes an answer that a link received. It returns the line to send to
// the miner, with the miner's own id. It returns nil if the answer has to wait,
// answers no request of a former link, or answers a request of the switcher.
func (s *Session) answered(from *link, line []byte, sc *scannedLine) []byte {
	id, tag, own := sc.id(line), from.tag, from.own
	var alias []byte
	if r, ok := own.take(id); ok {
		if r.Alias == nil {
			if r.Configure && from == s.link {
				s.configuredLate(line)
			}
			if r.Capabilities {
				s.agent.link(tag).capabilities(line)
			}
			return nil
		}
		id, alias = ownIDText(r.ID), r.Alias
	}
	at, after := -1, false
	if len(id) > 0 {
		at, after = s.requests.find(tag, id)
	}
	if from == s.link && s.manager.chain == chainEthereum && answerJobID(line) != nil {
		s.gotJob()
		s.answerJobNoted(line)
	}
	if at < 0 && alias == nil {
		// ETHProxy pools send jobs as answers, and long ids are not kept.
		if (from == s.link || len(id) > maxRequestID) && !own.issued(id) {
			return line
		}
		return nil
	}
	if at >= 0 && alias == nil && !bytes.Equal(s.requests.id(at), id) {
		id = bytes.Clone(s.requests.id(at))
		alias = id
	}
	if alias != nil {
		line = withID(line, sc.members[memberID], alias)
		*sc = scanPoolLine(line)
	}
	if at < 0 {
		return line // the request was dropped for lack of room
	}
	if after && s.heldBytes()+len(line) <= maxHeld {
		s.held = append(s.held, heldAnswer{tag, bytes.Clone(id), bytes.Clone(line)})
		return nil
	}
	if s.requests.remove(at) {
		s.countShareAnswer(tag, accepts(sc.value(line, memberResult), sc.value(line, memberError)))
	}
	return line
}

func (s *Session) heldBytes() int {
	n := 0
	for _, h := range s.held {
		n += len(h.line)
	}
	return n
}

// releaseHeld sends the answers whose turn has come.
func (s *Session) releaseHeld() {
	for i := 0; i < len(s.held); {
		h := s.held[i]
		at, after := s.requests.find(h.tag, h.id)
		if after {
			i++
			continue
		}
		if at >= 0 {
			if s.requests.remove(at) {
				s.countVerdict(h.tag, h.line)
			}
			s.miner.Write(h.line)
		}
		s.held = slices.Delete(s.held, i, i+1)
		i = 0
	}
}

// failRequests answers the requests that an ended link can no longer answer
// with errors.
func (s *Session) failRequests(ended *link) {
	tag, own := ended.tag, ended.own
	s.failAgentShares(tag)
	if len(s.requests.b) == 0 {
		return
	}
	// Requests whose answers have come but have to wait keep the pool's
	// answers.
	held := make(map[string]int)
	for _, h := range s.held {
		if h.tag == tag {
			held[string(h.id)]++
		}
	}
	var out []byte
	for q, at := &s.requests, 0; at < len(q.b); {
		next := at + 2 + int(q.b[at+1]&^shareBit)
		id := q.b[at+2 : next]
		if linkTag(q.b[at]) != tag {
			at = next
			continue
		}
		if held[string(id)] > 0 {
			held[string(id)]--
			at = next
			continue
		}
		server := s.manager.ids.server()
		if _, after := q.find(tag, id); after {
			// The answer to another link's request with this id has to come
			// first.
			q.b[at+1] &^= shareBit // a pool did not judge this share
			line := s.dialect().appendError(nil, own.minersID(id), errPoolConnectionLost, server)
			s.held = append(s.held, heldAnswer{tag, bytes.Clone(id), line})
			at = next
			continue
		}
		out = s.dialect().appendError(out, own.minersID(id), errPoolConnectionLost, server)
		q.remove(at)
	}
	s.miner.Write(out)
	if len(s.held) > 0 {
		s.releaseHeld()
	}
}
