package stratum

import (
	"bytes"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

const (
	// MaxRequestID is the length of the longest id that is stored. Answers with
	// longer ids are passed on without further checks.
	MaxRequestID = 64

	// MaxRequests bounds the bytes that the queue of one session may use.
	MaxRequests = 16 << 10
)

// RequestQueue holds the unanswered requests of a session. Each request is stored as
// four fields: the tag of its link (1 byte), the length of its id combined with
// shareBit (1 byte), the generation of a share's job or a RequestMark (1 byte), and
// the id. An empty queue keeps its memory for the next request.
type RequestQueue struct{ b []byte }

// requestHead is the size of the fields that are stored before an id.
const requestHead = 3

// shareBit is set in the length of an id if the request is a share.
const shareBit = 0x80

// RequestMark tells the kinds of requests apart that are not shares and whose answers
// the session has to read. It is stored in place of a generation.
type RequestMark uint8

const (
	MarkAuthorize RequestMark = iota + 1 // mining.authorize of an additional worker
	MarkConfigure                        // mining.configure
)

// PushMarked is Push for a request with a mark.
func (q *RequestQueue) PushMarked(tag LinkTag, id []byte, mark RequestMark) (forgotten *RequestQueue) {
	return q.add(tag, id, 0, hashrate.Generation(mark))
}

// MarkAt returns the mark of the request at position at, or 0 if it has none.
func (q *RequestQueue) MarkAt(at int) RequestMark {
	if q.b[at+1]&shareBit != 0 {
		return 0
	}
	return RequestMark(q.b[at+2])
}

// Push adds a request. If the queue is full, the oldest requests that are not shares
// are dropped, because some pools never answer them.
//
// forgotten has those of the dropped requests whose ids are in the range of the switcher's
// own ones, and this request if there is no room for it and its id is. It is nil if there
// are none.
func (q *RequestQueue) Push(tag LinkTag, id []byte) (forgotten *RequestQueue) {
	return q.add(tag, id, 0, 0)
}

// PushShare adds a share with the generation of its job. A generation has seven
// bits; the caller may use the eighth for a mark. forgotten is as for Push.
func (q *RequestQueue) PushShare(tag LinkTag, id []byte, generation hashrate.Generation) (forgotten *RequestQueue) {
	return q.add(tag, id, shareBit, generation)
}

func (q *RequestQueue) add(tag LinkTag, id []byte, mark byte, generation hashrate.Generation) (forgotten *RequestQueue) {
	if len(id) == 0 || len(id) > MaxRequestID {
		return nil
	}
	if need := len(q.b) + requestHead + len(id) - MaxRequests; need > 0 {
		var room bool
		if forgotten, room = q.dropOthers(need); !room {
			return forgotten.withOwnID(tag, id)
		}
	}
	q.b = append(q.b, byte(tag), byte(len(id))|mark, byte(generation))
	q.b = append(q.b, id...)
	return forgotten
}

// withOwnID adds a request to the forgotten ones, which may be nil, if its id is in the
// range of the switcher's own ones.
func (q *RequestQueue) withOwnID(tag LinkTag, id []byte) *RequestQueue {
	if _, own := OwnIDOf(id); !own {
		return q
	}
	if q == nil {
		q = new(RequestQueue)
	}
	q.b = append(append(q.b, byte(tag), byte(len(id)), 0), id...)
	return q
}

// dropOthers makes room for need bytes by dropping the oldest requests that are
// not shares. If these are too few, it drops none and reports false. forgotten is as for
// Push.
func (q *RequestQueue) dropOthers(need int) (forgotten *RequestQueue, room bool) {
	free := 0
	for at := 0; at < len(q.b) && free < need; at = q.after(at) {
		if q.b[at+1]&shareBit == 0 {
			free += q.after(at) - at
		}
	}
	if free < need {
		return nil, false
	}
	for at := 0; need > 0; {
		size := q.after(at) - at
		if q.b[at+1]&shareBit != 0 {
			at += size
			continue
		}
		forgotten = forgotten.withOwnID(LinkTag(q.b[at]), q.ID(at))
		q.Remove(at)
		need -= size
	}
	return forgotten, true
}

// Find returns the position of the link's first request with this id, or -1.
// otherFirst reports whether another link's request with the same id comes before it.
// If no id is written in exactly this way, an id with the same value matches (SameID).
func (q *RequestQueue) Find(tag LinkTag, id []byte) (at int, otherFirst bool) {
	for at = 0; at < len(q.b); at = q.after(at) {
		if int(q.b[at+1]&^shareBit) == len(id) && bytes.Equal(q.ID(at), id) {
			if LinkTag(q.b[at]) == tag {
				return at, otherFirst
			}
			otherFirst = true
		}
	}
	return q.findValue(tag, id)
}

// findValue is Find for an id that is written in another way.
func (q *RequestQueue) findValue(tag LinkTag, id []byte) (at int, otherFirst bool) {
	for at = 0; at < len(q.b); at = q.after(at) {
		if !SameID(q.ID(at), id) {
			continue
		}
		if LinkTag(q.b[at]) == tag {
			return at, otherFirst
		}
		otherFirst = true
	}
	return -1, false
}

// after returns the position of the request that follows the one at position at.
func (q *RequestQueue) after(at int) int { return at + requestHead + int(q.b[at+1]&^shareBit) }

// ID returns the id of the request at position at.
func (q *RequestQueue) ID(at int) []byte { return q.b[at+requestHead : q.after(at)] }

// Remove removes the request at position at. It reports whether that was a share,
// and returns the generation of the share's job.
func (q *RequestQueue) Remove(at int) (generation hashrate.Generation, share bool) {
	share, generation = q.b[at+1]&shareBit != 0, hashrate.Generation(q.b[at+2])
	q.b = append(q.b[:at], q.b[q.after(at):]...)
	return generation, share
}

// Shares returns how many of the link's shares are unanswered.
func (q *RequestQueue) Shares(tag LinkTag) int {
	n := 0
	for at := 0; at < len(q.b); at = q.after(at) {
		if LinkTag(q.b[at]) == tag && q.b[at+1]&shareBit != 0 {
			n++
		}
	}
	return n
}

// Size returns the position after the last request.
func (q *RequestQueue) Size() int { return len(q.b) }

// At reads the request at position i. next is the position of the next request.
func (q *RequestQueue) At(i int) (tag LinkTag, id []byte, next int) {
	return LinkTag(q.b[i]), q.ID(i), q.after(i)
}

// ClearShare turns the share at position at into a request that is not a share. It
// returns the same values as Remove.
func (q *RequestQueue) ClearShare(at int) (generation hashrate.Generation, share bool) {
	share, generation = q.b[at+1]&shareBit != 0, hashrate.Generation(q.b[at+2])
	q.b[at+1] &^= shareBit
	q.b[at+2] = 0
	return generation, share
}

// State returns the queue in the form of runtime.json. requests has the tag, the
// length with shareBit and the id of each request, as builds without generations
// expect it. generations has one byte for each request.
func (q *RequestQueue) State() (requests, generations []byte) {
	for at := 0; at < len(q.b); at = q.after(at) {
		requests = append(append(requests, q.b[at], q.b[at+1]), q.ID(at)...)
		generations = append(generations, q.b[at+2])
	}
	return requests, generations
}

// NewRequestQueue restores the queue that a state file describes. It returns an
// empty queue if the description is invalid. Requests without a generation get
// generation 0.
func NewRequestQueue(requests, generations []byte) (q RequestQueue) {
	for n := 0; len(requests) > 0; n++ {
		if len(requests) < 2 || len(requests) < 2+int(requests[1]&^shareBit) {
			return RequestQueue{}
		}
		size := 2 + int(requests[1]&^shareBit)
		g := byte(0)
		if n < len(generations) {
			g = generations[n]
		}
		q.b = append(append(q.b, requests[0], requests[1], g), requests[2:size]...)
		requests = requests[size:]
	}
	return q
}

// LinkTag identifies one of a session's links. Unanswered requests carry the tag of
// the link that they were sent on.
type LinkTag uint8
