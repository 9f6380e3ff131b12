package hashrate

import "math"

const (
	// MinerWindow is how many seconds a miner's recent hashrate covers.
	MinerWindow = 15 * 60

	// minerSpan is how many seconds it takes until the weight of a share has
	// fallen to 1/e. Shares older than MinerWindow make up only 5 % of all weight.
	minerSpan = MinerWindow / 3
)

// Miner counts the shares of one session. It takes 56 bytes. Its times are in
// seconds, by any clock that runs evenly.
type Miner struct {
	work   float64 // sum of the accepted shares' difficulties
	recent float32 // the same sum, in which older shares have less weight
	at     uint32  // the time for which recent is valid
	since  uint32  // when the miner connected, or when counting began

	last      uint32 // when the last share was submitted
	submitted uint32
	accepted  uint32
	unknown   uint32 // shares whose work or verdict is unknown
	refused   [Refusals]uint32
}

// NewMiner returns a Miner that begins to count at now.
func NewMiner(now uint32) Miner { return Miner{at: now, since: now} }

// Submit counts a share that is sent to a pool.
func (m *Miner) Submit(now uint32) {
	m.submitted++
	m.last = now
}

// Accept counts a share that a pool has accepted.
func (m *Miner) Accept(d Difficulty, now uint32) {
	m.accepted++
	if !d.Known() {
		m.unknown++
		return
	}
	m.work += float64(d)
	m.recent = m.recent*decay(now-m.at) + float32(d)
	m.at = now
}

// Refuse counts a share that a pool has refused.
func (m *Miner) Refuse(r Refusal) { m.refused[r]++ }

// Unanswered counts a share that no pool will accept or refuse, such as a share of
// an agent that wants no answers.
func (m *Miner) Unanswered() { m.unknown++ }

// MinerTotals are a miner's counts.
type MinerTotals struct {
	Submitted, Accepted, Unknown uint32
	Refused                      [Refusals]uint32
	Last                         uint32 // when the last share was submitted; meaningless if there was none
}

// RefusedShares returns how many shares were refused, for any reason.
func (t MinerTotals) RefusedShares() (n uint32) {
	for _, refused := range t.Refused {
		n += refused
	}
	return n
}

// Totals returns the miner's present counts.
func (m *Miner) Totals() MinerTotals {
	return MinerTotals{m.submitted, m.accepted, m.unknown, m.refused, m.last}
}

// Work returns the work of the accepted shares of known difficulty, in hashes.
func (m *Miner) Work() float64 { return m.work * hashesPerUnit }

// Recent returns the hashrate of the last MinerWindow. It is right from the beginning,
// because the time before the miner connected has no weight.
func (m *Miner) Recent(now uint32) Rate {
	age := now - m.since
	if age == 0 {
		age = 1
	}
	seconds := minerSpan * -math.Expm1(-float64(age)/minerSpan)
	hashes := float64(m.recent) * float64(decay(now-m.at)) * hashesPerUnit
	return rate(hashes, seconds, m.unknown > 0)
}

// Average returns the hashrate since the miner connected.
func (m *Miner) Average(now uint32) Rate {
	return rate(m.work*hashesPerUnit, float64(max(1, now-m.since)), m.unknown > 0)
}

// decayTable has the weights of shares that are 0, 1, 2, … seconds old.
var decayTable = func() (t [64]float32) {
	for i := range t {
		t[i] = float32(math.Exp(-float64(i) / minerSpan))
	}
	return t
}()

// decay returns the weight of a share that is so many seconds old.
func decay(seconds uint32) float32 {
	if seconds < uint32(len(decayTable)) {
		return decayTable[seconds]
	}
	return float32(math.Exp(-float64(seconds) / minerSpan))
}

// MinerState is a Miner in a state file. Its times are ages, because the next
// process has another clock.
type MinerState struct {
	Work, Recent float64          `json:",omitempty"`
	Age, Last    uint32           `json:",omitempty"` // seconds since it connected, and since its last share
	Counts       [3]uint32        // submitted, accepted, unknown
	Refused      [Refusals]uint32 // by reason
}

// State describes the miner for the next process.
func (m *Miner) State(now uint32) MinerState {
	return MinerState{
		Work: m.work, Recent: float64(m.recent * decay(now-m.at)), Age: now - m.since, Last: now - m.last,
		Counts: [3]uint32{m.submitted, m.accepted, m.unknown}, Refused: m.refused,
	}
}

// Miner restores the miner that a state file describes.
func (st *MinerState) Miner(now uint32) Miner {
	m := Miner{at: now, since: now - st.Age, last: now - st.Last, refused: st.Refused}
	m.submitted, m.accepted, m.unknown = st.Counts[0], st.Counts[1], st.Counts[2]
	if sane(st.Work) {
		m.work = st.Work
	}
	if sane(st.Recent) && st.Recent <= math.MaxFloat32 {
		m.recent = float32(st.Recent)
	}
	return m
}

// sane reports whether a number from a state file can be a sum of work.
func sane(v float64) bool { return v >= 0 && v <= math.MaxFloat64 }
