package stratum

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	for _, tc := range []struct{ line, id, method, params, worker string }{
		{`{"id":1,"method":"mining.subscribe","params":[]}`, `1`, "mining.subscribe", `[]`, ""},
		{"  {\"params\" : [ 1 , null ] ,\"id\" : \"a\" , \"method\":\"x\" } \r\n", `"a"`, "x", `[ 1 , null ]`, ""},
		{`{"id":null,"method":"x","params":null}`, ``, "x", ``, ""},
		{`{}`, ``, "", ``, ""},
		{"\ufeff\x00{\"id\":1}\x00\r\n", `1`, "", ``, ""},
		{`{"id":1,"method":"a","id":2,"\u006dethod":"b"}`, `2`, "b", ``, ""},
		{`{"id":1,"worker":7}`, `1`, "", ``, "7"},
		{`{"id":1,"worker":{"method":"b"}}`, `1`, "", ``, ""},
		{`{"id":{"a":"}"},"method":"a\u002eb","worker":"w\"1"}`, `{"a":"}"}`, "a.b", ``, `w"1`},
		{`{"id":1,"method":null,"worker":null,"more":[{"method":"y"}]}`, `1`, "", ``, ""},
	} {
		r, err := ParseRequest([]byte(tc.line))
		if err != nil {
			t.Errorf("%s: got error %v", tc.line, err)
			continue
		}
		if string(r.ID) != tc.id || r.Method != tc.method || string(r.Params) != tc.params || r.Worker != tc.worker {
			t.Errorf("%s: got id %q method %q params %q worker %q", tc.line, r.ID, r.Method, r.Params, r.Worker)
		}
	}
	for _, line := range []string{
		``, ` `, "\n", `[]`, `[{}]`, `"x"`, `1`, `null`, `true`, `{`, `}`, `{"id":1`, `{"id":1}}`, `{"id":1}{"id":2}`, `{"id":01}`, `{id:1}`,
		`{'id':1}`, `{"id":1,}`, `{"id":1}x`, `{"method":5}`, `{"method":{}}`, `{"method":"a\u0000"}`, `{"method\u0000":"a"}`, "{\"id\":\"\x01\"}", `{"id":"\x"}`, `{"id":nul}`,
		strings.Repeat(`{"id":`, 20000) + `1` + strings.Repeat(`}`, 20000),
	} {
		if r, err := ParseRequest([]byte(line)); err == nil {
			t.Errorf("%.50q: got %+v, want an error", line, r)
		}
	}
}

// What was parsed does not change with the buffer it was read from.
func TestParseRequestCopies(t *testing.T) {
	line := []byte(`{"id":"abc","method":"mining.authorize","params":["alice","x",null],"worker":"rig1"}`)
	r, err := ParseRequest(line)
	if err != nil {
		t.Fatal(err)
	}
	list := r.ParamList()
	for i := range line {
		line[i] = 'z'
	}
	if got := fmt.Sprintf("%s %s %s %s %s", r.ID, r.Method, r.Params, r.Worker, list); got != `"abc" mining.authorize ["alice","x",null] rig1 ["alice" "x" null]` {
		t.Errorf("got %s", got)
	}
}

func TestParamList(t *testing.T) {
	for params, want := range map[string]string{
		``: `[]`, `null`: `[]`, `{}`: `[]`, `"a"`: `[]`, `5`: `[]`, `[]`: `[]`, `[ ]`: `[]`,
		`[1]`: `[1]`, `["a",null,{"b":[1, 2]},true]`: `["a" null {"b":[1, 2]} true]`, `[ null ]`: `[null]`, `[[],[]]`: `[[] []]`,
	} {
		if got := fmt.Sprintf("%s", rawList(t, params)); got != want {
			t.Errorf("%s: got %s, want %s", params, got, want)
		}
	}
}

