package stratum

import (
	"encoding/binary"
	"math/bits"
)

// Nearly all lines have the same form: each of the usual members at most once, no
// white space except a single space after a colon or comma, and no backslashes in
// strings. scanUsual reads such a line in one pass. scanAny reads all other lines.

// These are the first bytes of names and values as little-endian words. The words of
// names include the closing quote and the colon.
const (
	wordID     = 'i' | 'd'<<8 | '"'<<16 | ':'<<24
	wordMethod = 'm' | 'e'<<8 | 't'<<16 | 'h'<<24 | 'o'<<32 | 'd'<<40 | '"'<<48 | ':'<<56
	wordParams = 'p' | 'a'<<8 | 'r'<<16 | 'a'<<24 | 'm'<<32 | 's'<<40 | '"'<<48 | ':'<<56
	wordResult = 'r' | 'e'<<8 | 's'<<16 | 'u'<<24 | 'l'<<32 | 't'<<40 | '"'<<48 | ':'<<56
	wordError  = 'e' | 'r'<<8 | 'r'<<16 | 'o'<<24 | 'r'<<32 | '"'<<40 | ':'<<48

	wordTrue = 't' | 'r'<<8 | 'u'<<16 | 'e'<<24
	wordNull = 'n' | 'u'<<8 | 'l'<<16 | 'l'<<24
)

// usualMargin is how many bytes must follow the quote of a name, so that a word can be
// read there without a check for the end of the line. Lines that end earlier are left
// to scanAny.
const usualMargin = 8

// scanUsual is Scan for the line that b begins with, if it is in the usual form. It
// returns the length of the line with its "\n". It returns 0 if the line has another
// form; sc is then undefined.
//
// No byte is passed without a look at it, apart from the content of arrays if strict is
// not set. So the "\n" that is found is the first one.
func (sc *ScannedLine) scanUsual(b []byte, strict bool) int {
	line := b
	if len(line) == 0 || line[0] != '{' {
		return 0
	}
	for i := 1; i+1+usualMargin <= len(line) && line[i] == '"'; {
		var which Member
		switch w := binary.LittleEndian.Uint64(line[i+1:]); {
		case uint32(w) == wordID:
			which, i = MemberID, i+5
		case w == wordMethod:
			which, i = MemberMethod, i+9
		case w == wordParams:
			which, i = MemberParams, i+9
		case w == wordResult:
			which, i = MemberResult, i+9
		case w<<8>>8 == wordError:
			which, i = MemberError, i+8
		default:
			return 0
		}
		if sc.Members[which].End > 0 || i+1 >= len(line) {
			return 0
		}
		if line[i] == ' ' {
			i++
		}
		start := i
		switch c := line[i]; {
		case c == '"':
			i = usualText(line, i)
		case which == MemberMethod:
			return 0
		case c == '[':
			if strict {
				i = usualArray(line, i)
			} else {
				line = line[:i+len(NextLine(line[i:]))]
				if i = arrayEnd(line[start:]); i >= 0 {
					i += start + 1
				}
			}
		default:
			i = usualScalar(line, i)
		}
		if i < 0 || i+1 >= len(line) {
			return 0
		}
		sc.Members[which] = span{start, i}
		switch {
		case line[i] == ',':
			if i++; line[i] == ' ' {
				i++
			}
		case line[i] == '}' && line[i+1] == '\n':
			sc.Whole = true
			return i + 2
		default:
			return 0
		}
	}
	return 0
}

// usualScalar returns the index after the whole number, true, false or null that begins
// at i. It returns -1 if something else begins there or the line ends with it.
func usualScalar(line []byte, i int) int {
	if line[i]-'0' <= 9 {
		end := i + 1
		for end < len(line) && line[end]-'0' <= 9 {
			end++
		}
		if line[i] == '0' && end > i+1 || end == len(line) {
			return -1
		}
		return terminated(line, end)
	}
	if i+5 > len(line) {
		return -1
	}
	switch w := binary.LittleEndian.Uint32(line[i:]); {
	case w == wordTrue || w == wordNull:
		return terminated(line, i+4)
	case w == 'f'|'a'<<8|'l'<<16|'s'<<24 && line[i+4] == 'e' && i+5 < len(line):
		return terminated(line, i+5)
	}
	return -1
}

// terminated returns end if the byte there may follow a value, otherwise -1.
func terminated(line []byte, end int) int {
	switch line[end] {
	case ',', '}', ']':
		return end
	}
	return -1
}

// usualText returns the index after the string that begins with the quote at i, or -1
// if the string has a backslash or a control character.
func usualText(line []byte, i int) int {
	for i++; i+8 <= len(line); i += 8 {
		end, bad := textEnd(binary.LittleEndian.Uint64(line[i:]))
		if bad {
			return -1
		}
		if end != 0 {
			return i + bits.TrailingZeros64(end)/8 + 1
		}
	}
	// Fewer than 8 bytes are left. They are read with zeros after them.
	left := len(line) - i
	if left <= 0 || len(line) < 8 {
		return -1
	}
	end, bad := textEnd(binary.LittleEndian.Uint64(line[len(line)-8:]) >> (64 - 8*left))
	if end == 0 || bad {
		return -1
	}
	return i + bits.TrailingZeros64(end)/8 + 1
}

// textEnd examines eight bytes of a string. The lowest bit that is set in end is the
// highest bit of the first quote's byte; end is 0 if there is no quote. bad reports
// whether a backslash or a control character comes before the quote.
func textEnd(x uint64) (end uint64, bad bool) {
	const each = 0x0101010101010101
	quote, slash := x^each*'"', x^each*'\\'
	end = (quote - each) &^ quote & (each * 0x80)
	// The bits above the first match may be wrong, because a subtraction borrows from
	// the next byte. So only the bytes up to the first quote are considered, or all
	// eight if there is none.
	other := ((x-each*' ')&^x | (slash-each)&^slash) & (each * 0x80)
	return end, other&(end^(end-1)) != 0
}

// usualArray returns the index after the array that begins at i, or -1 if the array
// contains anything but strings and scalars.
func usualArray(line []byte, i int) int {
	for i++; i < len(line); {
		if line[i] == '"' {
			i = usualText(line, i)
		} else {
			i = usualScalar(line, i)
		}
		if i < 0 || i+1 >= len(line) {
			return -1
		}
		switch line[i] {
		case ']':
			return i + 1
		case ',':
			if i++; line[i] == ' ' {
				i++
			}
		default:
			return -1
		}
	}
	return -1
}
