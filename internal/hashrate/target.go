package hashrate

import "math"

// A target is a 256-bit number that a share's hash must not exceed. It is written
// in hexadecimal, with the highest digit first. Leading zeros may be left out:
// pools send 58 digits to old Ethereum miners.

const targetDigits = 64

// FromTarget reads the target of mining.set_target, with or without quotes and
// 0x. As on all chains except Ethereum, the target 0xffff<<208 is difficulty 1.
func FromTarget(value []byte) Difficulty {
	// A float32 has no room for more than the first 64 bits.
	top, shift, ok := parseTarget(value)
	if !ok {
		return Unknown
	}
	return bounded(math.Ldexp(0xffff/float64(top), 208-shift))
}

// FromEthereumTarget reads the target of an Ethereum job, which is 2^256 divided
// by the number of hashes.
func FromEthereumTarget(value []byte) Difficulty {
	top, shift, ok := parseTarget(value)
	if !ok {
		return Unknown
	}
	return bounded(math.Ldexp(1/float64(top), 256-32-shift))
}

// parseTarget reads a target as top * 2^shift, rounded down. It reports false if
// the target is zero, too long or not a number.
func parseTarget(value []byte) (top uint64, shift int, ok bool) {
	b := unquoted(value)
	if len(b) > 2 && b[0] == '0' && (b[1] == 'x' || b[1] == 'X') {
		b = b[2:]
	}
	if len(b) == 0 || len(b) > targetDigits {
		return 0, 0, false
	}
	for _, c := range b {
		digit, isHex := hexDigit(c)
		if !isHex {
			return 0, 0, false
		}
		if top>>60 != 0 {
			shift += 4
			continue
		}
		top = top<<4 | uint64(digit)
	}
	return top, shift, top != 0
}

func hexDigit(c byte) (digit byte, ok bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
