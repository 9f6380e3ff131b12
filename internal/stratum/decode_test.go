package stratum

import (
	"bytes"
	"encoding/json"
	"testing"
)

// The byte scanner and a JSON decoder must read the same in a line that is passed
// on.
func FuzzOneReading(f *testing.F) {
	for _, line := range append(fuzzLines(f), `{"id":1,"id":2,"method":"a","method":"b","params":["w","j"],"params":["x",7]}`, `{"\u0069d":1,"method":"\u0061","params":["\u0062","\\"]}`,
		`{"Id":1,"METHOD":"a","x":{"params":[]},"params":[1.0,null]}`, "\ufeff{\"id\":1}\x00", `{"method":"a","paramſ":[1]}`, `{"id":1,"method":null,"params":[[[[[[[[[["a"]]]]]]]]]]}`) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		sc := ScanMinerLine(line)
		passed := line
		if !sc.Whole || sc.Odd || !sc.HasMethodName(line) {
			var err error
			if passed, err = CanonicalLine(line); err != nil {
				return
			}
			sc = ScanPoolLine(passed)
			if !sc.Whole || sc.Odd && !bytes.ContainsFunc(passed, func(r rune) bool { return r == '\\' || r > 0x7e }) {
				t.Fatalf("%q is still odd: %q", line, passed)
			}
		}
		checkReading(t, passed, &sc)
		// A pool's line must not have two readings either.
		if sc := ScanPoolLine(line); sc.Whole && !sc.Odd && json.Valid(line) {
			checkReading(t, line, &sc)
		}
	})
}

// checkReading compares a scan with what two decoders read, one that distinguishes
// the case of names and one that does not.
func checkReading(t *testing.T, line []byte, sc *ScannedLine) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		t.Fatalf("%q is passed on, but is not JSON: %v", line, err)
	}
	var folded struct{ ID, Method, Params, Worker json.RawMessage }
	if err := json.Unmarshal(line, &folded); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	for m, got := range map[Member]json.RawMessage{
		MemberID: folded.ID, MemberMethod: folded.Method, MemberParams: folded.Params, MemberWorker: folded.Worker,
	} {
		name, scanned := memberNames[m], sc.Value(line, m)
		if !bytes.Equal(scanned, members[name]) || !bytes.Equal(OrNull(scanned), OrNull(got)) {
			t.Fatalf("%q: %s is %q to the scanner, %q and %q to decoders", line, name, scanned, members[name], got)
		}
	}
	r, err := ParseRequest(line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if method := sc.Method(line); string(method) != r.Method && bytes.IndexByte(method, '\\') < 0 {
		t.Fatalf("%q: the scanner reads method %q, a decoder %q", line, method, r.Method)
	}
	params := r.ParamList()
	for n, scanned := range [][]byte{ScalarParam(line, 0), ShareJobID(line)} { // the worker, the job ID
		if n >= len(params) {
			if scanned != nil {
				t.Fatalf("%q: the scanner reads parameter %d as %q, but there are %d", line, n, scanned, len(params))
			}
			continue
		}
		want := string(params[n])
		if text, ok := JsonString(params[n]); ok {
			want = text
		} else if !isNumber(params[n]) {
			want = ""
		}
		if got := PlainID(scanned); string(got) != want {
			t.Fatalf("%q: the scanner reads parameter %d as %q, want %q", line, n, got, want)
		}
	}
}

// What is no text stays in a line as it was written: nobody knows which name or password
// is meant by its replacement.
func TestCanonicalLineKeepsWhatIsNoText(t *testing.T) {
	for line, want := range map[string]string{
		`["\ud800"]`:                           `["\ud800"]`,
		`["\udC00\ud8aF"]`:                     `["\udC00\ud8aF"]`,
		`["\u0061\ud800\/\"\\\u0062\u0001"]`:   `["a\ud800/\"\\b\u0001"]`,
		`["\ud83d\ude00\ud83d","\u0061"]`:      `["😀\ud83d","a"]`,
		`["\ud83d\ud83d\ude00"]`:               `["\ud83d😀"]`,
		`["\ud83dud83d","\ud83d\n\ude00"]`:     `["\ud83dud83d","\ud83d\n\ude00"]`,
		`["\ud83d\\ude00"]`:                    `["\ud83d\\ude00"]`,
		"[\"\xff\",\"\\u0061\"]":               "[\"\xff\",\"a\"]",
		"[\"\\u0061\xc3\\u00e9\xe2\x82\"]":     "[\"a\xc3é\xe2\x82\"]",
		"[\"\xed\xa0\x80\",\"\\ufffd\ufffd\"]": "[\"\xed\xa0\x80\",\"\ufffd\ufffd\"]",
		`[["\ud800"],7,"\u005b"]`:              `[["\ud800"],7,"["]`,
	} {
		form := func(text string) string {
			return `{"id":1,"method":"mining.x","params":` + text + `,"worker":` + text + `}`
		}
		got, err := CanonicalLine([]byte(form(line)))
		if err != nil || string(got) != form(want)+"\n" {
			t.Errorf("%s:\n got %s, %v\nwant %s", form(line), got, err, form(want))
		}
		if again, err := CanonicalLine(got); !bytes.Equal(again, got) {
			t.Errorf("%s becomes %s, %v", got, again, err)
		}
	}
	if got, err := CanonicalLine([]byte(`{"method":"\u0061\ud800"}`)); err != nil || string(got) != `{"method":"a\ud800"}`+"\n" {
		t.Errorf("got %s, %v", got, err)
	}
}
