package stratum

import (
	"bytes"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Lines in the usual form are read by other code than all other lines. Both must
// find the same.
func checkUsual(t *testing.T, line []byte) {
	t.Helper()
	first := NextLine(line)
	for _, strict := range []bool{false, true} {
		var usual, any ScannedLine
		any.scanAny(first, strict)
		switch n := usual.scanUsual(line, strict); {
		case n == 0:
		case n != len(first):
			t.Errorf("strict %t: %q: the usual reader found a line of %d bytes, want %d", strict, line, n, len(first))
		case usual != any:
			t.Errorf("strict %t: %q: the usual reader found %+v, the general one %+v", strict, line, usual, any)
		}
		if first != nil {
			var next ScannedLine
			if got := next.ScanNext(line, strict); !bytes.Equal(got, first) || next != any {
				t.Errorf("strict %t: %q: ScanNext found %q, %+v, want %q, %+v", strict, line, got, next, first, any)
			}
		}
		var whole ScannedLine
		any = ScannedLine{}
		any.scanAny(line, strict)
		if whole.Scan(line, strict); whole != any {
			t.Errorf("strict %t: %q: Scan found %+v, want %+v", strict, line, whole, any)
		}
	}
}

func TestScanUsual(t *testing.T) {
	usual := []string{
		`{"id":4711,"result":true,"error":null}`,
		`{"error":null,"id":4711,"result":true}`,
		`{"id": 4711, "result": true, "error": null}`,
		`{"id":1,"result":null,"error":[21,"Job not found",null]}`,
		`{"id":4,"method":"mining.submit","params":["alice.w1","815","00","69201234","deadbeef"]}`,
		`{"params": ["alice.w1", "815", "00", "69201234", "deadbeef"], "id": 4, "method": "mining.submit"}`,
		`{"id":0,"method":"mining.submit","params":["a",1,"é",true,false,null]}`,
		`{"id":null,"method":"mining.notify","params":["1","2",["3","4"],false]}`,
		`{"id":null,"method":"mining.set_difficulty","params":[8192]}`,
	}
	for _, text := range usual {
		line := []byte(text + "\n")
		var sc ScannedLine
		nested := bytes.Contains(line, []byte(`,[`))
		if strict := !nested; sc.scanUsual(line, strict) != len(line) || !sc.Whole || sc.Odd {
			t.Errorf("%q is not read as a usual line: %+v", line, sc)
		}
	}
	unusual := []string{
		``, `{`, `{}`, `[]`, `{"id":1}x`, ` {"id":1,"result":true}`, `{"id":01,"result":true}`, `{"id":-1,"result":true}`, `{"id":1.5,"result":true}`,
		`{"id":1,"id":2,"result":true}`, `{"Id":1,"result":true}`, `{"\u0069d":1,"result":true}`, `{"id":1,"result":true,}`, `{"id":1,"result":truex}`,
		`{"id":1,"result":tru}`, `{"id":1,"result":"a\"b"}`, `{"id":1,"method":"mining.\u0061uthorize","params":["a"]}`, `{"id":1,"result":{"id":2}}`,
		`{"id":1,"method":"mining.submit","params":["a\\","b"]}`, "{\"id\":1,\"method\":\"mining.submit\",\"params\":[\"a\tb\"]}", `{"id":1,"params":["a"`, `{"id":1,"params":["a]}`,
		`{"id":1,"params":[]}`, `{"id":1,"params":[[]]}`, `{"id":1,"params":["a",]}`, `{"id":1,"params":[,"a"]}`, `{"id":1  ,"result":true}`, `{"id":1,"worker":"w","result":true}`,
		`{"method":[0\""]}`, `{"method":["a"]}`, `{"method":1}`, `{"method":null}`, `{"id":1,"result":true}}`, `{"id":1,"result":true} `, `{"id":1,"params":["a"]]}`, `{"id":1,"params":["a"}]}`,
	}
	ends := []string{"", "\n", "\r\n", " \n", "\x00\n", "}\n", "\n\n", "\n}"}
	for _, next := range usual { // another line follows
		ends = append(ends, "\n"+next+"\n")
	}
	for _, text := range append(usual, unusual...) {
		for _, end := range ends {
			checkUsual(t, []byte(text+end))
		}
		for i := range text { // also cut off, or with another byte, anywhere
			checkUsual(t, []byte(text[:i]))
			for _, c := range "\"\\ ,:[]{}0\n\t\x00\x80\xff" {
				line := []byte(text + "\n")
				line[i] = byte(c)
				checkUsual(t, line)
				checkUsual(t, append(line, usual[0]+"\n"...))
			}
		}
	}
}

// Texts of every length end at every position of a word and of a line.
func TestUsualTextLengths(t *testing.T) {
	for n := range 40 {
		text := bytes.Repeat([]byte("a"), n)
		for _, form := range []string{`{"id":1,"method":"%","params":["x"]}`, `{"id":1,"params":["%"]}`, `{"result":"%"}`, `{"id":1,"params":["x","%"`} {
			line := append(bytes.Replace([]byte(form), []byte("%"), text, 1), '\n')
			checkUsual(t, line)
			for at := range text {
				for _, c := range []byte{'\\', '\x1f', '"', 0x7f, 0x80, 0xff, 0xa2} {
					odd := bytes.Clone(text)
					odd[at] = c
					checkUsual(t, append(bytes.Replace([]byte(form), []byte("%"), odd, 1), '\n'))
				}
			}
		}
	}
}

func TestRepeatedLine(t *testing.T) {
	var r RepeatedLine
	if line, sc := r.Next(benchJob); line != nil || sc != nil {
		t.Fatal("an empty memory knows a line")
	}
	sc := ScanPoolLine(benchJob)
	r.Remember(benchJob, &sc)
	next := append(bytes.Clone(benchJob), benchAnswer...)
	if line, known := r.Next(next); !bytes.Equal(line, benchJob) || *known != sc {
		t.Errorf("found %q, %+v", line, known)
	}
	for _, other := range [][]byte{nil, benchAnswer, benchJob[:len(benchJob)-1], stratumtest.JobOfSize("btc-816", 1400, false)} {
		if line, known := r.Next(other); line != nil || known != nil {
			t.Errorf("%q is mistaken for the previous line", other)
		}
	}
	short, long := ScanPoolLine(benchAnswer), bytes.Repeat([]byte("x"), maxRepeated+1)
	r.Remember(benchAnswer, &short)
	r.Remember(long, &short)
	if line, _ := r.Next(benchJob); line == nil {
		t.Error("lines that are not worth it were remembered")
	}
}

// FuzzScanUsual: whichever code reads a line, the members found are the same.
func FuzzScanUsual(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
		f.Add([]byte(line + "\n"))
	}
	f.Fuzz(checkUsual)
}
