package main

import (
	"bytes"
	"slices"
)

// A session keeps the ids of the miner's requests that are not answered yet,
// in request order and with the link each went to. So an answer reaches the
// miner once and in the right order also when requests of one id are under way
// at two pools, and requests that went down with a pool are answered with an
// error instead of never.

const (
	// maxRequestID is the longest id that is kept; answers to others are
	// passed on as they come.
	maxRequestID = 64

	// maxRequests bounds the bytes of the ids kept of one session.
	maxRequests = 16 << 10

	// maxHeld bounds the bytes of answers that wait for another pool's. Beyond
	// it order is given up: a pool could answer one request without end.
	maxHeld = 64 << 10
)

var errPoolConnectionLost = &stratumError{20, "Pool connection lost"}

// requestQueue holds requests as tag, length of the id with shareBit, id. The
// memory of an empty queue is kept for the next request.
type requestQueue struct{ b []byte }

// shareBit marks the length of a share's id.
const shareBit = 0x80

// push keeps a request. If there is no room, the oldest requests that are no
// shares go: some pools never answer them.
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

// dropOthers makes room for so many bytes, by the oldest requests that are no
// shares. It reports whether there were enough of them; if not, all stay.
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

// find returns where the first request of this link and id stands, -1 if there
// is none, and whether another link's request of the same id comes before it.
// If none has the id as it is written, that is one whose id has its value.
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

// id is the id of the request that stands at at.
func (q *requestQueue) id(at int) []byte { return q.b[at+2 : at+2+int(q.b[at+1]&^shareBit)] }

// remove drops the request that stands at at and reports whether it was a share.
func (q *requestQueue) remove(at int) (share bool) {
	size := q.b[at+1]
	q.b = append(q.b[:at], q.b[at+2+int(size&^shareBit):]...)
	return size&shareBit != 0
}

// shares is how many shares of a link are there.
func (q *requestQueue) shares(tag linkTag) int {
	n := 0
	for at := 0; at < len(q.b); at += 2 + int(q.b[at+1]&^shareBit) {
		if linkTag(q.b[at]) == tag && q.b[at+1]&shareBit != 0 {
			n++
		}
	}
	return n
}

// valid says whether b, from a state file, is the content of a queue.
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

// answered notes an answer of a link. It returns the line as the miner gets it
// now, with the id that the miner sent; nil if it is kept, was never asked for
// at a former link, or answers a request of the switcher.
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
		id, alias = appendOwnID(nil, r.ID), r.Alias
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
		return line // there was no room to keep the request
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

// failRequests answers what a link that has ended will not answer.
func (s *Session) failRequests(ended *link) {
	tag, own := ended.tag, ended.own
	s.failAgentShares(tag)
	if len(s.requests.b) == 0 {
		return
	}
	// Answers that have come but wait are the link's own.
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
			// The miner has to hear of another link's request first.
			q.b[at+1] &^= shareBit // this is no pool's verdict
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
