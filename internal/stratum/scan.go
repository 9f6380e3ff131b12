package stratum

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
)

// The byte scanners find the members and parameters of a line without decoding
// it. They find only the members of the line's own object and ignore those of
// objects inside it, so that they agree with any JSON decoder.

// Member names the members of a line that the switcher looks at.
type Member uint8

const (
	MemberID Member = iota
	MemberMethod
	MemberParams
	MemberWorker
	MemberResult
	MemberError
	memberCount
)

var memberNames = [memberCount]string{"id", "method", "params", "worker", "result", "error"}

// memberNamed returns the member with this name. It returns memberCount for all
// other names.
func memberNamed(name []byte) Member {
	switch string(name) {
	case "id":
		return MemberID
	case "method":
		return MemberMethod
	case "params":
		return MemberParams
	case "worker":
		return MemberWorker
	case "result":
		return MemberResult
	case "error":
		return MemberError
	}
	return memberCount
}

// memberLike is memberNamed without regard to case: some decoders ignore the case
// of names.
func memberLike(name string) Member {
	for m, known := range memberNames {
		if strings.EqualFold(name, known) {
			return Member(m)
		}
	}
	return memberCount
}

// span is the position of a part of a line. FindParams returns strings without
// their quotes. The zero value means that there is no such part.
type span struct{ Start, End int }

// ScannedLine is the result of one pass over a line.
type ScannedLine struct {
	Members [memberCount]span // positions of the raw values; the last one of each name

	// Whole is set if the line is one complete JSON object, as far as the scan can
	// tell.
	Whole bool

	// Odd is set if other parsers may find other members, because a name has an
	// escape, is written in another case, or appears twice. A miner's line is also
	// odd if it contains an escape or another object anywhere.
	Odd bool
}

// Value returns the raw value of a member. It is empty if the member is absent.
func (sc *ScannedLine) Value(line []byte, m Member) []byte {
	at := sc.Members[m]
	return line[at.Start:at.End:at.End]
}

// Method returns the method's name. It is empty if there is none.
func (sc *ScannedLine) Method(line []byte) []byte {
	at := sc.Members[MemberMethod]
	if at.End-at.Start < 2 || line[at.Start] != '"' {
		return nil
	}
	return line[at.Start+1 : at.End-1]
}

// ID returns the raw id, or nil if it is absent or null.
func (sc *ScannedLine) ID(line []byte) []byte {
	id := sc.Value(line, MemberID)
	if len(id) == 0 || id[0] == 'n' {
		return nil
	}
	return id
}

// Has reports whether the line has the member with a value other than null.
func (sc *ScannedLine) Has(line []byte, m Member) bool {
	at := sc.Members[m]
	return at.End > 0 && line[at.Start] != 'n'
}

// ScanMinerLine checks a miner's line completely. If the result is whole and not odd,
// the line is valid JSON that has each member at most once, no escapes and no other
// object.
func ScanMinerLine(line []byte) (sc ScannedLine) {
	sc.Scan(line, true)
	return sc
}

// ScanPoolLine scans a pool's line. Its values may have escapes and objects, and
// the content of arrays and objects is not checked.
func ScanPoolLine(line []byte) (sc ScannedLine) {
	sc.Scan(line, false)
	return sc
}

// Scan is ScanMinerLine if strict is set, otherwise ScanPoolLine. It stores the result
// in sc, which must be zero.
func (sc *ScannedLine) Scan(line []byte, strict bool) {
	if !sc.scanUsual(line, strict) {
		*sc = ScannedLine{}
		sc.scanAny(line, strict)
	}
}

// scanAny is Scan for lines in any form.
func (sc *ScannedLine) scanAny(line []byte, strict bool) {
	if strict && !isPlainText(line) {
		sc.Odd = true
		strict = false
	}
	i := spaceEnd(line, 0)
	if i == len(line) || line[i] != '{' {
		return
	}
	sc.Odd = sc.Odd || strict && i > 0
	i = spaceEnd(line, i+1)
	if i < len(line) && line[i] == '}' {
		sc.Whole = spaceEnd(line, i+1) == len(line)
		return
	}
	for i < len(line) && line[i] == '"' {
		which, end := sc.name(line, i)
		if end < 0 {
			return
		}
		i = spaceEnd(line, end)
		if i == len(line) || line[i] != ':' {
			return
		}
		start := spaceEnd(line, i+1)
		if start == len(line) {
			return
		}
		if strict {
			if i = plainValueEnd(line, start, 0); i < 0 {
				sc.Odd = true // it may also be invalid JSON, which decoding finds out
				return
			}
		} else if i = valueEnd(line, start); i < 0 {
			return
		}
		if which < memberCount {
			sc.Odd = sc.Odd || sc.Members[which].End > 0 || which == MemberMethod && !strict && bytes.IndexByte(line[start:i], '\\') >= 0
			sc.Members[which] = span{start, i}
		}
		i = spaceEnd(line, i)
		if i == len(line) {
			return
		}
		if line[i] == '}' {
			sc.Whole = spaceEnd(line, i+1) == len(line)
			return
		}
		if line[i] != ',' {
			return
		}
		i = spaceEnd(line, i+1)
	}
}

// name reads the name that begins with the quote at i. It returns the member and the
// index after the name's closing quote, or -1 if there is none. An odd name sets
// sc.Odd.
func (sc *ScannedLine) name(line []byte, i int) (which Member, end int) {
	if rest := line[i+1:]; len(rest) > 7 { // the usual names are compared directly
		switch {
		case string(rest[:3]) == `id"`:
			return MemberID, i + 4
		case string(rest[:7]) == `method"`:
			return MemberMethod, i + 8
		case string(rest[:7]) == `params"`:
			return MemberParams, i + 8
		case string(rest[:7]) == `result"`:
			return MemberResult, i + 8
		case string(rest[:6]) == `error"`:
			return MemberError, i + 7
		}
	}
	if end = stringEnd(line[i:]); end < 0 {
		return memberCount, -1
	}
	name := line[i+1 : i+end]
	which = memberNamed(name)
	if which == memberCount && (!isPlainName(name) || len(name) < 7 && memberLike(string(name)) < memberCount) {
		sc.Odd = true
	}
	return which, i + end + 1
}

// isPlainName reports whether a member's name is ASCII without escapes. Some
// decoders regard certain other letters as equal to ASCII letters.
func isPlainName(name []byte) bool {
	for _, c := range name {
		if c < ' ' || c >= 0x80 || c == '\\' {
			return false
		}
	}
	return true
}

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

// memberValue returns the rest of the line from the member's value on. It returns nil
// if the line is not an object or does not have the member.
func memberValue(line []byte, m Member) []byte {
	sc := ScanPoolLine(line)
	if at := sc.Members[m]; at.End > 0 {
		return line[at.Start:]
	}
	return nil
}

// LineMethod returns the value of a line's "method" member, or nil.
func LineMethod(line []byte) []byte {
	sc := ScanPoolLine(line)
	return sc.Method(line)
}

// WorkerField returns the raw value of a line's "worker" member, or nil.
func WorkerField(line []byte) []byte {
	sc := ScanPoolLine(line)
	return sc.Value(line, MemberWorker)
}

// LineID returns the raw value of a line's "id" member, or nil if it is absent or
// null.
func LineID(line []byte) []byte {
	sc := ScanPoolLine(line)
	return sc.ID(line)
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
