package strictjson

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// explain describes the mistake at an offset for the author of a text. why is the
// decoder's message, which is returned for mistakes that are not known here.
func explain(text []byte, at int, why string, truncated bool) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return "the file is empty"
	}
	if truncated {
		return explainEnd(text)
	}
	if at >= len(text) {
		return why
	}
	char, _ := utf8.DecodeRune(text[at:])
	var last byte // the last one before the character that is not a space
	if before := bytes.TrimRight(text[:at], " \t\r\n"); len(before) > 0 {
		last = before[len(before)-1]
	}
	switch {
	case strings.Contains(why, "in string literal"):
		if char == '\n' || char == '\r' {
			return `a closing quote " is missing in this line`
		}
		return why
	case strings.Contains(why, "in literal"), strings.Contains(why, "numeric literal"), strings.Contains(why, "escape"):
		return why
	case char == '#' || char == '/' && at+1 < len(text) && (text[at+1] == '/' || text[at+1] == '*'):
		return "JSON has no comments"
	case strings.Contains(why, "after top-level value"):
		if char == '}' || char == ']' {
			return fmt.Sprintf("a %c too many: everything was closed before", char)
		}
		return "there is more text after the end of the first value"
	case last == ',' && strings.ContainsRune("}],", char):
		return fmt.Sprintf("a comma too many before %c", char)
	case last == ':' && strings.ContainsRune("}],", char):
		return fmt.Sprintf("a value is missing before %c", char)
	case strings.ContainsRune("'‘’“”", char):
		return fmt.Sprintf(`%c is not a quote in JSON, must be "`, char)
	case strings.HasSuffix(why, "after object key"):
		return "a colon is missing between key and value"
	case strings.Contains(why, "object key string") && char != '}' && char != ']':
		return `a key must stand in quotes "`
	case strings.Contains(why, "after object key:value pair") && char == ']':
		return "a } is missing before ]"
	case strings.Contains(why, "after array element") && char == '}':
		return "a ] is missing before }"
	case strings.Contains(why, "after object key:value pair"), strings.Contains(why, "after array element"):
		if strings.ContainsRune(`"{[-0123456789`, char) {
			return "a comma is missing before this"
		}
	}
	return why
}

// explainEnd names the brackets and quotes that are still open at the end of a text.
func explainEnd(text []byte) string {
	type opening struct {
		bracket byte
		line    int
	}
	var open []opening
	line, quoted := 1, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			line++
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			open = append(open, opening{c, line})
		case (c == '}' || c == ']') && len(open) > 0:
			open = open[:len(open)-1]
		}
	}
	if quoted {
		return `the file ends in the middle of a text: a closing quote " is missing`
	}
	if len(open) == 0 {
		return "the file ends in the middle of a value"
	}
	innermost := open[len(open)-1]
	missing := '}'
	if innermost.bracket == '[' {
		missing = ']'
	}
	if n := len(open); n > 1 {
		return fmt.Sprintf("the file ends too early: %d brackets are not closed, the last of them the %c of line %d", n, innermost.bracket, innermost.line)
	}
	return fmt.Sprintf("the file ends too early: a %c is missing for the %c of line %d", missing, innermost.bracket, innermost.line)
}
