package stratum

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// fuzzTranslation is for a miner with an extranonce2 of 3 bytes.
var fuzzTranslation = &Translation{Coinb1: "aabb00", Coinb2: "ee", Before: "0011", After: "22", Digits: 6}

// oddLines are lines of any kind, by what is odd about them.
var oddLines = []string{
	``, `{}`, `[]`, `null`, `{"params":[]}`, `{"params":{"a":1}}`, `{"params":"x"}`, `{"params":["a"`, `{"params":["a","b","c","d"`,
	`{"id":1,"method":"mining.submit","params":["w","j","0a0b0c","t","n"]}`,
	`{"id":1,"method":"mining.submit","params":["w","j","0A0B0C","t","n","00c00000"]}`,
	"{ \"params\"\t: [ \"w\" ,\t\"j\" , \"0a0b0c\" , \"t\" ] , \"id\":1 }\r\n",
	`{"params":["w\"","\\","\u0030a0b0c","t","n"],"id":"params"}`,
	`{"params":["w","j","0a0b0c"],"id":1}`, `{"params":["w","j","0a0b0"],"id":1}`, `{"params":["w","j","\"\"\"\"\"\""],"id":1}`,
	`{"params":["w","j","\u00aa"],"id":1}`, `{"params":["w","j","0a0b0g"],"id":1}`, `{"params":[1,"j","0a0b0c"],"id":1}`, `{"params":["w",["j"],"0a0b0c"]}`,
	`{"id":null,"method":"mining.notify","params":["1","p","c1","c2",[],"v","b","t",true]}`,
	`{"params" : [ "1" ,"p" , "c1" , "c2" , [ "m" , "m" ] ,"v","b","t", false ] , "method" : "mining.notify" }`,
	`{"params":["\"]","\\","\u0063","",["params"],true],"id":{"params":1}}`,
	`{"params":["a","b","c1","c2"],"params":["x"]}`, `{"x":{"params":["a","b","c1","c2"]}}`, `{"a\"params":["a","b","c1","c2"]}`, `{"a\\":["params"],"params":["a","b","c1","c2"]}`,
	`{"params":["a","b","c1",null]}`, `{"params":["a","b","c1"]}`, "{\"params\":[\"a\",\"b\",\"c1\",\"c2\x00\"]}",
}

// lineParams decodes a line's parameters if the line is JSON and has that member
// exactly once, under exactly that name, and nothing else of that name anywhere.
func lineParams(line []byte) (rest map[string]any, params []any) {
	if !json.Valid(line) || bytes.Count(line, []byte(`params"`)) != 1 || bytes.Contains(line, []byte(`\u`)) && bytes.Contains(line, []byte("arams")) && !bytes.Contains(line, []byte(`"params"`)) {
		return nil, nil
	}
	if json.Unmarshal(line, &rest) != nil {
		return nil, nil
	}
	params, _ = rest["params"].([]any)
	delete(rest, "params")
	return rest, params
}

// checkOnly wants two lines to differ only in these parameters, and only as given.
func checkOnly(t *testing.T, line, got []byte, changed map[int]func(string) string) {
	t.Helper()
	wantRest, want := lineParams(line)
	if want == nil {
		return
	}
	gotRest, params := lineParams(got)
	for i, change := range changed {
		text, ok := want[i].(string)
		if !ok {
			t.Fatalf("%q was read as a string, in %s", want[i], line)
		}
		want[i] = change(text)
	}
	if !reflect.DeepEqual(params, want) || !reflect.DeepEqual(gotRest, wantRest) {
		t.Fatalf("\n     %s\nbecame %s\n  want %q", line, got, want)
	}
}

func FuzzTranslateJob(f *testing.F) {
	for _, line := range oddLines {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		out, ok := fuzzTranslation.AppendJob([]byte("before"), line)
		if !bytes.HasPrefix(out, []byte("before")) || !ok && len(out) != len("before") {
			t.Fatalf("understood: %v, but the result is %q", ok, out)
		}
		got := out[len("before"):]
		if !ok {
			if _, params := lineParams(line); len(params) >= 4 && allStrings(params[:4]) && !bytes.ContainsAny(line, "\r\n") && bytes.Contains(line, []byte(`"params"`)) {
				t.Fatalf("the line was not understood: %s", line)
			}
			return
		}
		if json.Valid(line) && !json.Valid(got) {
			t.Fatalf("%q became %q, which is not JSON", line, got)
		}
		if len(got) != len(line)+len(fuzzTranslation.Coinb1)+len(fuzzTranslation.Coinb2) {
			t.Fatalf("%q became %q", line, got)
		}
		checkOnly(t, line, got, map[int]func(string) string{
			2: func(c string) string { return c + fuzzTranslation.Coinb1 },
			3: func(c string) string { return fuzzTranslation.Coinb2 + c },
		})
	})
}

