package stratum

// Rolling records whether a miner uses version rolling (BIP 310), and whether it has
// lost it: the miner has stopped rolling, or it may roll fewer bits than before. A
// miner that has lost version rolling computes more slowly, or not at all, and neither
// the miner nor the pool reports this.
//
// The miner's shares are examined until enough of them prove that it rolls, after each
// change of its pool or mask, and from time to time. The value is one byte, which
// combines the flag rollingNarrowed and the progress. Every byte is a valid value,
// because it may come from a state file. The zero value stands for a miner about which
// nothing is known.
type Rolling uint8

const (
	// rollingShares is how many shares with version bits prove that a miner rolls.
	// A progress below it is the number of such shares so far.
	rollingShares = 101

	// rollingProved means that the miner rolls, so its shares are not examined.
	rollingProved Rolling = rollingShares
	// rollingWatched and the values up to rollingStopped mean that the miner has
	// rolled before and is examined again. They count the points against it.
	rollingWatched Rolling = rollingProved + 1
	rollingStopped Rolling = 127

	rollingNarrowed Rolling = 0x80
)

// Each share without version bits gives points against the miner: missingBits if it
// does not have the parameter, and one if all of the bits are zero. A single zero
// proves little, because a miner with four midstates sends it in one of four shares.
const (
	missingBits = 8
	maxPoints   = rollingStopped - rollingWatched
)

// RollingLoss says how a miner has lost version rolling.
type RollingLoss uint8

const (
	RollingKept     RollingLoss = iota // it still rolls, or has never rolled
	RollingStopped                     // it rolled bits in over 100 shares and has stopped
	RollingNarrower                    // its mask is narrower than at the previous pool
	RollingLosses
)

var rollingLossNames = [RollingLosses]string{"kept", "stopped", "narrower"}

// String returns the name that is used in metrics.
func (l RollingLoss) String() string { return rollingLossNames[l] }

func (r Rolling) progress() Rolling { return r &^ rollingNarrowed }

func (r *Rolling) set(progress Rolling) { *r = *r&rollingNarrowed | progress }

// NeedsShare reports whether ObserveShare should be called for the next share.
func (r Rolling) NeedsShare() bool { return r.progress() != rollingProved }

// Recheck begins to examine the miner's shares again, because something has changed.
func (r *Rolling) Recheck() {
	if r.progress() == rollingProved {
		r.set(rollingWatched)
	}
}

// ObserveShare examines a share of the miner, which is a mining.submit. It reports
// whether this share shows that the miner has stopped rolling.
func (r *Rolling) ObserveShare(line []byte) (stopped bool) {
	points := Rolling(missingBits)
	if bits := ScalarParam(line, 5); len(bits) > 0 {
		points = 1
		for _, c := range bits {
			if c != '0' {
				points = 0
				break
			}
		}
	}
	switch p := r.progress(); {
	case p < rollingProved:
		if points == 0 {
			r.set(p + 1)
		}
	case points == 0:
		r.set(rollingProved)
	case p >= rollingWatched && p < rollingStopped:
		if p += points; p-rollingWatched >= maxPoints-1 {
			r.set(rollingStopped)
			return true
		}
		r.set(p)
	}
	return false
}

// ObserveMask records that the miner's version mask changes from before to now. It
// reports whether the mask has become narrower and was not known to be before.
func (r *Rolling) ObserveMask(before, now uint32) (narrower bool) {
	r.Recheck()
	switch {
	case before&^now != 0:
		narrower = *r&rollingNarrowed == 0
		*r |= rollingNarrowed
	case now&^before != 0:
		*r &^= rollingNarrowed
	}
	return narrower
}

// Loss returns how the miner has lost version rolling, or RollingKept.
func (r Rolling) Loss() RollingLoss {
	switch {
	case r.progress() == rollingStopped:
		return RollingStopped
	case r&rollingNarrowed != 0:
		return RollingNarrower
	}
	return RollingKept
}
