package main

import (
	"bytes"
	"fmt"
	"slices"
)

const (
	// maxLinkJobs is how many jobs of a link are remembered: a share for an
	// older one is stale at any pool.
	maxLinkJobs = 16

	// maxDrainJobs is how many there may be while former links drain. It bounds
	// what a pool that sends jobs without end makes the switcher remember.
	maxDrainJobs = 1024

	// maxJobID is the longest job ID that is remembered. Pools' IDs are hashes at
	// most; a hostile one's could be as long as a line.
	maxJobID = 128
)

// jobTable holds the latest jobs of a link, by the IDs that the miner was told.
// These are the pool's own, except where another link had given the miner the
// same one. The table belongs to its session, or to a former link.
//
// All IDs stand in one piece of memory that is used again, so that a job costs
// no allocation: the sizes of both IDs, the one told without its escapes, then
// the pool's as it was sent, which is left out if the miner was told the same.
type jobTable struct {
	b       []byte
	count   int
	last    int // where the latest job stands
	renamed int // how many jobs the miner knows by another ID than the pool
}

// add notes the latest job. own is nil if the miner was told the pool's own ID.
func (t *jobTable) add(told, own []byte, limit int) {
	if len(told) > maxJobID+2 || len(own) > maxJobID {
		return
	}
	if last := t.b[t.last:]; len(last) == 2+len(told)+len(own) && int(last[0]) == len(told) &&
		string(last[2:2+len(told)]) == string(told) && string(last[2+len(told):]) == string(own) {
		return // told again
	}
	if t.count >= limit {
		t.drop(t.count + 1 - limit)
	}
	if limit == maxLinkJobs && cap(t.b) > maxLinkJobs*(maxJobID+4)*2 {
		t.b = bytes.Clone(t.b) // grown while links drained
	}
	t.last = len(t.b)
	t.b = append(t.b, byte(len(told)), byte(len(own)))
	t.b = append(t.b, told...)
	t.b = append(t.b, own...)
	t.count++
	if len(own) > 0 {
		t.renamed++
	}
}

// at reads the job that stands at i, and where the next one stands.
func (t *jobTable) at(i int) (told, own []byte, next int) {
	told = t.b[i+2:][:t.b[i]]
	own = t.b[i+2+len(told):][:t.b[i+1]]
	return told, own, i + 2 + len(told) + len(own)
}

// drop forgets the n oldest jobs.
func (t *jobTable) drop(n int) {
	end := 0
	for range n {
		_, own, next := t.at(end)
		if len(own) > 0 {
			t.renamed--
		}
		end = next
	}
	t.b = append(t.b[:0], t.b[end:]...)
	t.count -= n
	t.last -= end
}

// find says whether the miner was told of a job by this ID, which has no
// escapes, and what the pool calls it if that is something else.
func (t *jobTable) find(id []byte) (own []byte, ok bool) {
	for i := 0; i < len(t.b); {
		told, given, next := t.at(i)
		if bytes.Equal(told, id) {
			own, ok = given, true
		}
		i = next
	}
	if len(own) == 0 {
		own = nil
	}
	return own, ok
}

func (t *jobTable) has(id []byte) bool {
	_, ok := t.find(id)
	return ok
}

// toldFor is the other ID by which the miner knows the pool's job, or nil.
func (t *jobTable) toldFor(own []byte) (told []byte) {
	for i := 0; i < len(t.b); {
		id, given, next := t.at(i)
		if len(given) > 0 && bytes.Equal(given, own) {
			told = id
		}
		i = next
	}
	return told
}

// jobState is a job in runtime.json whose ID was changed.
type jobState struct{ Told, Own []byte }

// state gives the IDs that the miner was told, in order, and those of them that
// the pool does not know.
func (t *jobTable) state() (ids []string, renamed []jobState) {
	for i := 0; i < len(t.b); {
		told, own, next := t.at(i)
		ids = append(ids, string(told))
		if len(own) > 0 {
			renamed = append(renamed, jobState{bytes.Clone(told), bytes.Clone(own)})
		}
		i = next
	}
	return ids, renamed
}

