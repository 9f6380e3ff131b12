package strictjson

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Kind is the type of a JSON value.
type Kind byte

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"null", "bool", "number", "string", "array", "object"}

func (k Kind) String() string { return kindNames[k] }

// Node is one JSON value of a text.
type Node struct {
	Kind    Kind
	Raw     []byte   // the value as written
	Text    string   // the value of a string or number
	Members []Member // the members of an object in order, including keys that are given twice
	Items   []*Node  // the elements of an array
}

// Member is one key of an object with its value.
type Member struct {
	Key   string
	Line  int // the line of the key
	Value *Node
}

// Parse reads text into a tree. Syntax errors are of the type Error.
func Parse(text []byte) (*Node, error) {
	r, err := NewReader(text)
	if err != nil {
		return nil, err
	}
	return r.node()
}

// node reads one value.
func (r *Reader) node() (*Node, error) {
	token, err := r.Next()
	if err != nil {
		return nil, err
	}
	from := r.start
	v := &Node{}
	switch token := token.(type) {
	case string:
		v.Kind, v.Text = String, token
	case json.Number:
		v.Kind, v.Text = Number, token.String()
	case bool:
		v.Kind = Bool
	case json.Delim:
		v.Kind = Object
		if token == '[' {
			v.Kind = Array
		}
		if err := r.contents(v); err != nil {
			return nil, err
		}
	}
	v.Raw = r.text[from:r.dec.InputOffset()]
	return v, nil
}

// contents reads the members or elements of an object or array, and its end.
func (r *Reader) contents(v *Node) error {
	for r.More() {
		if v.Kind == Array {
			item, err := r.node()
			if err != nil {
				return err
			}
			v.Items = append(v.Items, item)
			continue
		}
		token, err := r.Next()
		if err != nil {
			return err
		}
		m := Member{Key: token.(string), Line: r.Line()}
		if m.Value, err = r.node(); err != nil {
			return err
		}
		v.Members = append(v.Members, m)
	}
	_, err := r.Next()
	return err
}

// Written returns the value as it is written in the text, on one line and shortened, for
// messages.
func (v *Node) Written() string {
	var line bytes.Buffer
	if json.Compact(&line, v.Raw) != nil {
		return "?"
	}
	return Shorten(line.String())
}

// Shorten shortens a value of any length, so that a message that quotes it stays
// readable.
func Shorten(value string) string {
	const most = 80
	if len(value) <= most {
		return value
	}
	cut := most
	for !utf8.RuneStart(value[cut]) {
		cut--
	}
	return value[:cut] + "…"
}
