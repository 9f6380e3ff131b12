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

// idNumber reads the value of an id. Other than for numberOf, the number may be padded with
// zeros, and in a string also with spaces, or be hexadecimal after 0x.
func idNumber(raw []byte) (number, bool) {
	if len(raw) > MaxRequestID {
		return number{}, false
	}
	if len(raw) > 2 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		raw = bytes.Trim(raw[1:len(raw)-1], " ")
		if len(raw) > 2 && raw[0] == '0' && raw[1]|0x20 == 'x' {
			return hexNumber(raw[2:])
		}
	}
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		raw = raw[1:]
	}
	for len(raw) > 1 && raw[0] == '0' && raw[1] >= '0' && raw[1] <= '9' {
		raw = raw[1:]
	}
	if len(raw) == 0 || raw[0] == '-' || raw[0] == '"' {
		return number{}, false
	}
	n, ok := numberOf(raw)
	n.negative = negative && n.mantissa > 0
	return n, ok
}

// numberOf reads a number or a string with a number. It reports false for numbers
// that are too large to be compared exactly.
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
	return n.normal(), true
}

// hexNumber reads the digits of a hexadecimal number.
func hexNumber(digits []byte) (number, bool) {
	value, err := strconv.ParseUint(string(digits), 16, 64)
	if err != nil {
		return number{}, false
	}
	return number{mantissa: value}.normal(), true
}

// normal returns the number in the form that numbers of the same value have in common.
func (n number) normal() number {
	if n.mantissa == 0 {
		return number{}
	}
	for n.mantissa%10 == 0 {
		n.mantissa /= 10
		n.exponent++
	}
	return n
}

// maxWholeNumber is the largest value that wholeNumber returns.
const maxWholeNumber = 1<<32 - 1

// wholeNumber returns the value of a number, or of a string with a number, in any form in
// which it may be written. It reports false for numbers that are negative, have a
// fraction, or exceed maxWholeNumber.
func wholeNumber(raw []byte) (uint64, bool) {
	n, ok := numberOf(raw)
	if !ok {
		return 0, false
	}
	return n.whole()
}

// whole returns the number if it is one that wholeNumber may return.
func (n number) whole() (uint64, bool) {
	if n.negative {
		return 0, false
	}
	for ; n.exponent > 0 && n.mantissa <= maxWholeNumber; n.exponent-- {
		n.mantissa *= 10
	}
	return n.mantissa, n.exponent == 0 && n.mantissa <= maxWholeNumber
}

// SameID reports whether two ids have the same value. Pools may write an id in another
// way than the request: they answer 7 with "7", 7.0, "007" or "0x7", omit the quotes of a
// string, use other escapes, or put other spaces into a list. Forms that may stand for
// several values are not the same: true for any number but 0, and [55] for 55 or, from
// programs whose strings are lists of character codes, for "7".
func SameID(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if n, ok := idNumber(a); ok {
		m, ok := idNumber(b)
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
