package stratum

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The functions of this file find where the JSON values of a line end.

// isPlainText reports whether a line has neither control characters nor backslashes,
// apart from the end of the line. It checks 16 bytes at a time.
func isPlainText(line []byte) bool {
	const each = 0x0101010101010101
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	for len(line) >= 16 {
		x, y := binary.LittleEndian.Uint64(line), binary.LittleEndian.Uint64(line[8:])
		xSlash, ySlash := x^each*'\\', y^each*'\\'
		if ((x-each*' ')&^x|(xSlash-each)&^xSlash|(y-each*' ')&^y|(ySlash-each)&^ySlash)&(each*0x80) != 0 {
			return false
		}
		line = line[16:]
	}
	for len(line) >= 8 {
		x := binary.LittleEndian.Uint64(line)
		slash := x ^ each*'\\'
		if ((x-each*' ')&^x|(slash-each)&^slash)&(each*0x80) != 0 {
			return false
		}
		line = line[8:]
	}
	for _, c := range line {
		if c < ' ' || c == '\\' {
			return false
		}
	}
	return true
}

// spaceEnd returns the index of the first byte from i on that is not white space.
func spaceEnd(line []byte, i int) int {
	for i < len(line) && line[i] <= ' ' && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r' || line[i] == '\n') {
		i++
	}
	return i
}

// maxPlainDepth is how deep the arrays of a plain line may be nested.
const maxPlainDepth = 8

// plainValueEnd returns the index after the JSON value that begins at i, or -1 if the
// value is invalid or contains an object. The line must be plain text.
func plainValueEnd(line []byte, i, depth int) int {
	switch line[i] {
	case '"':
		end := quoteAfter(line, i+1)
		if end < 0 {
			return -1
		}
		return end + 1
	case '[':
		if depth == maxPlainDepth {
			return -1
		}
	default:
		return scalarEnd(line, i)
	}
	i = spaceEnd(line, i+1)
	if i < len(line) && line[i] == ']' {
		return i + 1
	}
	for i < len(line) {
		if line[i] == '"' { // nearly all elements are strings
			if i = quoteAfter(line, i+1) + 1; i == 0 {
				return -1
			}
		} else if i = plainValueEnd(line, i, depth+1); i < 0 {
			return -1
		}
		if i = spaceEnd(line, i); i == len(line) {
			return -1
		}
		if line[i] == ']' {
			return i + 1
		}
		if line[i] != ',' {
			return -1
		}
		i = spaceEnd(line, i+1)
	}
	return -1
}

// valueEnd returns the index after the JSON value that begins at i, or -1 if the value
// is incomplete. The content of arrays and objects is not checked.
func valueEnd(line []byte, i int) int {
	end := -1
	switch line[i] {
	case '"':
		end = stringEnd(line[i:])
	case '[', '{':
		end = arrayEnd(line[i:])
	default:
		return scalarEnd(line, i)
	}
	if end < 0 {
		return -1
	}
	return i + end + 1
}

// quoteAfter returns the index of the first quote from i on, or -1. It is faster than
// bytes.IndexByte for short strings, and most strings are short.
func quoteAfter(line []byte, i int) int {
	const each = 0x0101010101010101
	for range 3 {
		if len(line)-i < 8 {
			break
		}
		x := binary.LittleEndian.Uint64(line[i:]) ^ each*'"'
		if found := (x - each) &^ x & (each * 0x80); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
		i += 8
	}
	n := bytes.IndexByte(line[i:], '"')
	if n < 0 {
		return -1
	}
	return i + n
}

// scalarEnd returns the index after the number, true, false or null that begins at i,
// or -1 if something else begins there.
func scalarEnd(line []byte, i int) int {
	end := i
	for end < len(line) && line[end] >= '0' && line[end] <= '9' {
		end++
	}
	if end > i && end < len(line) && (line[i] != '0' || end == i+1) && (line[end] == ',' || line[end] == '}' || line[end] == ']') {
		return end // nearly all scalars are whole numbers
	}
	for end < len(line) && line[end] > ' ' && line[end] != ',' && line[end] != '}' && line[end] != ']' {
		end++
	}
	word := line[i:end]
	if len(word) > 0 && word[0] >= 'f' {
		switch string(word) {
		case "true", "false", "null":
			return end
		}
		return -1
	}
	if isNumber(word) {
		return end
	}
	return -1
}

// isNumber reports whether b is a JSON number.
func isNumber(b []byte) bool {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	whole := digits(b)
	if whole == 0 || whole > 1 && b[0] == '0' {
		return false
	}
	if whole == len(b) {
		return true
	}
	if b = b[whole:]; b[0] == '.' {
		n := digits(b[1:])
		if n == 0 {
			return false
		}
		b = b[1+n:]
	}
	if len(b) == 0 {
		return true
	}
	if b[0] != 'e' && b[0] != 'E' {
		return false
	}
	if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		b = b[1:]
	}
	return len(b) > 0 && digits(b) == len(b)
}

// digits returns how many digits b begins with.
func digits(b []byte) int {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

// stringEnd returns the index of the quote that ends the JSON string at the
// beginning of b, or -1.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		if i = quoteAfter(b, i); i < 0 {
			return -1
		}
		if b[i-1] != '\\' || !isEscaped(b, i) {
			return i
		}
	}
	return -1
}

// isEscaped reports whether the quote at i is preceded by an odd number of
// backslashes. b begins with the string.
func isEscaped(b []byte, i int) bool {
	slash := i
	for slash > 1 && b[slash-1] == '\\' {
		slash--
	}
	return (i-slash)%2 == 1
}

// arrayEnd returns the index of the bracket that ends the JSON array or object at
// the beginning of b, or -1.
func arrayEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			end := quoteAfter(b, i+1)
			if end >= 0 && b[end-1] == '\\' {
				if end = stringEnd(b[i:]); end >= 0 {
					end += i
				}
			}
			if end < 0 {
				return -1
			}
			i = end
		case c|0x20 == '{': // or '['
			depth++
		case c|0x20 == '}': // or ']'
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}
