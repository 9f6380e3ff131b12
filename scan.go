package main

import "bytes"

// Byte scanners: members and parameters of a line, found without decoding it.

var methodKey = []byte(`"method"`)
var idKey = []byte(`"id"`)
var paramsKey = []byte(`"params"`)

// memberValue finds the first member named key, which is in quotes, and
// returns the line from its value on. Quotes inside JSON strings are escaped,
// so a key is not found in them.
func memberValue(line, key []byte) []byte {
	for {
		at := bytes.Index(line, key)
		if at < 0 {
			return nil
		}
		inside := at > 0 && line[at-1] == '\\' // the end of a longer key
		line = line[at+len(key):]
		if inside {
			continue
		}
		if value := skipSpace(line); len(value) > 0 && value[0] == ':' {
			return skipSpace(value[1:])
		}
	}
}

// lineMethod finds the value of a line's "method" member, nil if it has none.
func lineMethod(line []byte) []byte {
	value := memberValue(line, methodKey)
	if len(value) == 0 || value[0] != '"' {
		return nil
	}
	end := bytes.IndexByte(value[1:], '"')
	if end < 0 {
		return nil
	}
	return value[1 : 1+end]
}

// lineID finds the raw value of a line's "id" member; nil if there is none or
// it is null.
func lineID(line []byte) []byte {
	value := memberValue(line, idKey)
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '"':
		if end := stringEnd(value); end > 0 {
			return value[:end+1]
		}
		return nil
	case 'n':
		return nil
	case '{', '[':
		r, err := parseRequest(line)
		if err != nil {
			return nil
		}
		return r.ID
	}
	end := 0
	for end < len(value) && value[end] != ',' && value[end] != '}' && value[end] > ' ' {
		end++
	}
	return value[:end]
}

// lastParam returns the parameters of a line up to the end of the last one, and
// where they start in the line; nil if there are none.
func lastParam(line []byte) (params []byte, at int) {
	params = memberValue(line, paramsKey)
	if len(params) == 0 || params[0] != '[' {
		return nil, 0
	}
	end := arrayEnd(params)
	if end < 0 {
		return nil, 0
	}
	return bytes.TrimRight(params[:end], " \t"), len(line) - len(params)
}

// stringParam finds the n-th parameter of a line.
func stringParam(line []byte, n int) []byte { return stringElement(memberValue(line, paramsKey), n) }

// stringElement finds the n-th element of the JSON array b begins with if it
// and all before it are strings. Escapes are left as they are.
func stringElement(b []byte, n int) []byte {
	if len(b) == 0 || b[0] != '[' {
		return nil
	}
	for {
		if b = skipSpace(b[1:]); len(b) == 0 || b[0] != '"' {
			return nil
		}
		end := stringEnd(b)
		if end < 0 {
			return nil
		}
		if n == 0 {
			return b[1:end]
		}
		n--
		if b = skipSpace(b[end+1:]); len(b) == 0 || b[0] != ',' {
			return nil
		}
	}
}

// span is the inside of a JSON string in a line.
type span struct{ start, end int }

// findParams finds the first parameters of a line, which have to be strings,
// and sets the spans that are not nil.
func findParams(line []byte, spans ...*span) bool {
	b := memberValue(line, paramsKey)
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	for _, want := range spans {
		if b = skipSpace(b[1:]); len(b) == 0 || b[0] != '"' {
			return false
		}
		end := stringEnd(b)
		if end < 0 {
			return false
		}
		if want != nil {
			start := len(line) - len(b) + 1
			*want = span{start, start + end - 1}
		}
		if b = skipSpace(b[end+1:]); len(b) == 0 || b[0] != ',' && b[0] != ']' {
			return false
		}
	}
	return true
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// stringEnd is the index of the quote that ends the JSON string b begins with.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// arrayEnd is the index of the bracket that ends the JSON array b begins with.
func arrayEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end := stringEnd(b[i:])
			if end < 0 {
				return -1
			}
			i += end
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}
