package strictjson

import "testing"

// Mistakes that people make are explained in their words, with the place.
func TestSyntaxErrorsAreExplained(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "line 1 column 1: the file is empty"},
		{" \n", "line 2 column 1: the file is empty"},
		{"{\"a\": 1,\n}", "line 2 column 1: a comma too many before }"},
		{"[1,]", "line 1 column 4: a comma too many before ]"},
		{"[1,,2]", "line 1 column 4: a comma too many before ,"},
		{`{"a": }`, "line 1 column 7: a value is missing before }"},
		{"{ // farm\n\"a\": 1}", "line 1 column 3: JSON has no comments"},
		{"{\"a\": 1 # farm\n}", "line 1 column 9: JSON has no comments"},
		{"{\"a\": 1}\n/* end */", "line 2 column 1: JSON has no comments"},
		{"{\n\"a\": 1", "line 2 column 7: the file ends too early: a } is missing for the { of line 1"},
		{"{\"a\":\n{\"}\\\"\": 1\n", "line 3 column 1: the file ends too early: 2 brackets are not closed, the last of them the { of line 2"},
		{"[1", "line 1 column 3: the file ends too early: a ] is missing for the [ of line 1"},
		{`{"a": "b`, `line 1 column 9: the file ends in the middle of a text: a closing quote " is missing`},
		{"tru", "line 1 column 3: invalid character ' ' in literal true (expecting 'e')"},
		{"{\"a\": \"b,\n\"c\": 1}", `line 1 column 10: a closing quote " is missing in this line`},
		{`{"a": 1}}`, "line 1 column 9: a } too many: everything was closed before"},
		{"{} {}", "line 1 column 4: there is more text after the end of the first value"},
		{"{\"a\": 1\n\"b\": 2}", "line 2 column 1: a comma is missing before this"},
		{`[1 2]`, "line 1 column 4: a comma is missing before this"},
		{`{"a" 1}`, "line 1 column 6: a colon is missing between key and value"},
		{`{a: 1}`, `line 1 column 2: a key must stand in quotes "`},
		{`{'a': 1}`, `line 1 column 2: ' is not a quote in JSON, must be "`},
		{`{“a”: 1}`, `line 1 column 2: “ is not a quote in JSON, must be "`},
		{`{"a": [1}`, "line 1 column 9: a ] is missing before }"},
		{`[{"a": 1]`, "line 1 column 9: a } is missing before ]"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}
