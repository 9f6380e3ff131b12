package stratum

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Two kinds of lines are decoded instead of scanned: those of the handshakes, and
// odd lines, which other readers may understand differently. An odd line is passed
// on in canonical form only: first the members that the switcher looks at, each
// once and without escapes, then the other members unchanged.

var (
	errNotJSON   = errors.New("not a JSON object")
	ErrArray     = errors.New("a JSON array")
	ErrAmbiguous = errors.New("a line that can be read in more than one way")
)

// decodedLine is a line's object as a JSON decoder reads it. If several members
// have the same name, the last one counts.
type decodedLine struct {
	values [memberCount]json.RawMessage
	others []byte // all other members as they were sent, each after a comma
}

// LineJunk contains the characters that some programs send before or after a line's
// object: white space, the NUL that ends a C string, and a byte-order mark.
const LineJunk = " \t\r\n\x00\ufeff"

// decodeLine reads a line that is one JSON object. The result shares no memory
// with line.
func decodeLine(line []byte) (*decodedLine, error) {
	line = bytes.Trim(line, LineJunk)
	if len(line) == 0 || line[0] != '{' && line[0] != '[' || !json.Valid(line) {
		return nil, errNotJSON
	}
	if line[0] == '[' {
		return nil, ErrArray
	}
	line = bytes.Clone(line)
	var d decodedLine
	for i := spaceEnd(line, 1); line[i] == '"'; {
		name := i
		end := valueEnd(line, i)
		start := spaceEnd(line, spaceEnd(line, end)+1)
		text, ok := JsonString(line[name:end])
		if !ok {
			return nil, errNotJSON
		}
		i = valueEnd(line, start)
		switch which := memberLike(text); {
		case which < memberCount:
			d.values[which] = line[start:i:i]
		case bytes.IndexByte([]byte(text), 0) >= 0:
			// In C, the name ends before the NUL.
			return nil, ErrAmbiguous
		default:
			d.others = append(append(d.others, ','), line[name:i]...)
		}
		if i = spaceEnd(line, i); line[i] != ',' {
			break
		}
		i = spaceEnd(line, i+1)
	}
	return &d, nil
}

// notNull returns a member's value, or nil if it is absent or null.
func (d *decodedLine) notNull(m Member) json.RawMessage {
	if raw := d.values[m]; !IsNull(raw) {
		return raw
	}
	return nil
}

// method returns the method's name. It is empty if there is none.
func (d *decodedLine) method() (string, error) {
	raw := d.values[MemberMethod]
	if IsNull(raw) {
		return "", nil
	}
	name, ok := JsonString(raw)
	if !ok || bytes.IndexByte([]byte(name), 0) >= 0 {
		return "", ErrAmbiguous
	}
	return name, nil
}

// appendCanonical appends the line in canonical form to b.
func (d *decodedLine) appendCanonical(b []byte) ([]byte, error) {
	if _, err := d.method(); err != nil {
		return b, err
	}
	var err error
	b = append(b, '{')
	for m, raw := range d.values {
		switch Member(m) {
		case MemberMethod:
			if IsNull(raw) {
				raw = nil
			} else {
				raw = fewestEscapes(raw)
			}
		case MemberParams, MemberWorker:
			if raw, err = withoutEscapes(raw); err != nil {
				return b, err
			}
		}
		if raw == nil {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, memberNames[m]...)
		b = append(b, '"', ':')
		b = append(b, raw...)
	}
	others := d.others
	if b[len(b)-1] == '{' && len(others) > 0 {
		others = others[1:]
	}
	b = append(b, others...)
	return append(b, '}', '\n'), nil
}

// withoutEscapes writes the strings in a JSON value with as few escapes as
// possible; see fewestEscapes. Everything else stays unchanged.
func withoutEscapes(raw json.RawMessage) (json.RawMessage, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, nil
	}
	var out []byte
	for i := 0; i < len(raw); {
		if raw[i] != '"' {
			out = append(out, raw[i])
			i++
			continue
		}
		end := valueEnd(raw, i)
		text, ok := JsonString(raw[i:end])
		if !ok || bytes.IndexByte([]byte(text), 0) >= 0 {
			return nil, ErrAmbiguous
		}
		out = append(out, fewestEscapes(raw[i:end])...)
		i = end
	}
	return out, nil
}

// CanonicalLine returns an odd line in canonical form.
func CanonicalLine(line []byte) ([]byte, error) {
	d, err := decodeLine(line)
	if err != nil {
		return nil, err
	}
	return d.appendCanonical(nil)
}
