package stratum

import (
	"bytes"
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
	if n := sc.scanUsual(line, strict); n == 0 || n < len(line) {
		*sc = ScannedLine{}
		sc.scanAny(line, strict)
	}
}

// ScanNext is Scan for the first line of b, which must have a complete one. It returns
// this line. A line in the usual form is searched for its end while it is scanned.
func (sc *ScannedLine) ScanNext(b []byte, strict bool) []byte {
	if n := sc.scanUsual(b, strict); n > 0 {
		return b[:n]
	}
	line := NextLine(b)
	*sc = ScannedLine{}
	sc.scanAny(line, strict)
	return line
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
