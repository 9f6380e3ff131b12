package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestErrorsHaveLineAndColumn(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
	}{
		{"nothing", "", "line 1 column 1: the file is empty"},
		{"end is missing", "{\n\"a\": [1", "line 2 column 8: the file ends too early: 2 brackets are not closed, the last of them the [ of line 2"},
		{"characters, not bytes", "{\"ä\" 1}", "line 1 column 6: a colon is missing between key and value"},
		{"second line", "{\"a\":\n  x}", "line 2 column 3: invalid character 'x' looking for beginning of value"},
		{"two values", "1\n2", "line 2 column 1: there is more text after the end of the first value"},
		{"after a byte order mark", "\ufeff{]", "line 1 column 2: invalid character ']' looking for beginning of object key string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			_, ok := errors.AsType[*Error](err)
			if !ok || err.Error() != c.want {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
	for _, text := range []string{"\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}"} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "UTF-16") {
			t.Errorf("UTF-16: got error %v", err)
		}
	}
}

func TestParseKeepsLinesAndDuplicates(t *testing.T) {
	root, err := Parse([]byte("{\"a\": 1,\n\n\"b\" :[ true, null,\n{}], \"a\":\"\\u0078\"}"))
	if err != nil {
		t.Fatal(err)
	}
	if root.Kind != Object || len(root.Members) != 3 {
		t.Fatalf("unexpected root %+v", root)
	}
	for i, want := range []struct {
		key   string
		line  int
		kind  Kind
		text  string
		short string
	}{
		{"a", 1, Number, "1", "1"},
		{"b", 3, Array, "", "[true,null,{}]"},
		{"a", 4, String, "x", `"\u0078"`},
	} {
		m := root.Members[i]
		if m.Key != want.key || m.Line != want.line || m.Value.Kind != want.kind || m.Value.Text != want.text || m.Value.Written() != want.short {
			t.Errorf("member %d: %+v is %+v, want %+v", i, m, m.Value, want)
		}
	}
	items := root.Members[1].Value.Items
	if len(items) != 3 || items[0].Kind != Bool || items[1].Kind != Null || items[2].Kind != Object {
		t.Errorf("unexpected items %+v", items)
	}
}

func TestReaderFailsAtTheLastToken(t *testing.T) {
	r, err := NewReader([]byte("{\"a\": \"b\",\n  \"é\" : \"c\"}"))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	wrong := errors.New("wrong")
	e := r.Fail(wrong)
	if !errors.Is(e, wrong) || e.Line != 2 || e.Column != 9 || r.Line() != 2 {
		t.Errorf("got error %v at line %d", e, r.Line())
	}
}

func TestShorten(t *testing.T) {
	long := strings.Repeat("x", 79) + "äöü"
	if got := Shorten(long); got != long[:79]+"…" {
		t.Errorf("got %q", got)
	}
	if got := Shorten(long[:80]); got != long[:80] {
		t.Errorf("got %q", got)
	}
}

// FuzzParse compares the package with the library: both accept the same texts, and
// a tree contains what the library decodes.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "null", "{}", `{"a":[1,"b",{"c":null}],"a":2}`, "[1e999,\n-0]", "\ufeff[]", `{"a" "b"}`, "[true,\nfalse"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := Parse(text)
		plain := strings.TrimPrefix(string(text), "\ufeff")
		if valid := json.Valid([]byte(plain)); valid != (err == nil) {
			t.Fatalf("the library's verdict is %v, but the error is %v", valid, err)
		}
		if err != nil {
			if e, ok := errors.AsType[*Error](err); ok && (e.Line < 1 || e.Column < 1) {
				t.Fatalf("the place of the error is wrong: %v", e)
			}
			return
		}
		if got := strings.Trim(plain, " \t\r\n"); got != string(root.Raw) {
			t.Fatalf("raw is %q, want %q", root.Raw, got)
		}
		check(t, root, strings.Count(plain, "\n")+1)
	})
}

// check checks that a tree is complete.
func check(t *testing.T, v *Node, lines int) {
	if !json.Valid(v.Raw) {
		t.Fatalf("raw %q", v.Raw)
	}
	for _, m := range v.Members {
		if m.Line < 1 || m.Line > lines {
			t.Fatalf("key %q in line %d of %d", m.Key, m.Line, lines)
		}
		check(t, m.Value, lines)
	}
	for _, item := range v.Items {
		check(t, item, lines)
	}
}
