package stratum

import "bytes"

const (
	// MaxRequestID is the longest id that is kept. Answers to longer ids are
	// passed on as they come.
	MaxRequestID = 64

	// MaxRequests bounds the bytes of the ids kept of one session.
	MaxRequests = 16 << 10
)

// RequestQueue holds each request as its link tag, the length of its id
// combined with shareBit, and the id. An empty queue keeps its memory for the
// next request.
type RequestQueue struct{ b []byte }

// shareBit marks the length of a share's id.
const shareBit = 0x80

// Push adds a request. If there is no room, the oldest requests other than
// shares are dropped, because some pools never answer them.
func (q *RequestQueue) Push(tag LinkTag, id []byte, share bool) {
	if len(id) == 0 || len(id) > MaxRequestID {
		return
	}
	if need := len(q.b) + 2 + len(id) - MaxRequests; need > 0 && !q.dropOthers(need) {
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
func (q *RequestQueue) dropOthers(need int) bool {
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
		q.Remove(at)
		need -= size
	}
	return true
}

// Find returns the position of the link's first request with this id, or -1,
// and whether another link's request with the same id comes before it. If no id
// is spelled the same, an id of the same value matches.
func (q *RequestQueue) Find(tag LinkTag, id []byte) (at int, after bool) {
	for at = 0; at < len(q.b); {
		size := int(q.b[at+1] &^ shareBit)
		if size == len(id) && bytes.Equal(q.b[at+2:at+2+size], id) {
			if LinkTag(q.b[at]) == tag {
				return at, after
			}
			after = true
		}
		at += 2 + size
	}
	return q.findValue(tag, id)
}

func (q *RequestQueue) findValue(tag LinkTag, id []byte) (at int, after bool) {
	for at = 0; at < len(q.b); at += 2 + int(q.b[at+1]&^shareBit) {
		if !SameID(q.ID(at), id) {
			continue
		}
		if LinkTag(q.b[at]) == tag {
			return at, after
		}
		after = true
	}
	return -1, false
}

// ID is the id of the request at position at.
func (q *RequestQueue) ID(at int) []byte { return q.b[at+2 : at+2+int(q.b[at+1]&^shareBit)] }

// Remove drops the request at position at and reports whether it was a share.
func (q *RequestQueue) Remove(at int) (share bool) {
	size := q.b[at+1]
	q.b = append(q.b[:at], q.b[at+2+int(size&^shareBit):]...)
	return size&shareBit != 0
}

// Shares is how many of the link's shares are unanswered.
func (q *RequestQueue) Shares(tag LinkTag) int {
	n := 0
	for at := 0; at < len(q.b); at += 2 + int(q.b[at+1]&^shareBit) {
		if LinkTag(q.b[at]) == tag && q.b[at+1]&shareBit != 0 {
			n++
		}
	}
	return n
}

// Size is the end of what at may be given.
func (q *RequestQueue) Size() int { return len(q.b) }

// At reads the request that stands at i, and where the next one stands.
func (q *RequestQueue) At(i int) (tag LinkTag, id []byte, next int) {
	next = i + 2 + int(q.b[i+1]&^shareBit)
	return LinkTag(q.b[i]), q.b[i+2 : next], next
}

// ClearShare has the request that stands at at count as no share any more.
func (q *RequestQueue) ClearShare(at int) { q.b[at+1] &^= shareBit }

// State is the queue's content, for NewRequestQueue.
func (q *RequestQueue) State() []byte { return q.b }

// NewRequestQueue takes a queue's content out of a state file. What is none
// gives an empty queue.
func NewRequestQueue(b []byte) (q RequestQueue) {
	if validRequests(b) {
		q.b = b
	}
	return q
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

// LinkTag tells a session's links apart. Requests that wait for an answer carry
// the tag of the link they went to.
type LinkTag uint8
