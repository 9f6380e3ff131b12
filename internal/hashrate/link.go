package hashrate

// Generation is the number of a link's difficulty, counted modulo 128 in the order in
// which the link's jobs used them. A job, and a share that waits for its answer, stores
// these seven bits instead of a difficulty.
type Generation uint8

const (
	generationMask = 0x7f

	// formerKept is how many former difficulties of a link are kept.
	formerKept = 32

	// FormerSeconds is how long after a change shares may still arrive for jobs of
	// the former difficulty. Miners work on a job that is not the latest for at
	// most two minutes (cgminer's --expiry).
	FormerSeconds = 120
)

// Link knows which difficulty each job of one pool link has. A new difficulty
// applies to later jobs only. Shares for earlier jobs count with the earlier
// difficulty, as they do at the pool.
//
// While all jobs have the same difficulty, a Link takes 16 bytes. After a change
// it takes 144 bytes more until Sweep finds that no share can need them.
//
// The zero value is a link whose pool has set no difficulty. A former link keeps
// its Link for late shares.
type Link struct {
	next   Difficulty // difficulty of jobs from now on
	number Generation // generation of next
	used   bool       // a job has the difficulty next
	former *formerDifficulties
}

// formerDifficulties are the difficulties before a link's present one.
type formerDifficulties struct {
	since uint32 // when the first job with the present difficulty came or, until then, when the pool set it
	count uint8  // how many difficulties are in ring
	ring  [formerKept]Difficulty
}

// SetDifficulty records that the pool has set a difficulty for the jobs that follow.
// now is in seconds, by any clock. d is [Unknown] if the pool's text was invalid.
func (l *Link) SetDifficulty(d Difficulty, now uint32) {
	if d == l.next {
		return
	}
	if !l.used {
		l.next = d // no job has the previous difficulty
		return
	}
	l.BeginGeneration(now)
	l.next = d
}

// BeginGeneration begins a new generation with the same difficulty, for the case that
// something else changes with the next job. It returns the generation of the jobs that
// follow.
func (l *Link) BeginGeneration(now uint32) Generation {
	if !l.used {
		return l.number
	}
	if l.former == nil {
		l.former = &formerDifficulties{}
	}
	f := l.former
	f.since = now
	f.count = min(f.count+1, formerKept)
	f.ring[l.number%formerKept] = l.next
	l.used = false
	l.number = (l.number + 1) & generationMask
	return l.number
}

// NextKnown reports whether jobs from now on have a known difficulty. In bitcoin's,
// decred's and NiceHash's protocols the difficulty is 1 until the pool sets one.
func (l *Link) NextKnown() bool { return l.next.Known() }

// Job records that the pool has sent a job, and returns the job's generation. If the
// same job is sent more than once, the last time decides about its difficulty.
func (l *Link) Job(now uint32) Generation {
	if !l.used {
		l.used = true
		if l.former != nil {
			l.former.since = now
		}
	}
	return l.number
}

// Settled reports whether all jobs of the link have the same difficulty. The caller
// then need not look for a share's job, and Latest is its generation.
func (l *Link) Settled() bool { return l.former == nil }

// Latest returns the generation of the latest job. It is used for shares whose job
// is not known.
func (l *Link) Latest() Generation {
	if !l.used && l.former != nil && l.former.count > 0 {
		return (l.number - 1) & generationMask
	}
	return l.number
}

// Difficulty returns the difficulty of a generation. It is [Unknown] if the
// generation was forgotten.
func (l *Link) Difficulty(g Generation) Difficulty {
	back := (l.number - g) & generationMask
	switch {
	case back == 0:
		return l.next
	case l.former == nil || back > Generation(l.former.count):
		return Unknown
	}
	return l.former.ring[g%formerKept]
}

// Current returns the difficulty of the latest job.
func (l *Link) Current() Difficulty { return l.Difficulty(l.Latest()) }

// Adopt returns the generation for a job of an earlier link to the same pool that had
// this difficulty. It adds the difficulty to the former ones if necessary.
func (l *Link) Adopt(d Difficulty, now uint32) Generation {
	if d == l.next {
		return l.number
	}
	if l.former == nil {
		l.former = &formerDifficulties{since: now}
	}
	f := l.former
	for back := Generation(1); back <= Generation(f.count); back++ {
		if g := (l.number - back) & generationMask; f.ring[g%formerKept] == d {
			return g
		}
	}
	g := (l.number - Generation(f.count) - 1) & generationMask
	if f.count < formerKept {
		f.count++
		f.ring[g%formerKept] = d
	}
	return g // its difficulty is Unknown if there was no room
}

// Sweep forgets the former difficulties when no share needs them any more. waiting
// means that shares of the link are unanswered.
func (l *Link) Sweep(now uint32, waiting bool) {
	if l.former != nil && l.used && !waiting && now-l.former.since >= FormerSeconds {
		l.former = nil
	}
}

// LinkState is a Link in a state file.
type LinkState struct {
	Difficulty float32   `json:",omitempty"`
	Number     uint8     `json:",omitempty"`
	Used       bool      `json:",omitempty"`
	Former     []float32 `json:",omitempty"` // former difficulties, the latest first
	Age        uint32    `json:",omitempty"` // seconds since the change
}

// State describes the link for the next process. It returns nil for the zero
// value.
func (l *Link) State(now uint32) *LinkState {
	if *l == (Link{}) {
		return nil
	}
	st := &LinkState{Difficulty: float32(l.next), Number: uint8(l.number), Used: l.used}
	if f := l.former; f != nil {
		st.Age = now - f.since
		for back := Generation(1); back <= Generation(f.count); back++ {
			st.Former = append(st.Former, float32(l.Difficulty((l.number-back)&generationMask)))
		}
	}
	return st
}

// Link restores the link that a state file describes. Any content is accepted. A nil
// state gives the zero value.
func (st *LinkState) Link(now uint32) (l Link) {
	if st == nil {
		return l
	}
	l.next, l.number, l.used = Restored(st.Difficulty), Generation(st.Number)&generationMask, st.Used
	if len(st.Former) == 0 {
		return l
	}
	former := st.Former[:min(len(st.Former), formerKept)]
	l.former = &formerDifficulties{since: now - st.Age, count: uint8(len(former))}
	for i, d := range former {
		l.former.ring[(l.number-Generation(i)-1)&generationMask%formerKept] = Restored(d)
	}
	return l
}
