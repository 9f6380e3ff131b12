package stratum

// Rolling knows whether a miner makes use of version rolling, and whether it has
// lost it: it works on without, or may roll fewer bits than before. A miner that has
// lost it computes more slowly, or not at all, without anybody being told.
//
// Its shares are looked at until it has proved that it rolls, after each change
// of its pool or mask, and now and then. The value is one byte: the flag
// rollingNarrowed, and how far it has got. All bytes are valid, so that one may
// come from a state file. The zero value is a miner of which nothing is known.
type Rolling uint8

const (
	// rollingShares is how many shares with version bits prove that a miner rolls.
	// Values below count them.
	rollingShares = 101

	rollingProved Rolling = rollingShares
	// From rollingWatched on values count the doubts since the last change.
	rollingWatched Rolling = rollingProved + 1
	rollingStopped Rolling = 127

	rollingNarrowed Rolling = 0x80
)

// A share without the parameter for version bits is worth missingBits doubts, one
// with none of the bits set is worth one: four midstates have one in four without.
const (
	missingBits = 8
	mostDoubts  = rollingStopped - rollingWatched
)

// RollingLoss is how a miner has lost version rolling.
type RollingLoss uint8

const (
	RollingKept     RollingLoss = iota // or it never had it
	RollingStopped                     // it rolled bits in over 100 shares, and works on without
	RollingNarrower                    // its mask is narrower than at the pool before
	RollingLosses
)

var rollingLossNames = [RollingLosses]string{"kept", "stopped", "narrower"}

// String is the name that metrics have.
func (l RollingLoss) String() string { return rollingLossNames[l] }

func (r Rolling) progress() Rolling { return r &^ rollingNarrowed }

func (r *Rolling) set(progress Rolling) { *r = *r&rollingNarrowed | progress }

// Looks reports whether the next share is to be looked at.
func (r Rolling) Looks() bool { return r.progress() != rollingProved }

// Watch has the next shares looked at, because something has changed.
func (r *Rolling) Watch() {
	if r.progress() == rollingProved {
		r.set(rollingWatched)
	}
}

// Share notes a share of the miner, which is a mining.submit. It reports whether
// the miner has stopped rolling with it.
func (r *Rolling) Share(line []byte) (stopped bool) {
	doubt := Rolling(missingBits)
	if bits := ScalarParam(line, 5); len(bits) > 0 {
		doubt = 1
		for _, c := range bits {
			if c != '0' {
				doubt = 0
				break
			}
		}
	}
	switch p := r.progress(); {
	case p < rollingProved:
		if doubt == 0 {
			r.set(p + 1)
		}
	case doubt == 0:
		r.set(rollingProved)
	case p >= rollingWatched && p < rollingStopped:
		if p += doubt; p-rollingWatched >= mostDoubts-1 {
			r.set(rollingStopped)
			return true
		}
		r.set(p)
	}
	return false
}

// Mask notes that the miner is told another mask than before. It reports whether
// the new one is narrower.
func (r *Rolling) Mask(before, now uint32) (narrower bool) {
	r.Watch()
	switch {
	case before&^now != 0:
		narrower = *r&rollingNarrowed == 0
		*r |= rollingNarrowed
	case now&^before != 0:
		*r &^= rollingNarrowed
	}
	return narrower
}

// Loss is what has become of version rolling.
func (r Rolling) Loss() RollingLoss {
	switch {
	case r.progress() == rollingStopped:
		return RollingStopped
	case r&rollingNarrowed != 0:
		return RollingNarrower
	}
	return RollingKept
}