func newJobTable(ids []string, renamed []jobState) (t jobTable) {
	for _, id := range ids {
		var own []byte
		for _, r := range renamed {
			if string(r.Told) == id {
				own = r.Own
			}
		}
		t.add([]byte(id), own, maxDrainJobs)
	}
	return t
}

// before puts the jobs of an earlier link to the same pool in front, except
// those that another link has given the miner since.
func (t *jobTable) before(earlier *jobTable, given func(id []byte) bool) {
	var all jobTable
	for _, from := range []*jobTable{earlier, t} {
		for i := 0; i < len(from.b); {
			told, own, next := from.at(i)
			if from == t || !given(told) {
				all.add(told, own, maxDrainJobs)
			}
			i = next
		}
	}
	*t = all
}

// jobIDSpan finds the n-th parameter of a line, counted from 0, if it is a
// string or a number: the inside of the one, the digits of the other.
func jobIDSpan(line []byte, n int) (id span, number, ok bool) {
	b := memberValue(line, memberParams)
	if len(b) == 0 || b[0] != '[' {
		return span{}, false, false
	}
	for {
		if b = b[spaceEnd(b, 1):]; len(b) == 0 {
			return span{}, false, false
		}
		start, end := len(line)-len(b), 0
		if number = b[0] != '"'; number {
			for end < len(b) && (b[end] >= '0' && b[end] <= '9' || n > 0 && b[end] > ' ' && bytes.IndexByte([]byte(`,"[]{}`), b[end]) < 0) {
				end++
			}
			if end == 0 {
				return span{}, false, false
			}
			id, b = span{start, start + end}, b[end:]
		} else {
			if end = stringEnd(b); end < 0 {
				return span{}, false, false
			}
			id, b = span{start + 1, start + end}, b[end+1:]
		}
		b = b[spaceEnd(b, 0):]
		if n == 0 {
			return id, number, len(b) > 0 && (b[0] == ',' || b[0] == ']')
		}
		if n--; len(b) == 0 || b[0] != ',' {
			return span{}, false, false
		}
	}
}

// putJobID puts another ID in the place of a line's n-th parameter.
func putJobID(line []byte, n int, id []byte) []byte {
	at, _, ok := jobIDSpan(line, n)
	if !ok {
		return line
	}
	return slices.Replace(line, at.start, at.end, id...)
}

// otherJobID makes an ID of the same kind that is not taken: one or two more
// characters of those that the pool's IDs are made of. It is nil if all of them
// are taken.
func otherJobID(id []byte, number bool, taken func(id []byte) bool) []byte {
	more := alphabetOf(id)
	if number && string(id) == "0" {
		id = nil // a number has no leading zeros
	}
	try := make([]byte, len(id), len(id)+2)
	copy(try, id)
	for i := range more {
		first := more[i]
		if try = append(try[:len(id)], first); !(number && len(id) == 0 && first == '0') && !taken(try) {
			return try
		}
	}
	for i := range more {
		for j := range more {
			first := more[i]
			if try = append(try[:len(id)], first, more[j]); !(number && len(id) == 0 && first == '0') && !taken(try) {
				return try
			}
		}
	}
	return nil
}

// alphabetOf gives the characters of IDs like this one.
func alphabetOf(id []byte) string {
	var digit, lower, upper, beyondHex bool
	for _, c := range id {
		switch {
		case c >= '0' && c <= '9':
			digit = true
		case c >= 'a' && c <= 'z':
			lower, beyondHex = true, beyondHex || c > 'f'
		case c >= 'A' && c <= 'Z':
			upper, beyondHex = true, beyondHex || c > 'F'
		}
	}
	switch {
	case !lower && !upper:
		return "0123456789"
	case beyondHex && !digit && lower:
		return "abcdefghijklmnopqrstuvwxyz"
	case beyondHex && !digit:
		return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	case lower:
		return "0123456789abcdef"
	}
	return "0123456789ABCDEF"
}

