package hashrate

// Generation numbers the difficulties of one link in the order in which jobs
// were given with them, modulo 128. It is what a job and a share that waits for
// its answer remember: seven bits in place of a difficulty.
type Generation uint8

const (
	generationMask = 0x7f

	// formerKept is how many former difficulties of a link are known at a time.
	formerKept = 32

	// FormerSeconds is how long after a change jobs of the former difficulty
	// count with it. Miners work on for two minutes at most with a job that is
	// not the last (cgminer's --expiry).
	FormerSeconds = 120
)

// Link knows which difficulty the jobs of one pool link were given with. A new
// difficulty is for the jobs after it, so that shares for jobs before count with
// the one before, as the pool counts them.
//
// As long as all jobs have the same difficulty, a Link is 16 bytes. After a change
// it has 144 more until Sweep finds that no share can need them any more.
//
// The zero value is a link whose pool has told no difficulty. A former link keeps
// its Link, for late shares.
type Link struct {
	next   Difficulty // for jobs from now on
	number Generation // of next
	used   bool       // a job was given with next
	former *formerDifficulties
}

// formerDifficulties are those before a link's present one.
type formerDifficulties struct {
	since uint32 // when jobs began to be given with the present one, or it was told
	count uint8  // of the difficulties known
	ring  [formerKept]Difficulty
}

// Tell notes that the pool has told a difficulty for the jobs that follow; now is
// in seconds, by any clock. [Unknown] is what the pool told if nobody can read it.
func (l *Link) Tell(d Difficulty, now uint32) {
	if d == l.next {
		return
	}
	if !l.used {
		l.next = d // the one before was for no job
		return
	}
	l.Divide(now)
	l.next = d
}

// Divide begins a new generation at the same difficulty, because something else
// changed for the jobs that follow. It returns the generation of those.
func (l *Link) Divide(now uint32) Generation {
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

// Told reports whether jobs from now on have a known difficulty. Bitcoin's,
// decred's and NiceHash's protocols have 1 where the pool tells none.
func (l *Link) Told() bool { return l.next.Known() }

// Job notes that the pool has given a job, and returns what the job has to
// remember. A job that is given again has the difficulty it is given with last.
func (l *Link) Job(now uint32) Generation {
	if !l.used {
		l.used = true
		if l.former != nil {
			l.former.since = now
		}
	}
	return l.number
}

// Settled reports whether all jobs of the link have one difficulty, so that the
// job of a share need not be looked for: it is that of Latest.
func (l *Link) Settled() bool { return l.former == nil }

// Latest is the generation of the latest job, for shares of which the job is not
// known.
func (l *Link) Latest() Generation {
	if !l.used && l.former != nil && l.former.count > 0 {
		return (l.number - 1) & generationMask
	}
	return l.number
}

// Difficulty is that of a job's generation; [Unknown] also if it was forgotten.
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

// Current is the difficulty of the latest job.
func (l *Link) Current() Difficulty { return l.Difficulty(l.Latest()) }

// Adopt makes room for a job of an earlier link to the same pool, which had this
// difficulty there, and returns the generation that the job has here.
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
	return g // Unknown if there was no room
}

// Sweep forgets former difficulties when no share needs them any more. waiting
// says that the link has shares to answer.
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
	Former     []float32 `json:",omitempty"` // the latest first
	Age        uint32    `json:",omitempty"` // seconds since the change
}

// State describes the link for the next process; nil if there is nothing to say.
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

// Link is the link that a state file describes, whatever is in it. It is a no-op
// on nil.
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