func TestIsNotification(t *testing.T) {
	for line, want := range map[string]bool{
		`{}`: true, `{"id":null}`: true, `{"id": null }`: true, `{"id":0}`: false, `{"id":""}`: false, `{"id":false}`: false, `{"id":{}}`: false, `{"id":"null"}`: false,
	} {
		r, err := ParseRequest([]byte(line))
		if err != nil || r.IsNotification() != want {
			t.Errorf("%s: got %v, %v", line, r, err)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "a", `"`, `\`, "\n\r\t\b\f\x00\x1f\x7f", "é矿😀", "</script>&", "\u2028\u2029"} {
		b := Quote(s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != s {
			t.Errorf("%q: %s", s, b)
		}
		if strings.ContainsAny(string(b), "\n\r") {
			t.Errorf("%q has a line end: %q", s, b)
		}
		if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) && string(b) != `"`+s+`"` {
			t.Errorf("%q is written as %s, want it without escapes", s, b)
		}
	}
	if b := Quote("\xff\xc0\xed\xa0\x80"); !json.Valid(b) || strings.ToValidUTF8(string(b), "?") != string(b) {
		t.Errorf("%q is not UTF-8", b)
	}
}

func TestAnswers(t *testing.T) {
	e := &Error{101, `Need "x"`}
	for _, tc := range []struct {
		d                Dialect
		id, result, fail string
	}{
		{DialectStratum, `1`, `{"id":1,"result":[1],"error":null}`, `{"id":1,"result":null,"error":[101,"Need \"x\"",255]}`},
		{DialectStratum, ``, `{"id":null,"result":[1],"error":null}`, `{"id":null,"result":null,"error":[101,"Need \"x\"",255]}`},
		{DialectStratum, `"a\u00e9"`, `{"id":"a\u00e9","result":[1],"error":null}`, `{"id":"a\u00e9","result":null,"error":[101,"Need \"x\"",255]}`},
		{DialectRPC2, `1`, `{"id":1,"jsonrpc":"2.0","result":[1]}`, `{"id":1,"jsonrpc":"2.0","error":{"code":101,"message":"Need \"x\"","data":255}}`},
		{DialectRPC2, ``, `{"id":null,"jsonrpc":"2.0","result":[1]}`, `{"id":null,"jsonrpc":"2.0","error":{"code":101,"message":"Need \"x\"","data":255}}`},
	} {
		if got := string(tc.d.AppendResult([]byte("<"), json.RawMessage(tc.id), []byte("[1]"))); got != "<"+tc.result+"\n" {
			t.Errorf("unexpected result %s", got)
		}
		if got := string(tc.d.AppendError([]byte("<"), json.RawMessage(tc.id), e, 255)); got != "<"+tc.fail+"\n" {
			t.Errorf("unexpected error %s", got)
		}
	}
}

func TestAppendForwarded(t *testing.T) {
	for _, tc := range []struct{ answer, stratum, rpc2 string }{
		{`{"id":"auth","result":true,"error":null}`, `"result":true,"error":null`, `"result":true`},
		{`{"id":"auth","result":true}`, `"result":true,"error":null`, `"result":true`},
		{`{"id":"auth","result":false,"error":null}`, `"result":false,"error":null`, `"result":false`},
		{`{"id":"auth"}`, `"result":null,"error":null`, `"result":null`},
		{`{"id":"auth","jsonrpc":"2.0","result":{"a": 1}}`, `"result":{"a": 1},"error":null`, `"result":{"a": 1}`},
		{`{"id":"auth","result":null,"error":[24,"Unauthorized worker",null]}`, `"result":null,"error":[24,"Unauthorized worker",null]`,
			`"error":{"code":24,"message":"Unauthorized worker","data":null}`},
		{`{"id":"auth","result":false,"error":[24, "no" ]}`, `"result":false,"error":[24, "no" ]`, `"error":{"code":24,"message":"no","data":null}`},
		{`{"id":"auth","error":[24,"no",{"why":1},2]}`, `"result":null,"error":[24,"no",{"why":1},2]`, `"error":{"code":24,"message":"no","data":{"why":1}}`},
		{`{"id":"auth","error":[null,null,null]}`, `"result":null,"error":[null,null,null]`, `"error":{"code":null,"message":null,"data":null}`},
		{`{"id":"auth","error":{"code":24,"message":"no"}}`, `"result":null,"error":{"code":24,"message":"no"}`, `"error":{"code":24,"message":"no"}`},
		{`{"id":"auth","error":"no \"x\""}`, `"result":null,"error":"no \"x\""`, `"error":{"code":24,"message":"no \"x\"","data":null}`},
		{`{"id":"auth","error":["no"]}`, `"result":null,"error":["no"]`, `"error":{"code":24,"message":"[\"no\"]","data":null}`},
		{`{"id":"auth","error":24}`, `"result":null,"error":24`, `"error":{"code":24,"message":"24","data":null}`},
	} {
		r, err := ParseResponse([]byte(tc.answer))
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{`7`, `"m"`, `{"a":1}`} {
			if got, want := string(DialectStratum.AppendForwarded(nil, json.RawMessage(id), r)), `{"id":`+id+`,`+tc.stratum+"}\n"; got != want {
				t.Errorf("%s\n got %swant %s", tc.answer, got, want)
			}
			got, want := string(DialectRPC2.AppendForwarded(nil, json.RawMessage(id), r)), `{"id":`+id+`,"jsonrpc":"2.0",`+tc.rpc2+"}\n"
			if got != want {
				t.Errorf("%s\n got %swant %s", tc.answer, got, want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("%s is not JSON", got)
			}
		}
	}
}

func TestAppendRequest(t *testing.T) {
	for _, tc := range []struct {
		params []string
		want   string
	}{
		{nil, `{"id":"auth","method":"a\"b","params":[]}`},
		{[]string{`"x"`}, `{"id":"auth","method":"a\"b","params":["x"]}`},
		{[]string{`"x"`, `null`, `[1]`}, `{"id":"auth","method":"a\"b","params":["x",null,[1]]}`},
	} {
		var params [][]byte
		for _, p := range tc.params {
			params = append(params, []byte(p))
		}
		if got := string(AppendRequest([]byte("<"), []byte(`"auth"`), `a"b`, params...)); got != "<"+tc.want+"\n" {
			t.Errorf("got %s", got)
		}
	}
}

func TestParseMask(t *testing.T) {
	for text, want := range map[string]uint32{
		`"1fffe000"`: 0x1fffe000, `"1FFFE000"`: 0x1fffe000, `"00000000"`: 0, `"0"`: 0, `"ffffffff"`: 0xffffffff, `"e000"`: 0xe000, `"00ffe000"`: 0x00ffe000,
		`"0x1fffe000"`: 0x1fffe000, `"0XE000"`: 0xe000, `536862720`: 0x1fffe000, `0`: 0, `4294967295`: 0xffffffff, `"000000001fffe000"`: 0x1fffe000,
		`536862720.0`: 0x1fffe000, `5.3686272e8`: 0x1fffe000, `53686272E+1`: 0x1fffe000, `0.0`: 0, `4294967295.000`: 0xffffffff,
		`"1fffe000 "`: 0x1fffe000, `" 1fffe000"`: 0x1fffe000, `"\t0x1fffe000\r\n"`: 0x1fffe000,
	} {
		if got, ok := ParseMask([]byte(text)); !ok || got != want {
			t.Errorf("%q: got %08x, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", " ", "xyz", "0x", "0x0xe000", "-1", "+1", "1fff e000", "0x 1fffe000", "1_0", "100000000", "ffffffffffffffff", "1.0", "１"} {
		if got, ok := ParseMask(Quote(text)); ok {
			t.Errorf("%q: got %08x, want no mask", text, got)
		}
	}
	for _, text := range []string{"", "null", "true", "[]", "-1", "-0.5", "0.5", "536862720.5", "4294967296", "4294967295.5", "1e10", "1e999999999", "1e-1", "01"} {
		if got, ok := ParseMask([]byte(text)); ok {
			t.Errorf("%s: got %08x, want no mask", text, got)
		}
	}
	if got := string(AppendVersionMask(nil, 0xe000)); got != `{"id":null,"method":"mining.set_version_mask","params":["0000e000"]}`+"\n" {
		t.Errorf("got %s", got)
	}
}

func TestFilterWorker(t *testing.T) {
	const keep = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:|^/-"
	for c := rune(0); c < 0x3000; c++ {
		want := ""
		if strings.ContainsRune(keep, c) {
			want = string(c)
		}
		if got := FilterWorker(string(c)); got != want {
			t.Errorf("%q: got %q", c, got)
		}
	}
	if got := FilterWorker(keep); got != keep {
		t.Errorf("got %q", got)
	}
}

func TestSplitWorker(t *testing.T) {
	for full, want := range map[string]WorkerName{
		"": {}, ".": {Miner: "."}, "a": {Account: "a"}, "a.": {Account: "a", Miner: "."}, "a.b": {Account: "a", Miner: ".b"},
		"a.b.c": {Account: "a", Miner: ".b.c"}, ".b": {Miner: ".b"}, "a/b.c/d": {Account: "a/b", Miner: ".c/d"},
	} {
		got := SplitWorker(full)
		if got != want || got.String() != full {
			t.Errorf("%q: got %+v", full, got)
		}
		if s := got.WithSuffix("btc"); s != want.Account+"_btc"+want.Miner {
			t.Errorf("%q with suffix: %q", full, s)
		}
	}
}

func TestLineMethod(t *testing.T) {
	for line, want := range map[string]string{
		`{"id":1,"method":"mining.notify","params":[]}`:              "mining.notify",
		`{"method":"mining.notify"}`:                                 "mining.notify",
		`{"params":["x"],"id":1,"method":"mining.submit"}`:           "mining.submit",
		"{ \"id\" : 1 , \"method\" \t : \t \"mining.submit\" }":      "mining.submit",
		`{"id":1,"result":true,"error":null}`:                        "",
		`{"id":"method","result":"method","error":null}`:             "",
		`{"id":1,"result":"\"method\":\"mining.notify\""}`:           "",
		`{"id":1,"result":["method",":","x"]}`:                       "",
		`{"id":"method","method":"mining.submit"}`:                   "mining.submit",
		`{"params":["\"method\":\"x\"","method"],"method":"real"}`:   "real",
		`{"id":1,"method":null}`:                                     "",
		`{"id":1,"method":5,"result":[]}`:                            "",
		`{"id":1,"method":""}`:                                       "",
		`{"id":1,"Method":"x"}`:                                      "",
		`{"id":1,"method":"x`:                                        "",
		`{"id":1,"method"`:                                           "",
		`{"id":1,"method":`:                                          "",
		``:                                                           "",
		`{"jsonrpc":"2.0","method":"eth_submitWork","worker":"rig"}`: "eth_submitWork",
	} {
		if got := string(LineMethod([]byte(line))); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestStringParam(t *testing.T) {
	for _, tc := range []struct {
		line string
		want []string // by index; there is none after the last
	}{
		{`{"params":["a","b","c"]}`, []string{"a", "b", "c"}},
		{"{\"id\":1,\"params\" :\t[ \"a\" , \"b\" ] }", []string{"a", "b"}},
		{`{"params":["a\"b","c\\","d"]}`, []string{`a\"b`, `c\\`, "d"}},
		{`{"params":["","]",",",":"]}`, []string{"", "]", ",", ":"}},
		{`{"params":["a",1,"b"]}`, []string{"a", "1", "b"}},
		{`{"params":["a",["b"],"c"]}`, []string{"a"}},
		{`{"params":[null,"b"]}`, nil},
		{`{"params":[]}`, nil},
		{`{"params":{}}`, nil},
		{`{"params":"a"}`, nil},
		{`{"params"`, nil},
		{`{"params":`, nil},
		{`{"params":[`, nil},
		{`{"params":["a`, nil},
		{`{"params":["a\"`, nil},
		{`{"params":["a"`, nil},
		{`{"params":["a",`, nil},
		{`{"params":[7,"b"]}`, []string{"7", "b"}},
		{`{"params":["a",-1.50,"c"]}`, []string{"a", "-1.50", "c"}},
		{`{"id":1}`, nil},
		{``, nil},
	} {
		for n := 0; n <= len(tc.want); n++ {
			got := ScalarParam([]byte(tc.line), n)
			switch {
			case n == len(tc.want) && got != nil:
				t.Errorf("%s: parameter %d is %q, want none", tc.line, n, got)
			case n < len(tc.want) && (got == nil || string(got) != tc.want[n]):
				t.Errorf("%s: parameter %d is %q, want %q", tc.line, n, got, tc.want[n])
			}
		}
	}
}

func TestSetClean(t *testing.T) {
	for line, want := range map[string]string{
		textJob + "\n":      textCleanJob + "\n",
		textCleanJob + "\n": textCleanJob + "\n",
		`{"params":["1","2","3","4",["5"],"6","7","8",false],"id":null,"method":"mining.notify"}`: `{"params":["1","2","3","4",["5"],"6","7","8",true],"id":null,"method":"mining.notify"}`,
		"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1\", false \t]}\r\n":             "{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1\", true \t]}\r\n",
		`{"method":"mining.notify","params":["j","seed","header",false]}`:                         `{"method":"mining.notify","params":["j","seed","header",true]}`,
		`{"method":"mining.notify","params":["false","false",true]}`:                              `{"method":"mining.notify","params":["false","false",true]}`,
		`{"method":"mining.notify","params":["j","false"]}`:                                       `{"method":"mining.notify","params":["j","false"]}`,
		`{"method":"mining.notify","params":["false",false]}`:                                     `{"method":"mining.notify","params":["false",true]}`,
		`{"id":0,"jsonrpc":"2.0","result":["0x1","0x2","0x3"]}`:                                   `{"id":0,"jsonrpc":"2.0","result":["0x1","0x2","0x3"]}`,
		`{"method":"mining.notify","params":[]}`:                                                  `{"method":"mining.notify","params":[]}`,
		``:                                                                                        ``,
	} {
		in := []byte(line)
		if got := string(SetClean(Bitcoin, in)); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
		if string(in) != line {
			t.Errorf("the line %s was changed in place", line)
		}
	}
}

func TestNextLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "", "\n": "\n", "a\n": "a\n", "a\nb\n": "a\n", "\na": "\n", "a\r\nb": "a\r\n"} {
		if got := string(NextLine([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
