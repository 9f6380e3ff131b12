package stratum

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
)

// plainObject decodes a line that no search for bytes can misread: an object
// without a line end, without escapes and without objects inside, that has each
// member once and whose names occur nowhere else.
func plainObject(line []byte, member string) map[string]json.RawMessage {
	if !json.Valid(line) || bytes.ContainsAny(line, "\\\r\n") || bytes.Count(line, []byte("{")) != 1 || bytes.Count(line, []byte(`"`+member+`"`)) > 1 {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(line, &object) != nil {
		return nil
	}
	return object
}

func FuzzParseRequest(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			return
		}
		if !json.Valid(bytes.Trim(line, LineJunk)) {
			t.Fatalf("a line that is not JSON was accepted: %+v", r)
		}
		// All raw parts are JSON, so whatever is built from them is JSON too.
		for _, raw := range append(r.ParamList(), r.ID, r.Params) {
			if len(raw) > 0 && !json.Valid(raw) {
				t.Fatalf("%q is not JSON", raw)
			}
		}
		for _, d := range []Dialect{DialectStratum, DialectRPC2} {
			checkAnswer(t, d.AppendResult(nil, r.ID, []byte("true")))
			checkAnswer(t, d.AppendError(nil, r.ID, ErrNeedSubscribed, 1))
		}
		var params [][]byte
		for _, p := range r.ParamList() {
			params = append(params, p)
		}
		checkAnswer(t, AppendRequest(nil, OrNull(r.ID), r.Method, params...))
		if a, err := ParseResponse(line); err == nil {
			for _, d := range []Dialect{DialectStratum, DialectRPC2} {
				checkAnswer(t, d.AppendForwarded(nil, r.ID, a))
			}
			for _, c := range allChains {
				for _, p := range []Protocol{ProtocolStratum, ProtocolEthereumStratum, ProtocolETHProxy} {
					c.CheckPoolSubscribe(&Subscription{UserAgent: r.Method, Protocol: p}, 0x01020304, a.Result)
				}
			}
		}
		VersionMaskOf(r)
		for _, c := range allChains {
			s := c.NewSubscription(r.ParamList())
			checkAnswer(t, append(c.SubscribeResult(s, 0x01020304), '\n'))
			for _, p := range c.PoolSubscribeParams(s, 0x01020304, netip.AddrFrom4([4]byte{12, 34, 56, 78})) {
				checkAnswer(t, append(p, '\n'))
			}
		}
	})
}

func FuzzLineMethod(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := LineMethod(line)
		if !bytes.Contains(line, got) {
			t.Fatalf("%q is not in the line", got)
		}
		PoolLineKind(line)
		MinerLineKind(line)
		object := plainObject(line, "method")
		if object == nil {
			return
		}
		var want []byte
		if raw := object["method"]; len(raw) > 0 && raw[0] == '"' {
			want = raw[1 : len(raw)-1]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", line, got, want)
		}
	})
}

func FuzzStringParam(f *testing.F) {
	for i, line := range fuzzLines(f) {
		f.Add([]byte(line), i%3)
	}
	f.Fuzz(func(t *testing.T, line []byte, n int) {
		if n < 0 || n > 10 {
			return
		}
		got := ScalarParam(line, n)
		if !bytes.Contains(line, got) {
			t.Fatalf("%q is not in the line", got)
		}
		object := plainObject(line, "params")
		if object == nil {
			return
		}
		var params []json.RawMessage
		var want []byte
		found := json.Unmarshal(object["params"], &params) == nil && n < len(params)
		if found {
			want = bytes.TrimSuffix(bytes.TrimPrefix(params[n], []byte(`"`)), []byte(`"`))
			found = params[n][0] == '"' || isNumber(params[n])
		}
		if !found {
			want = nil
		}
		if found != (got != nil) || !bytes.Equal(got, want) {
			t.Fatalf("%q %d: got %q, want %q", line, n, got, want)
		}
	})
}

func FuzzSetClean(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := string(line)
		got := SetClean(Bitcoin, line)
		if string(line) != before {
			t.Fatalf("the line was changed in place: %q", before)
		}
		if json.Valid(line) && !json.Valid(got) {
			t.Fatalf("%q became %q", line, got)
		}
		if !bytes.Equal(got, line) {
			// One flag became true, or true was appended.
			added := bytes.TrimSuffix(got[len(commonPrefix(line, got)):], commonSuffix(line, got))
			if len(added) > len(",true") {
				t.Fatalf("%q became %q", line, got)
			}
		}
		object := plainObject(line, "params")
		if object == nil || bytes.Count(line, []byte("false")) > 1 || bytes.Contains(line, []byte(`false"`)) {
			return
		}
		var params []json.RawMessage
		if json.Unmarshal(object["params"], &params) != nil || len(params) == 0 || string(params[len(params)-1]) != "false" || len(params) > cleanParam+1 {
			return
		}
		var after struct{ Params []json.RawMessage }
		if json.Unmarshal(got, &after) != nil || len(after.Params) != len(params) || string(after.Params[len(params)-1]) != "true" {
			t.Fatalf("%q became %q", line, got)
		}
	})
}

func commonPrefix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

func commonSuffix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return a[len(a)-n:]
}
