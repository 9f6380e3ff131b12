package hashrate

import (
	"math"
	"strconv"
)

// Knowledge says how much of a hashrate is known.
type Knowledge uint8

const (
	// FullyKnown means that the difficulty of every share is known.
	FullyKnown Knowledge = iota
	// PartlyKnown means that some shares have an unknown difficulty.
	PartlyKnown
	// NotKnown means that no share has a known difficulty. It does not mean that
	// there is no work.
	NotKnown
)

var knowledgeNames = [...]string{"known", "partly", "unknown"}

func (k Knowledge) String() string { return knowledgeNames[k] }

// Rate is a hashrate and the information how much of it is known.
type Rate struct {
	PerSecond float64 // hashes; 0 if nothing is known
	Knowledge Knowledge
}

// Value returns the rate. It reports false if nothing is known.
func (r Rate) Value() (perSecond float64, ok bool) {
	return r.PerSecond, r.Knowledge != NotKnown
}

func (r Rate) String() string {
	switch r.Knowledge {
	case NotKnown:
		return "unknown"
	case PartlyKnown:
		return "at least " + Format(r.PerSecond)
	}
	return Format(r.PerSecond)
}

// rate returns the hashrate for a number of hashes in a number of seconds. unknown
// means that there were also shares of unknown difficulty.
func rate(hashes, seconds float64, unknown bool) Rate {
	r := Rate{}
	if seconds > 0 && hashes > 0 {
		r.PerSecond = hashes / seconds
	}
	switch {
	case unknown && r.PerSecond == 0:
		r.Knowledge = NotKnown
	case unknown:
		r.Knowledge = PartlyKnown
	}
	return r
}

var prefixes = [...]string{"H", "kH", "MH", "GH", "TH", "PH", "EH", "ZH", "YH"}

// Format writes a hashrate with three digits, such as 12.3 TH/s.
func Format(perSecond float64) string { return format(perSecond, "/s") }

// FormatWork writes work in hashes with three digits: 12.3 TH.
func FormatWork(hashes float64) string { return format(hashes, "") }

func format(hashes float64, per string) string {
	if math.IsNaN(hashes) || math.IsInf(hashes, 0) || hashes < 0 {
		return "unknown"
	}
	i := 0
	// A number that would be rounded up to 1000 gets the next prefix.
	for hashes >= 999.5 && i < len(prefixes)-1 {
		hashes /= 1000
		i++
	}
	places := 2
	switch {
	case i == 0 && hashes == math.Trunc(hashes), hashes >= 99.95:
		places = 0
	case hashes >= 9.995:
		places = 1
	}
	return strconv.FormatFloat(hashes, 'f', places, 64) + " " + prefixes[i] + per
}
