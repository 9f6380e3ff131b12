package stratum

import (
	"bytes"
	"fmt"
	"slices"
)

// ScalarParam returns the n-th parameter of a line, counted from 0, if it is a string
// or a number, otherwise nil. A string comes without its quotes but with its escapes.
func ScalarParam(line []byte, n int) []byte {
	return scalarElement(memberValue(line, MemberParams), n)
}

// scalarElement is ScalarParam for the JSON array at the beginning of b.
func scalarElement(b []byte, n int) []byte {
	if len(b) == 0 || b[0] != '[' {
		return nil
	}
	for i := spaceEnd(b, 1); i < len(b); n-- {
		end := valueEnd(b, i)
		if end < 0 {
			return nil
		}
		if n == 0 {
			switch c := b[i]; {
			case c == '"':
				return b[i+1 : end-1]
			case c == '-' || c >= '0' && c <= '9':
				return b[i:end]
			}
			return nil
		}
		if i = spaceEnd(b, end); i == len(b) || b[i] != ',' {
			return nil
		}
		i = spaceEnd(b, i+1)
	}
	return nil
}

// FindParams finds the first parameters of a line, one for each element of spans. It
// sets the spans that are not nil; their parameters must be strings. It reports whether
// all were found.
func FindParams(line []byte, spans ...*span) bool {
	b := memberValue(line, MemberParams)
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	at := len(line) - len(b)
	i := spaceEnd(line, at+1)
	for n, want := range spans {
		if n > 0 {
			if line[i] != ',' {
				return false
			}
			i = spaceEnd(line, i+1)
		}
		if i == len(line) || want != nil && line[i] != '"' {
			return false
		}
		end := valueEnd(line, i)
		if end < 0 {
			return false
		}
		if want != nil {
			*want = span{i + 1, end - 1}
		}
		if i = spaceEnd(line, end); i == len(line) || line[i] != ',' && line[i] != ']' {
			return false
		}
	}
	return true
}

// JobIDSpan finds the n-th parameter of a line, counted from 0, if it is a string
// or a number. The span of a string does not include the quotes.
func JobIDSpan(line []byte, n int) (id span, number, ok bool) {
	b := memberValue(line, MemberParams)
	if len(b) == 0 || b[0] != '[' {
		return span{}, false, false
	}
	for {
		if b = b[spaceEnd(b, 1):]; len(b) == 0 {
			return span{}, false, false
		}
		start, end := len(line)-len(b), 0
		if number = b[0] != '"'; number {
			for end < len(b) && (b[end] >= '0' && b[end] <= '9' || n > 0 && b[end] > ' ' && bytes.IndexByte([]byte(`,"[]{}`), b[end]) < 0) {
				end++
			}
			if end == 0 {
				return span{}, false, false
			}
			id, b = span{start, start + end}, b[end:]
		} else {
			if end = stringEnd(b); end < 0 {
				return span{}, false, false
			}
			id, b = span{start + 1, start + end}, b[end+1:]
		}
		b = b[spaceEnd(b, 0):]
		if n == 0 {
			return id, number, len(b) > 0 && (b[0] == ',' || b[0] == ']')
		}
		if n--; len(b) == 0 || b[0] != ',' {
			return span{}, false, false
		}
	}
}

// PutJobID replaces the n-th parameter of a line, a job ID, by another ID.
func PutJobID(line []byte, n int, id []byte) []byte {
	at, _, ok := JobIDSpan(line, n)
	if !ok {
		return line
	}
	return slices.Replace(line, at.Start, at.End, id...)
}

// UsualJobID returns the job ID of a line if it is a short string without escapes, as
// nearly all are, and nil otherwise. It is faster than JobIDSpan.
func UsualJobID(line []byte, params span) []byte {
	start := params.Start + 2
	if params.End <= start || line[start-2] != '[' || line[start-1] != '"' {
		return nil
	}
	end := quoteAfter(line, start)
	if end < 0 || end-start > MaxJobID {
		return nil
	}
	for _, c := range line[start:end] {
		if c == '\\' {
			return nil
		}
	}
	return line[start:end]
}

// PlainID returns a job ID without escapes, because pool and miner may use different
// ones.
func PlainID(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	if text, ok := JsonString(fmt.Appendf(nil, `"%s"`, raw)); ok {
		return []byte(text)
	}
	return raw
}

// JobID returns the job ID of a mining.notify line: a raw JSON string without its
// quotes, or a number.
func JobID(line []byte) []byte { return ScalarParam(line, 0) }

// ShareJobID returns the job ID of a mining.submit line, in the same form.
func ShareJobID(line []byte) []byte { return ScalarParam(line, 1) }

// AnswerJobID returns the header hash of an ETHProxy pool's answer, which is the first
// element of the result. Shares contain it in place of a job ID.
func AnswerJobID(line []byte) []byte { return scalarElement(memberValue(line, MemberResult), 0) }

// AnswerTarget returns the target of the job in an ETHProxy pool's answer.
func AnswerTarget(line []byte) []byte { return scalarElement(memberValue(line, MemberResult), 2) }

// CutVersionBits removes the sixth parameter of mining.submit, the version bits of
// BIP 310, because a pool without version rolling may refuse it. The bits do not
// matter, because the miner was given an empty mask.
func CutVersionBits(line []byte) []byte {
	var nonce, bits span
	if !FindParams(line, nil, nil, nil, nil, &nonce, &bits) {
		return line
	}
	return append(line[:nonce.End+1], line[bits.End+1:]...)
}

// replaceSpan returns a copy of line in which text replaces a part.
func replaceSpan(line []byte, at span, text string) []byte {
	out := make([]byte, 0, len(line)+len(text))
	out = append(out, line[:at.Start]...)
	out = append(out, text...)
	return append(out, line[at.End:]...)
}

// WithID returns a copy of the line with another id. at is the position of the old one.
func WithID(line []byte, at span, id []byte) []byte { return replaceSpan(line, at, string(id)) }

// LooseID finds the id of a line that is not valid JSON, so that an error can be
// returned for it.
func LooseID(line []byte) (span, bool) {
	const key = `"id"`
	start := bytes.Index(line, []byte(key))
	if start < 0 {
		return span{}, false
	}
	if start = spaceEnd(line, start+len(key)); start == len(line) || line[start] != ':' {
		return span{}, false
	}
	start = spaceEnd(line, start+1)
	end := start
	for end < len(line) && line[end] != ',' && line[end] != '}' && line[end] > ' ' {
		end++
	}
	return span{start, end}, end > start
}