func allStrings(values []any) bool {
	for _, v := range values {
		if _, ok := v.(string); !ok {
			return false
		}
	}
	return true
}

func FuzzTranslateShare(f *testing.F) {
	for i, line := range oddLines {
		f.Add([]byte(line), i%2 == 0, i%3 > 0)
	}
	f.Fuzz(func(t *testing.T, line []byte, renames, translates bool) {
		tr := fuzzTranslation
		if !translates {
			tr = nil
		}
		name := func(raw string) string { return "N" + raw + "!" }
		var rename func([]byte) []byte
		if renames {
			rename = func(raw []byte) []byte { return []byte(name(string(raw))) }
		}
		out, ok := tr.AppendShare([]byte("before"), line, rename)
		if !bytes.HasPrefix(out, []byte("before")) || !ok && len(out) != len("before") {
			t.Fatalf("understood: %v, but the result is %q", ok, out)
		}
		got := out[len("before"):]
		if !ok {
			if _, params := lineParams(line); len(params) >= 3 && allStrings(params[:3]) && !bytes.ContainsAny(line, "\r\n") && bytes.Contains(line, []byte(`"params"`)) {
				if count := params[2].(string); tr == nil || len(count) == tr.Digits && IsHex([]byte(count), tr.Digits) {
					t.Fatalf("the line was not understood: %s", line)
				}
			}
			return
		}
		if json.Valid(line) && !json.Valid(got) {
			t.Fatalf("%q became %q, which is not JSON", line, got)
		}
		changed := make(map[int]func(string) string)
		if renames {
			changed[0] = name
		}
		if translates {
			changed[2] = func(count string) string {
				if _, err := hex.DecodeString(count); err != nil || len(count) != tr.Digits {
					t.Fatalf("%q was accepted as an extranonce2", count)
				}
				return tr.Before + count + tr.After
			}
		}
		checkOnly(t, line, got, changed)
		if !renames && !translates && !bytes.Equal(line, got) {
			t.Fatalf("%q became %q", line, got)
		}
		if cut := CutVersionBits(bytes.Clone(line)); json.Valid(line) && !json.Valid(cut) {
			t.Fatalf("%q was cut to %q, which is not JSON", line, cut)
		}
	})
}

// A key that is inside another key, behind an escaped quote, does not count.
func TestMemberValueInsideKey(t *testing.T) {
	for line, want := range map[string]string{
		`{"a\"params":1,"params":2}`:    "2}",
		`{"a\"params":1}`:               "",
		`{"a\\":1,"params":2}`:          "2}",
		`{"b":"\\","params":2}`:         "2}",
		`{"b":"x\"params","params": 2}`: "2}",
	} {
		if got := string(memberValue([]byte(line), MemberParams)); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func BenchmarkTranslateJob(b *testing.B) {
	tr, err := Shape{"80", 3}.Translate("f0000001", 8)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1400, 4000} {
		line := stratumtest.JobWithBranches(size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			var out []byte
			for b.Loop() {
				out, _ = tr.AppendJob(out[:0], line)
			}
		})
	}
}

func BenchmarkTranslateShare(b *testing.B) {
	tr, err := Shape{"80", 3}.Translate("f0000001", 8)
	if err != nil {
		b.Fatal(err)
	}
	line := []byte(`{"id":1234,"method":"mining.submit","params":["alice.rig42","5f1a2b","0a0b0c","65a0b1c2","8f21aa03","00c00000"]}` + "\n")
	renamed := []byte("alice_btc.rig42")
	for name, rename := range map[string]func([]byte) []byte{"translated": nil, "renamed": func([]byte) []byte { return renamed }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				out, _ = tr.AppendShare(out[:0], line, rename)
			}
		})
	}
}
