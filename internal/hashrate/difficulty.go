package hashrate

import (
	"bytes"
	"math"
	"strconv"
)

// Difficulty is what one share stands for, in units of 2^32 hashes: this is
// difficulty 1 for bitcoin, for decred and for NiceHash's Ethereum protocol.
// Ethereum's other protocols count in hashes; see [Unit]. Four bytes hold every
// difficulty that pools use to seven digits, and powers of two exactly.
//
// The zero value is [Unknown].
type Difficulty float32

// Unknown is the difficulty of a share of which nobody has said it. It is not
// a difficulty of zero: work done at it is not added up but counted apart.
const Unknown Difficulty = 0

const (
	// hashesPerUnit is how many hashes difficulty 1 takes on average.
	hashesPerUnit = 1 << 32

	// minDifficulty is about half a hash: what is easier takes no work.
	// maxDifficulty is far beyond any network's, so that a pool cannot make
	// sums of work meaningless by one line.
	minDifficulty = 0x1p-33
	maxDifficulty = 0x1p63
)

// Unit is how many hashes a chain's pools and miners mean by difficulty 1.
type Unit float64

const (
	UnitBitcoin  Unit = hashesPerUnit
	UnitDecred   Unit = hashesPerUnit // its easiest target is 2^224, as bitcoin's is but for the last bits
	UnitEthereum Unit = 1             // but for NiceHash's protocol, which counts as bitcoin does
)

// Known reports whether d is a difficulty.
func (d Difficulty) Known() bool { return d != Unknown }

// Hashes is how many hashes such a share takes on average, 0 if unknown.
func (d Difficulty) Hashes() float64 { return float64(d) * hashesPerUnit }

// In is the difficulty in the unit of a chain, 0 if unknown.
func (d Difficulty) In(u Unit) float64 { return d.Hashes() / float64(u) }

func (d Difficulty) String() string {
	if !d.Known() {
		return "unknown"
	}
	return strconv.FormatFloat(float64(d), 'g', -1, 32)
}

// bounded makes a Difficulty of a number from outside, Unknown of one that
// cannot be meant.
func bounded(v float64) Difficulty {
	if !(v >= minDifficulty && v <= maxDifficulty) { // false for NaN too
		return Unknown
	}
	return Difficulty(v)
}

// Restored is a Difficulty of a state file.
func Restored(v float32) Difficulty { return bounded(float64(v)) }

// maxNumber is the longest number that is read.
const maxNumber = 64

// ParseDifficulty reads the parameter of mining.set_difficulty: a JSON number, or
// a text that is one, with or without its quotes. All else is [Unknown]. So are
// texts in hexadecimal, which some chains' pools send.
func ParseDifficulty(value []byte) Difficulty {
	v, ok := parseNumber(unquoted(value))
	if !ok {
		return Unknown
	}
	return bounded(v)
}

// unquoted is a value without white space and quotes around it.
func unquoted(b []byte) []byte {
	b = bytes.TrimSpace(b)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = bytes.TrimSpace(b[1 : len(b)-1])
	}
	return b
}

// parseNumber reads a JSON number without allocating, as strconv does only if
// nothing is wrong with it. It may be off in the last digits of a float64.
func parseNumber(b []byte) (v float64, ok bool) {
	if len(b) == 0 || len(b) > maxNumber {
		return 0, false
	}
	negative := b[0] == '-'
	if negative {
		b = b[1:]
	}
	var n decimal
	whole := n.digits(b, false)
	if whole == 0 || whole > 1 && b[0] == '0' {
		return 0, false
	}
	b = b[whole:]
	if len(b) > 0 && b[0] == '.' {
		places := n.digits(b[1:], true)
		if places == 0 {
			return 0, false
		}
		b = b[1+places:]
	}
	if len(b) > 0 {
		if b[0] != 'e' && b[0] != 'E' {
			return 0, false
		}
		exponent, good := parseExponent(b[1:])
		if !good {
			return 0, false
		}
		n.exponent += exponent
	}
	if v = n.value(); negative {
		v = -v
	}
	return v, true
}

// decimal is a number as it is read: mantissa times ten to the exponent.
type decimal struct {
	mantissa uint64
	exponent int
}

// digits adds the digits that b begins with and returns how many there are.
// Those that do not fit the mantissa only count as places.
func (n *decimal) digits(b []byte, fraction bool) int {
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		switch fits := n.mantissa < math.MaxUint64/10-1; {
		case fits:
			n.mantissa = n.mantissa*10 + uint64(b[i]-'0')
			if fraction {
				n.exponent--
			}
		case !fraction:
			n.exponent++
		}
	}
	return i
}

func (n *decimal) value() float64 {
	if n.exponent < 0 {
		return float64(n.mantissa) / math.Pow10(-n.exponent) // 0 if that is infinite
	}
	return float64(n.mantissa) * math.Pow10(n.exponent)
}

// parseExponent reads what follows the e. What is beyond a float64 is as good as
// any number that is.
func parseExponent(b []byte) (exponent int, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		b = b[1:]
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		exponent = min(exponent*10+int(c-'0'), 1000)
	}
	if negative {
		exponent = -exponent
	}
	return exponent, len(b) > 0
}
