package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is a mistake at a position in a text. Line and Column count from 1, and Column
// counts characters.
type Error struct {
	Line, Column int
	Err          error
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d column %d: %v", e.Line, e.Column, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Reader iterates over the tokens of one JSON text.
type Reader struct {
	text    []byte
	dec     *json.Decoder
	start   int // the offset of the last token
	line    int // the line at the offset counted
	counted int
}

// NewReader checks that text is one valid JSON value. Syntax errors are of the
// type Error. Numbers are read as json.Number, so that they keep their text.
func NewReader(text []byte) (*Reader, error) {
	text, err := trimByteOrderMark(text)
	if err != nil {
		return nil, err
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, syntaxError(text, err)
	}
	r := &Reader{text: text, dec: json.NewDecoder(bytes.NewReader(text)), line: 1}
	r.dec.UseNumber()
	return r, nil
}

// Next returns the next token.
func (r *Reader) Next() (json.Token, error) {
	from := int(r.dec.InputOffset())
	r.start = from + len(r.text[from:]) - len(bytes.TrimLeft(r.text[from:], " \t\r\n,:"))
	return r.dec.Token()
}

// More reports whether the current object or array has another element.
func (r *Reader) More() bool { return r.dec.More() }

// Line returns the line of the token that was read last.
func (r *Reader) Line() int {
	r.line += bytes.Count(r.text[r.counted:r.start], []byte("\n"))
	r.counted = r.start
	return r.line
}

// Fail returns an error with the position of the token that was read last, for a caller
// that does not accept this token.
func (r *Reader) Fail(err error) *Error { return errorAt(r.text, r.start, err) }

// trimByteOrderMark removes the byte order mark that editors on Windows write before
// UTF-8. It returns an error for UTF-16, which other programs write there.
func trimByteOrderMark(text []byte) ([]byte, error) {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, errors.New("the file is in UTF-16, must be in UTF-8")
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// syntaxError adds the position to an error of the decoder and explains it.
func syntaxError(text []byte, err error) *Error {
	at := len(text)
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	truncated := ok && strings.HasPrefix(syntax.Error(), "unexpected end")
	if ok && !truncated {
		at = min(max(int(syntax.Offset)-1, 0), len(text))
	}
	return errorAt(text, at, errors.New(explain(text, at, err.Error(), truncated)))
}

func errorAt(text []byte, offset int, err error) *Error {
	before := text[:offset]
	return &Error{
		Line:   1 + bytes.Count(before, []byte("\n")),
		Column: 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]),
		Err:    err,
	}
}
