package stratum

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// number is the value of an id: mantissa * 10^exponent. The mantissa does not end
// in zero.
type number struct {
	mantissa uint64
	exponent int
	negative bool
}

// numberOf reads an id that is a number or a string with a number. It reports
// false for numbers that are too large to be compared exactly.
func numberOf(raw []byte) (n number, ok bool) {
	if len(raw) > 2 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	if len(raw) > MaxRequestID || !isNumber(raw) {
		return n, false
	}
	i := 0
	if raw[0] == '-' {
		n.negative, i = true, 1
	}
	fraction := false
	for ; i < len(raw) && raw[i]|0x20 != 'e'; i++ {
		if raw[i] == '.' {
			fraction = true
			continue
		}
		if n.mantissa > (1<<64-10)/10 {
			return n, false
		}
		n.mantissa = n.mantissa*10 + uint64(raw[i]-'0')
		if fraction {
			n.exponent--
		}
	}
	if i < len(raw) {
		if len(raw)-i > 5 {
			return n, false
		}
		exponent, err := strconv.Atoi(string(raw[i+1:]))
		if err != nil {
			return n, false
		}
		n.exponent += exponent
	}
	if n.mantissa == 0 {
		return number{}, true
	}
	for n.mantissa%10 == 0 {
		n.mantissa /= 10
		n.exponent++
	}
	return n, true
}

// maxWholeNumber is the largest value that wholeNumber returns.
const maxWholeNumber = 1<<32 - 1

// wholeNumber returns the value of a number, or of a string with a number, in any form in
// which it may be written. It reports false for numbers that are negative, have a
// fraction, or exceed maxWholeNumber.
func wholeNumber(raw []byte) (uint64, bool) {
	n, ok := numberOf(raw)
	if !ok || n.negative {
		return 0, false
	}
	for ; n.exponent > 0 && n.mantissa <= maxWholeNumber; n.exponent-- {
		n.mantissa *= 10
	}
	return n.mantissa, n.exponent == 0 && n.mantissa <= maxWholeNumber
}

// SameID reports whether two ids have the same value. Pools may write an id in another
// way than the request: they answer 7 with "7" or 7.0, omit the quotes of a string,
// use other escapes, or put other spaces into a list.
func SameID(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if n, ok := numberOf(a); ok {
		m, ok := numberOf(b)
		return ok && n == m
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	if isList := a[0] == '[' || a[0] == '{'; isList || b[0] == '[' || b[0] == '{' {
		return a[0] == b[0] && bytes.Equal(compact(a), compact(b))
	}
	return bytes.Equal(idText(a), idText(b))
}

func compact(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

// idText returns an id without quotes and escapes.
func idText(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return raw
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		if text, ok := JsonString(raw); ok {
			return []byte(text)
		}
	}
	return raw[1 : len(raw)-1]
}
