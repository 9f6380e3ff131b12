package stratum

import (
	"bytes"
	"slices"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

const (
	// MaxLinkJobs is how many jobs of a link are remembered. Every pool regards a
	// share for an older job as stale.
	MaxLinkJobs = 16

	// MaxDrainJobs is how many jobs are remembered while former links drain. It
	// bounds the memory that a pool can use by sending jobs without end.
	MaxDrainJobs = 1024

	// MaxJobID is the length of the longest job ID that is remembered as it is, and
	// that may be renamed. The longest IDs of real pools are hashes; those of a hostile
	// pool may be as long as a line. Longer ones are remembered by jobKey.
	MaxJobID = 128
)

// JobTable holds the latest jobs of a link by the IDs under which they were sent to
// the miner. These are the pool's IDs, except if the miner already had a job with the
// same ID from another link: such a job is renamed. The table belongs to its session
// or to a former link.
//
// All IDs are in one piece of memory that is reused, so that adding a job allocates
// nothing. Each job is stored as five fields: the lengths of both IDs and the
// generation of its difficulty (1 byte each), the jobKey of the miner's ID without escapes,
// and the pool's ID as the pool sent it, which is left out if both are the same. The length
// of an empty pool's ID that is not the same is emptyPoolID.
type JobTable struct {
	b       []byte
	last    uint32 // position of the latest job
	count   uint16
	renamed uint16 // how many jobs are renamed
}

// jobHead is the size of the fields that are stored before a job's IDs.
const jobHead = 3

const emptyPoolID = 0xff

// Add adds the latest job, and drops the oldest ones if there would be more than limit.
// minerID is the ID under which the job is sent to the miner. poolID is the pool's ID,
// or nil if it is the same.
func (t *JobTable) Add(minerID, poolID []byte, generation hashrate.Generation, limit int) {
	if len(poolID) > MaxJobID || len(minerID) > MaxMinerLine {
		return
	}
	var long longKey
	t.addKey(jobKey(minerID, &long), poolID, generation, limit)
}

// addKey is Add for the jobKey of an ID.
func (t *JobTable) addKey(minerID, poolID []byte, generation hashrate.Generation, limit int) {
	poolSize := byte(len(poolID))
	if poolID != nil && poolSize == 0 {
		poolSize = emptyPoolID
	}
	if last := t.b[t.last:]; len(last) == jobHead+len(minerID)+len(poolID) && int(last[0]) == len(minerID) && last[1] == poolSize &&
		string(last[jobHead:jobHead+len(minerID)]) == string(minerID) && string(last[jobHead+len(minerID):]) == string(poolID) {
		last[2] = byte(generation)
		return // the pool has repeated its latest job
	}
	if int(t.count) >= limit {
		t.drop(int(t.count) + 1 - limit)
	}
	if t.count > 0 && limit == MaxLinkJobs {
		// A pool's IDs have about the same length, so the final size is known. If append
		// doubled the memory each time, more would be used and discarded. The table may
		// also have grown while links drained.
		size := jobHead + len(minerID) + len(poolID)
		whole := len(t.b) + (MaxLinkJobs-int(t.count))*size
		if len(t.b)+size > cap(t.b) || cap(t.b) > 2*whole+64 {
			t.b = append(slices.Grow([]byte(nil), whole), t.b...)
		}
	}
	t.last = uint32(len(t.b))
	t.b = append(t.b, byte(len(minerID)), poolSize, byte(generation))
	t.b = append(t.b, minerID...)
	t.b = append(t.b, poolID...)
	t.count++
	if poolID != nil {
		t.renamed++
	}
}

// at reads the job at position i. poolID is nil if both IDs are the same. next is the
// position of the next job.
func (t *JobTable) at(i int) (minerID, poolID []byte, next int) {
	minerID = t.b[i+jobHead:][:t.b[i]]
	switch n := t.b[i+1]; n {
	case 0:
	case emptyPoolID:
		poolID = []byte{}
	default:
		poolID = t.b[i+jobHead+len(minerID):][:n]
	}
	return minerID, poolID, i + jobHead + len(minerID) + len(poolID)
}

// generationAt returns the generation of the job at position i.
func (t *JobTable) generationAt(i int) hashrate.Generation { return hashrate.Generation(t.b[i+2]) }

// Generation returns the generation of the job that was sent to the miner as id.
func (t *JobTable) Generation(id []byte) (g hashrate.Generation, ok bool) {
	var long longKey
	id = jobKey(id, &long)
	for i := 0; i < len(t.b); {
		minerID, _, next := t.at(i)
		if bytes.Equal(minerID, id) {
			g, ok = t.generationAt(i), true
		}
		i = next
	}
	return g, ok
}

// drop removes the n oldest jobs.
func (t *JobTable) drop(n int) {
	end := 0
	for range n {
		_, poolID, next := t.at(end)
		if poolID != nil {
			t.renamed--
		}
		end = next
	}
	t.b = append(t.b[:0], t.b[end:]...)
	t.count -= uint16(n)
	t.last -= uint32(end)
}

// Find reports whether a job was sent to the miner under this ID, which must have no
// escapes. poolID is the pool's ID of the job, or nil if it is the same.
func (t *JobTable) Find(id []byte) (poolID []byte, ok bool) {
	var long longKey
	return t.findKey(jobKey(id, &long))
}

// findKey is Find for the jobKey of an ID.
func (t *JobTable) findKey(id []byte) (poolID []byte, ok bool) {
	for i := 0; i < len(t.b); {
		minerID, stored, next := t.at(i)
		if bytes.Equal(minerID, id) {
			poolID, ok = stored, true
		}
		i = next
	}
	return poolID, ok
}

// Unrenamed reports whether no job is renamed. This is the usual case.
func (t *JobTable) Unrenamed() bool { return t.renamed == 0 }

func (t *JobTable) Has(id []byte) bool {
	_, ok := t.Find(id)
	return ok
}

// HasKey is Has for an ID as Prepend gives it to its callback.
func (t *JobTable) HasKey(key []byte) bool {
	_, ok := t.findKey(key)
	return ok
}

// MinerIDFor returns the ID under which the pool's job poolID was sent to the miner, or
// nil if the job is not renamed.
func (t *JobTable) MinerIDFor(poolID []byte) (minerID []byte) {
	for i := 0; i < len(t.b); {
		id, stored, next := t.at(i)
		if stored != nil && bytes.Equal(stored, poolID) {
			minerID = id
		}
		i = next
	}
	return minerID
}

// RenamedJob has the two IDs of a renamed job in runtime.json.
type RenamedJob struct {
	MinerID []byte `json:"Told"`
	PoolID  []byte `json:"Own"`
}

// State returns the jobs in the form of runtime.json, the oldest one first: the jobKeys of
// the IDs under which they were sent to the miner, both IDs of the renamed ones, and the
// generation of each job.
func (t *JobTable) State() (ids []string, renamed []RenamedJob, generations []byte) {
	for i := 0; i < len(t.b); {
		minerID, poolID, next := t.at(i)
		ids = append(ids, string(minerID))
		generations = append(generations, byte(t.generationAt(i)))
		if poolID != nil {
			renamed = append(renamed, RenamedJob{bytes.Clone(minerID), bytes.Clone(poolID)})
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
			if string(r.MinerID) == id {
				poolID = r.PoolID
			}
		}
		if isJobKey(id) && len(poolID) <= MaxJobID {
			t.addKey([]byte(id), poolID, g, MaxDrainJobs)
		}
	}
	t.b = bytes.Clone(t.b) // frees the spare capacity
	return t
}

// Prepend puts the jobs of an earlier link to the same pool before those of t. It
// omits the jobs whose ID the miner has since received from another link, which reused
// reports of the ID's jobKey. convert converts a generation of the earlier link to one of t's link.
func (t *JobTable) Prepend(earlier *JobTable, reused func(key []byte) bool, convert func(hashrate.Generation) hashrate.Generation) {
	var all JobTable
	for _, from := range []*JobTable{earlier, t} {
		for i := 0; i < len(from.b); {
			minerID, poolID, next := from.at(i)
			switch g := from.generationAt(i); {
			case from == t:
				all.addKey(minerID, poolID, g, MaxDrainJobs)
			case !reused(minerID):
				all.addKey(minerID, poolID, convert(g), MaxDrainJobs)
			}
			i = next
		}
	}
	*t = all
}

// OtherJobID returns an ID for a job that is renamed: the pool's ID with one or two
// characters appended that are of the same kind. It must not be taken, and it must be
// a valid JSON number if number is set. OtherJobID returns nil if all of these IDs are
// taken.
func OtherJobID(id []byte, number bool, taken func(id []byte) bool) []byte {
	more := alphabetOf(id)
	if number && string(id) == "0" {
		id = nil // a number has no leading zeros
	}
	candidate := make([]byte, len(id), len(id)+2)
	copy(candidate, id)
	for i := range more {
		first := more[i]
		if candidate = append(candidate[:len(id)], first); !(number && len(id) == 0 && first == '0') && !taken(candidate) {
			return candidate
		}
	}
	for i := range more {
		for j := range more {
			first := more[i]
			if candidate = append(candidate[:len(id)], first, more[j]); !(number && len(id) == 0 && first == '0') && !taken(candidate) {
				return candidate
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
