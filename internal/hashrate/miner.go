package hashrate

import "math"

const (
	// MinerWindow is the time that a miner's recent hashrate is an average over.
	MinerWindow = 15 * 60 // seconds

	// minerSpan is after how many seconds a share weighs the e-th part: after
	// MinerWindow only 5 % of the weight is older.
	minerSpan = MinerWindow / 3
)

// Miner counts the shares of one session, in 56 bytes. Its times are in seconds
// by any clock that goes on evenly.
type Miner struct {
	work   float64 // difficulty of the accepted shares, added up
	recent float32 // the same with weights that fall as shares get older
	at     uint32  // recent is as of then
	since  uint32  // the miner connected, or counting began

	last      uint32 // when the last share was submitted
	submitted uint32
	accepted  uint32
	unknown   uint32 // shares of which work or verdict is unknown
	refused   [Refusals]uint32
}

// NewMiner begins to count.
func NewMiner(now uint32) Miner { return Miner{at: now, since: now} }

// Submit counts a share on its way to a pool.
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

// Unanswered counts a share of which no pool will say whether it is good, as with
// agents that want no answers.
func (m *Miner) Unanswered() { m.unknown++ }

// MinerTotals are a miner's counts.
type MinerTotals struct {
	Submitted, Accepted, Unknown uint32
	Refused                      [Refusals]uint32
	Last                         uint32 // when the last share was submitted; of no meaning without one
}

// Totals are the miner's counts.
func (m *Miner) Totals() MinerTotals {
	return MinerTotals{m.submitted, m.accepted, m.unknown, m.refused, m.last}
}

// Recent is the hashrate of the last MinerWindow. It is right from the start,
// because the weight of the time before the miner came is left out.
func (m *Miner) Recent(now uint32) Rate {
	age := now - m.since
	if age == 0 {
		age = 1
	}
	seconds := minerSpan * -math.Expm1(-float64(age)/minerSpan)
	hashes := float64(m.recent) * float64(decay(now-m.at)) * hashesPerUnit
	return rate(hashes, seconds, m.unknown > 0)
}

// Average is the hashrate since the miner connected.
func (m *Miner) Average(now uint32) Rate {
	return rate(m.work*hashesPerUnit, float64(max(1, now-m.since)), m.unknown > 0)
}

// decayTable has the weights that are left after 0, 1, 2, … seconds.
var decayTable = func() (t [64]float32) {
	for i := range t {
		t[i] = float32(math.Exp(-float64(i) / minerSpan))
	}
	return t
}()

// decay is the weight that is left after so many seconds.
func decay(seconds uint32) float32 {
	if seconds < uint32(len(decayTable)) {
		return decayTable[seconds]
	}
	return float32(math.Exp(-float64(seconds) / minerSpan))
}

// MinerState is a Miner in a state file. Times are ages, as the next process has
// another clock.
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

// Miner is the miner that a state file describes.
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

// sane reports whether a sum of a state file can be one.
func sane(v float64) bool { return v >= 0 && v <= math.MaxFloat64 }
