package stratum

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A JSON string may contain what is no text: the escape of a single surrogate, such as
// \ud800, and bytes that are not UTF-8. A decoder replaces both by U+FFFD. A worker's name
// or a password with that replacement is another one, so lines that are passed on keep such
// parts as the sender wrote them.

// fewestEscapes returns a JSON string with as few escapes as possible. What is no text
// stays unchanged.
func fewestEscapes(raw []byte) []byte {
	out := []byte{'"'}
	text := 1 // where the text begins that is not in out yet
	for i := 1; i < len(raw)-1; {
		n, isText := textUnit(raw[i : len(raw)-1])
		if !isText {
			out = append(appendText(out, raw[text:i]), raw[i:i+n]...)
			text = i + n
		}
		i += n
	}
	return append(appendText(out, raw[text:len(raw)-1]), '"')
}

// textUnit returns the length of the character or escape at the beginning of b, which is
// part of a valid JSON string. isText is false for what has no meaning as text.
func textUnit(b []byte) (n int, isText bool) {
	if b[0] != '\\' {
		r, n := utf8.DecodeRune(b)
		return n, r != utf8.RuneError || n > 1
	}
	if b[1] != 'u' {
		return 2, true
	}
	first := escapedUnit(b)
	if !utf16.IsSurrogate(first) {
		return 6, true
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' && utf16.DecodeRune(first, escapedUnit(b[6:])) != utf8.RuneError {
		return 12, true
	}
	return 6, false
}

// escapedUnit returns the value of the escape of a UTF-16 unit, such as \u00e9, at the beginning of b.
func escapedUnit(b []byte) rune {
	unit, _ := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(unit)
}

// appendText appends a part of a JSON string with as few escapes as possible to b. All of
// the part is text.
func appendText(b, part []byte) []byte {
	if len(part) == 0 {
		return b
	}
	quoted := make([]byte, 0, len(part)+2)
	quoted = append(append(append(quoted, '"'), part...), '"')
	text, _ := JsonString(quoted)
	quoted = Quote(text)
	return append(b, quoted[1:len(quoted)-1]...)
}
