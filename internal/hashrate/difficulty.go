package hashrate

import (
	"bytes"
	"math"
	"strconv"
)

// Difficulty is the expected work of one share, in units of 2^32 hashes. This is
// difficulty 1 on bitcoin and decred and in NiceHash's Ethereum protocol.
// Ethereum's other protocols count in hashes; see [Unit]. A float32 holds every
// difficulty that pools use with seven digits, and powers of two exactly.
//
// The zero value is [Unknown].
type Difficulty float32

// Unknown is the difficulty of a share if the pool has not set any. It does not mean
// zero work: such shares are counted separately.
const Unknown Difficulty = 0

const (
	// hashesPerUnit is how many hashes difficulty 1 takes on average.
	hashesPerUnit = 1 << 32

	// minDifficulty is half a hash: anything easier takes no work.
	// maxDifficulty is far beyond that of any network. It keeps a pool from
	// making sums of work meaningless with a single line.
	minDifficulty = 0x1p-33
	maxDifficulty = 0x1p63
)

// Unit is the number of hashes that difficulty 1 stands for on a chain.
type Unit float64

const (
	UnitBitcoin  Unit = hashesPerUnit
	UnitDecred   Unit = hashesPerUnit // the easiest target is 2^224, nearly the same as bitcoin's
	UnitEthereum Unit = 1             // except in NiceHash's protocol, which uses bitcoin's unit
)

// Known reports whether d is not [Unknown].
func (d Difficulty) Known() bool { return d != Unknown }

// Hashes returns how many hashes a share of this difficulty takes on average, or 0 if
// the difficulty is unknown.
func (d Difficulty) Hashes() float64 { return float64(d) * hashesPerUnit }

// In returns the difficulty in the unit of a chain, or 0 if it is unknown.
func (d Difficulty) In(u Unit) float64 { return d.Hashes() / float64(u) }

func (d Difficulty) String() string {
	if !d.Known() {
		return "unknown"
	}
	return strconv.FormatFloat(float64(d), 'g', -1, 32)
}

// bounded converts a number that a pool or a file contains to a Difficulty. Numbers
// beyond the limits become Unknown.
func bounded(v float64) Difficulty {
	if !(v >= minDifficulty && v <= maxDifficulty) { // false for NaN too
		return Unknown
	}
	return Difficulty(v)
}

// Restored converts a number from a state file to a Difficulty.
func Restored(v float32) Difficulty { return bounded(float64(v)) }

// maxNumber is the length in bytes of the longest number that is read.
const maxNumber = 64

// ParseDifficulty reads the parameter of mining.set_difficulty: a JSON number, or
// a string that contains one, with or without its quotes. Everything else is
// [Unknown], including the hexadecimal strings that pools of some chains send.
func ParseDifficulty(value []byte) Difficulty {
	v, ok := parseNumber(unquoted(value))
	if !ok {
		return Unknown
	}
	return bounded(v)
}

// unquoted returns a value without surrounding white space and quotes.
func unquoted(b []byte) []byte {
	b = bytes.TrimSpace(b)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = bytes.TrimSpace(b[1 : len(b)-1])
	}
	return b
}

// parseNumber reads a JSON number without allocating; strconv allocates an error
// for each number that is invalid. The last digits of the result may be wrong.
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

// decimal is a number that is being read: mantissa * 10^exponent.
type decimal struct {
	mantissa uint64
	exponent int
}

// digits appends the leading digits of b to n and returns how many there are.
// Digits that do not fit into the mantissa only change the exponent.
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
		return float64(n.mantissa) / math.Pow10(-n.exponent) // 0 if the power is infinite
	}
	return float64(n.mantissa) * math.Pow10(n.exponent)
}

// parseExponent reads the digits after the e. It limits exponents to 1000, which is
// out of a float64's range anyway.
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
