package stratum

import (
	"bytes"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

const (
	// MaxLinkJobs is how many jobs of a link are remembered: a share for an
	// older one is stale at any pool.
	MaxLinkJobs = 16

	// MaxDrainJobs is how many there may be while former links drain. It bounds
	// what a pool that sends jobs without end makes the switcher remember.
	MaxDrainJobs = 1024

	// MaxJobID is the longest job ID that is remembered. Pools' IDs are hashes at
	// most; a hostile one's could be as long as a line.
	MaxJobID = 128
)

// JobTable holds the latest jobs of a link, by the IDs that the miner was told.
// These are the pool's own, except where another link had given the miner the
// same one. The table belongs to its session, or to a former link.
//
// All IDs stand in one piece of memory that is used again, so that a job costs
// no allocation: the sizes of both IDs, the generation of the difficulty that the
// job was given with, the ID told without its escapes, then the pool's as it was
// sent, which is left out if the miner was told the same.
type JobTable struct {
	b       []byte
	count   int
	last    int // where the latest job stands
	renamed int // how many jobs the miner knows by another ID than the pool
}

// jobHead is the size of what stands before a job's IDs.
const jobHead = 3

// Add notes the latest job. own is nil if the miner was told the pool's own ID.
func (t *JobTable) Add(told, own []byte, generation hashrate.Generation, limit int) {
	if len(told) > MaxJobID+2 || len(own) > MaxJobID {
		return
	}
	if last := t.b[t.last:]; len(last) == jobHead+len(told)+len(own) && int(last[0]) == len(told) &&
		string(last[jobHead:jobHead+len(told)]) == string(told) && string(last[jobHead+len(told):]) == string(own) {
		last[2] = byte(generation)
		return // told again
	}
	if t.count >= limit {
		t.drop(t.count + 1 - limit)
	}
	if limit == MaxLinkJobs && cap(t.b) > MaxLinkJobs*(MaxJobID+jobHead+2)*2 {
		t.b = bytes.Clone(t.b) // grown while links drained
	}
	t.last = len(t.b)
	t.b = append(t.b, byte(len(told)), byte(len(own)), byte(generation))
	t.b = append(t.b, told...)
	t.b = append(t.b, own...)
	t.count++
	if len(own) > 0 {
		t.renamed++
	}
}

// at reads the job that stands at i, and where the next one stands.
func (t *JobTable) at(i int) (told, own []byte, next int) {
	told = t.b[i+jobHead:][:t.b[i]]
	own = t.b[i+jobHead+len(told):][:t.b[i+1]]
	return told, own, i + jobHead + len(told) + len(own)
}

// generationAt is that of the difficulty of the job that stands at i.
func (t *JobTable) generationAt(i int) hashrate.Generation { return hashrate.Generation(t.b[i+2]) }

// Generation is that of the difficulty of the job that the miner knows by id.
func (t *JobTable) Generation(id []byte) (g hashrate.Generation, ok bool) {
	for i := 0; i < len(t.b); {
		told, _, next := t.at(i)
		if bytes.Equal(told, id) {
			g, ok = t.generationAt(i), true
		}
		i = next
	}
	return g, ok
}

// drop forgets the n oldest jobs.
func (t *JobTable) drop(n int) {
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

// Find says whether the miner was told of a job by this ID, which has no
// escapes, and what the pool calls it if that is something else.
func (t *JobTable) Find(id []byte) (own []byte, ok bool) {
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

// Unrenamed reports whether the miner knows all jobs by the pool's own IDs, as is
// mostly so.
func (t *JobTable) Unrenamed() bool { return t.renamed == 0 }

func (t *JobTable) Has(id []byte) bool {
	_, ok := t.Find(id)
	return ok
}

// ToldFor is the other ID by which the miner knows the pool's job, or nil.
func (t *JobTable) ToldFor(own []byte) (told []byte) {
	for i := 0; i < len(t.b); {
		id, given, next := t.at(i)
		if len(given) > 0 && bytes.Equal(given, own) {
			told = id
		}
		i = next
	}
	return told
}

// RenamedJob is a job in runtime.json whose ID was changed.
type RenamedJob struct{ Told, Own []byte }

// State gives the IDs that the miner was told, in order, those of them that the
// pool does not know, and the generation of each.
func (t *JobTable) State() (ids []string, renamed []RenamedJob, generations []byte) {
	for i := 0; i < len(t.b); {
		told, own, next := t.at(i)
		ids = append(ids, string(told))
		generations = append(generations, byte(t.generationAt(i)))
		if len(own) > 0 {
			renamed = append(renamed, RenamedJob{bytes.Clone(told), bytes.Clone(own)})
		}
		i = next
	}
	return ids, renamed, generations
}

// NewJobTable makes what State has described. Jobs without a generation, as in
// files of earlier builds, have latest.
func NewJobTable(ids []string, renamed []RenamedJob, generations []byte, latest hashrate.Generation) (t JobTable) {
	for i, id := range ids {
		g := latest
		if len(generations) == len(ids) {
			g = hashrate.Generation(generations[i])
		}
		var own []byte
		for _, r := range renamed {
			if string(r.Told) == id {
				own = r.Own
			}
		}
		t.Add([]byte(id), own, g, MaxDrainJobs)
	}
	return t
}

// Before puts the jobs of an earlier link to the same pool in front, except
// those that another link has given the miner since. adopted is the generation
// that one of the earlier link's has here.
func (t *JobTable) Before(earlier *JobTable, given func(id []byte) bool, adopted func(hashrate.Generation) hashrate.Generation) {
	var all JobTable
	for _, from := range []*JobTable{earlier, t} {
		for i := 0; i < len(from.b); {
			told, own, next := from.at(i)
			switch g := from.generationAt(i); {
			case from == t:
				all.Add(told, own, g, MaxDrainJobs)
			case !given(told):
				all.Add(told, own, adopted(g), MaxDrainJobs)
			}
			i = next
		}
	}
	*t = all
}

// OtherJobID makes an ID of the same kind that is not taken: one or two more
// characters of those that the pool's IDs are made of. It is nil if all of them
// are taken.
func OtherJobID(id []byte, number bool, taken func(id []byte) bool) []byte {
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
