package stratum

import (
	"bytes"
	"slices"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

const (
	// MaxLinkJobs is how many jobs of a link are remembered. A share for an older
	// job is stale at any pool.
	MaxLinkJobs = 16

	// MaxDrainJobs is how many jobs are remembered while former links drain. It
	// bounds the memory that a pool can use by sending jobs without end.
	MaxDrainJobs = 1024

	// MaxJobID is the length of the longest job ID that is remembered. The longest
	// IDs of real pools are hashes; those of a hostile pool may be as long as a
	// line.
	MaxJobID = 128
)

// JobTable holds the latest jobs of a link by the IDs that the miner knows. These
// are the pool's IDs, except where the miner already had the same ID from another
// link. The table belongs to its session or to a former link.
//
// All IDs are in one piece of memory that is reused, so that a job costs no
// allocation. Each job is stored as the lengths of both IDs, the generation of its
// difficulty, the miner's ID without escapes, and the pool's ID as it was sent.
// The pool's ID is left out if the miner knows the job by it.
type JobTable struct {
	b       []byte
	last    uint32 // position of the latest job
	count   uint16
	renamed uint16 // how many jobs the miner knows by another ID than the pool
}

// jobHead is the size of what is stored before a job's IDs.
const jobHead = 3

// Add adds the latest job. told is the ID that the miner knows. poolID is the pool's
// ID, or nil if it is the same.
func (t *JobTable) Add(told, poolID []byte, generation hashrate.Generation, limit int) {
	if len(told) > MaxJobID+2 || len(poolID) > MaxJobID {
		return
	}
	if last := t.b[t.last:]; len(last) == jobHead+len(told)+len(poolID) && int(last[0]) == len(told) &&
		string(last[jobHead:jobHead+len(told)]) == string(told) && string(last[jobHead+len(told):]) == string(poolID) {
		last[2] = byte(generation)
		return // the pool has repeated its latest job
	}
	if int(t.count) >= limit {
		t.drop(int(t.count) + 1 - limit)
	}
	if t.count > 0 && limit == MaxLinkJobs {
		// A pool's IDs are about equally long. Doubling again and again would take
		// more memory, and leave more behind. The table may also have grown while
		// links drained.
		size := jobHead + len(told) + len(poolID)
		whole := len(t.b) + (MaxLinkJobs-int(t.count))*size
		if len(t.b)+size > cap(t.b) || cap(t.b) > 2*whole+64 {
			t.b = append(slices.Grow([]byte(nil), whole), t.b...)
		}
	}
	t.last = uint32(len(t.b))
	t.b = append(t.b, byte(len(told)), byte(len(poolID)), byte(generation))
	t.b = append(t.b, told...)
	t.b = append(t.b, poolID...)
	t.count++
	if len(poolID) > 0 {
		t.renamed++
	}
}

// at reads the job at position i. next is the position of the next job.
func (t *JobTable) at(i int) (told, poolID []byte, next int) {
	told = t.b[i+jobHead:][:t.b[i]]
	poolID = t.b[i+jobHead+len(told):][:t.b[i+1]]
	return told, poolID, i + jobHead + len(told) + len(poolID)
}

// generationAt returns the generation of the job at position i.
func (t *JobTable) generationAt(i int) hashrate.Generation { return hashrate.Generation(t.b[i+2]) }

// Generation returns the generation of the job that the miner knows by id.
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
		_, poolID, next := t.at(end)
		if len(poolID) > 0 {
			t.renamed--
		}
		end = next
	}
	t.b = append(t.b[:0], t.b[end:]...)
	t.count -= uint16(n)
	t.last -= uint32(end)
}

// Find reports whether the miner knows a job by this ID, which must have no
// escapes. poolID is the pool's ID of the job, or nil if it is the same.
func (t *JobTable) Find(id []byte) (poolID []byte, ok bool) {
	for i := 0; i < len(t.b); {
		told, given, next := t.at(i)
		if bytes.Equal(told, id) {
			poolID, ok = given, true
		}
		i = next
	}
	if len(poolID) == 0 {
		poolID = nil
	}
	return poolID, ok
}

// Unrenamed reports whether the miner knows all jobs by the pool's IDs. This is
// the usual case.
func (t *JobTable) Unrenamed() bool { return t.renamed == 0 }

func (t *JobTable) Has(id []byte) bool {
	_, ok := t.Find(id)
	return ok
}

// ToldFor returns the ID by which the miner knows the pool's job poolID. It returns
// nil if that is the pool's ID.
func (t *JobTable) ToldFor(poolID []byte) (told []byte) {
	for i := 0; i < len(t.b); {
		id, given, next := t.at(i)
		if len(given) > 0 && bytes.Equal(given, poolID) {
			told = id
		}
		i = next
	}
	return told
}

// RenamedJob is a job in runtime.json whose ID was changed.
type RenamedJob struct{ Told, Own []byte }

// State returns the IDs that the miner knows, in order, those of them that differ
// from the pool's, and the generation of each job.
func (t *JobTable) State() (ids []string, renamed []RenamedJob, generations []byte) {
	for i := 0; i < len(t.b); {
		told, poolID, next := t.at(i)
		ids = append(ids, string(told))
		generations = append(generations, byte(t.generationAt(i)))
		if len(poolID) > 0 {
			renamed = append(renamed, RenamedJob{bytes.Clone(told), bytes.Clone(poolID)})
		}
		i = next
	}
	return ids, renamed, generations
}

// NewJobTable restores what State has returned. Files of earlier builds have no
// generations; their jobs get the generation latest.
func NewJobTable(ids []string, renamed []RenamedJob, generations []byte, latest hashrate.Generation) (t JobTable) {
	for i, id := range ids {
		g := latest
		if len(generations) == len(ids) {
			g = hashrate.Generation(generations[i])
		}
		var poolID []byte
		for _, r := range renamed {
			if string(r.Told) == id {
				poolID = r.Own
			}
		}
		t.Add([]byte(id), poolID, g, MaxDrainJobs)
	}
	t.b = bytes.Clone(t.b) // without the room that it has grown by
	return t
}

// Before puts the jobs of an earlier link to the same pool before those of t. It
// leaves out jobs whose ID another link has given to the miner since, as given
// reports. adopted converts a generation of the earlier link to one of t's link.
func (t *JobTable) Before(earlier *JobTable, given func(id []byte) bool, adopted func(hashrate.Generation) hashrate.Generation) {
	var all JobTable
	for _, from := range []*JobTable{earlier, t} {
		for i := 0; i < len(from.b); {
			told, poolID, next := from.at(i)
			switch g := from.generationAt(i); {
			case from == t:
				all.Add(told, poolID, g, MaxDrainJobs)
			case !given(told):
				all.Add(told, poolID, adopted(g), MaxDrainJobs)
			}
			i = next
		}
	}
	*t = all
}

// OtherJobID returns an ID of the same kind that is not taken. It appends one or
// two characters of the kind that the pool's IDs consist of. It returns nil if all
// of these IDs are taken.
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

// alphabetOf returns the characters that IDs like this one consist of.
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