// jobNoted notes a job of the link in use. It returns the ID to tell the miner
// in place of the pool's, nil if that can stay, as it mostly does.
func (s *Session) jobNoted(line []byte, sc *scannedLine) (told []byte) {
	if len(s.drains) == 0 && s.link.jobs.renamed == 0 {
		if id := usualJobID(line, sc.members[memberParams]); id != nil {
			s.link.jobs.add(id, nil, maxLinkJobs)
			return nil
		}
	}
	at, number, ok := jobIDSpan(line, 0)
	if !ok || at.end-at.start > maxJobID {
		return nil
	}
	raw := line[at.start:at.end]
	id := plainID(raw)
	if len(s.drains) == 0 && s.link.jobs.renamed == 0 {
		s.link.jobs.add(id, nil, maxLinkJobs)
		return nil
	}
	if s.jobCollides(id, raw) {
		if told = s.otherID(raw, number); told != nil {
			s.link.jobs.add(plainID(told), raw, s.jobLimit())
			return told
		}
	}
	s.link.jobs.add(id, nil, s.jobLimit())
	return nil
}

// usualJobID finds the job ID of a line that is written as nearly all are; nil if
// it is not. It costs less than jobIDSpan.
func usualJobID(line []byte, params span) []byte {
	start := params.start + 2
	if params.end <= start || line[start-2] != '[' || line[start-1] != '"' {
		return nil
	}
	end := quoteAfter(line, start)
	if end < 0 || end-start > maxJobID {
		return nil
	}
	for _, c := range line[start:end] {
		if c == '\\' {
			return nil
		}
	}
	return line[start:end]
}

// answerJobNoted notes the job in an ETHProxy pool's answer, if there is one.
// Its ID is its hash, so that no other pool has the same.
func (s *Session) answerJobNoted(line []byte) {
	if id := answerJobID(line); id != nil {
		s.link.jobs.add(plainID(id), nil, s.jobLimit())
	}
}

func (s *Session) jobLimit() int {
	if len(s.drains) > 0 {
		return maxDrainJobs
	}
	return maxLinkJobs
}

// jobCollides says that the miner knows this ID as another pool's job, or as a
// job of this pool that has another ID there.
func (s *Session) jobCollides(id, raw []byte) bool {
	if own, ok := s.link.jobs.find(id); ok && own != nil && !bytes.Equal(own, raw) {
		return true
	}
	return s.formerJob(id)
}

// formerJob says whether a former link gave the miner a job by this ID.
func (s *Session) formerJob(id []byte) bool {
	for _, d := range s.drains {
		if d.jobs.has(id) {
			return true
		}
	}
	return false
}

// otherID is the ID to tell the miner for a job whose own is in use. A pool
// that sends the job again is told of by the same one.
func (s *Session) otherID(raw []byte, number bool) []byte {
	if told := s.link.jobs.toldFor(raw); told != nil && !s.formerJob(told) {
		if bytes.IndexByte(raw, '\\') < 0 {
			return bytes.Clone(told)
		}
	}
	taken := func(id []byte) bool {
		id = plainID(id)
		return s.link.jobs.has(id) || s.formerJob(id)
	}
	if s.agent != nil {
		return s.agent.otherJobID(raw, taken)
	}
	return otherJobID(raw, number, taken)
}

// jobNumbers are the job IDs that an agent can be told besides the pool's: its
// shares have one byte for them, and it takes what begins with another
// character for a job of its own.
const (
	firstJobNumber = 10
	lastJobNumber  = 255
)

// otherJobID makes another number for a job that is known by one. Numbers are
// used in turn, so that one is not soon used again.
func (w *agentWorkers) otherJobID(id []byte, taken func(id []byte) bool) []byte {
	if _, ok := jobNumber(id); !ok {
		return nil
	}
	for range lastJobNumber - firstJobNumber + 1 {
		if w.lastJob <= firstJobNumber || w.lastJob > lastJobNumber {
			w.lastJob = lastJobNumber + 1
		}
		w.lastJob--
		if id := fmt.Append(nil, w.lastJob); !taken(id) {
			return id
		}
	}
	return nil
}
