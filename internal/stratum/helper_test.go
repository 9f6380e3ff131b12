package stratum

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const (
	textJob      = `{"id":null,"method":"mining.notify","params":["j1","00","01","02",[],"20000000","1703a30c","5e9a5c3b",false]}`
	textCleanJob = `{"id":null,"method":"mining.notify","params":["j1","00","01","02",[],"20000000","1703a30c","5e9a5c3b",true]}`
)

var allChains = []Chain{Bitcoin, DecredNormal, DecredGominer, Ethereum}

var (
	benchShare  = []byte(`{"id":4711,"method":"mining.submit","params":["alice.w1234","btc-815","0000000000a1b2c3","69201234","deadbeef","1fffe000"]}` + "\n")
	benchAnswer = []byte(`{"id":4711,"result":true,"error":null}` + "\n")
	benchJob    = benchNotify("btc-815", 1400, false)
)

// benchNotify returns a job of about the given number of bytes.
func benchNotify(id string, size int, clean bool) []byte {
	const form = `{"id":null,"method":"mining.notify","params":["%s","%s","01000000","%s",["%s","%s"],"20000000","1d00ffff","69201234",%t]}` + "\n"
	prev, branch := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	empty := len(fmt.Sprintf(form, id, prev, "", branch, branch, clean))
	return fmt.Appendf(nil, form, id, prev, strings.Repeat("e", max(0, size-empty)), branch, branch, clean)
}

// notifyOf returns a job of at least size bytes. As in most jobs, it is long
// because of its branches.
func notifyOf(size int) []byte {
	var branches []string
	line := func() string {
		return `{"id":null,"method":"mining.notify","params":["5f1a2b","` + strings.Repeat("ab", 32) + `","` + strings.Repeat("01", 60) + `","` + strings.Repeat("02", 90) +
			`",[` + strings.Join(branches, ",") + `],"20000000","17034219","65a0b1c2",false]}` + "\n"
	}
	for len(line()) < size {
		branches = append(branches, `"`+strings.Repeat("cd", 32)+`"`)
	}
	return []byte(line())
}

func jobLine(id string, clean bool) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.notify","params":["%s","00","01","02",[],"20000000","1d00ffff","5f000000",%v]}`, id, clean)
}

func shareLine(id, job string) string {
	return fmt.Sprintf(`{"id":%s,"method":"mining.submit","params":["alice.1","%s","0000000000000001","5f000000","00000000"]}`, id, job)
}

// fuzzLines returns lines with which fuzz targets begin: those of the transcripts
// in docs/handshakes.md, and some that are malformed or unusual.
func fuzzLines(f *testing.F) []string {
	f.Helper()
	page, err := os.ReadFile("../../docs/handshakes.md")
	if err != nil {
		f.Fatal(err)
	}
	all := []string{
		``, `{}`, `{"id":1}`, `[]`, `null`, `{"id":{"method":"x"},"method":"y"}`, `{"a\"method":"x"}`, `{"method":"a\"b","params":["\\"]}`,
		`{"params" : [ "a" , "b\"" , 1 ] , "method" : "mining.submit" }`, `{"id":"params","params":["a"]}`, `{"params":[[],false],"method":"mining.notify"}`,
	}
	seen := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| (?:miner|pool) \\w+ \\| `(.*)` \\|$").FindAllSubmatch(page, -1) {
		line := strings.ReplaceAll(string(m[1]), `\|`, "|")
		if !seen[line] {
			seen[line] = true
			all = append(all, line)
		}
	}
	if len(seen) < 50 {
		f.Fatalf("docs/handshakes.md has only %d lines for fuzzing", len(seen))
	}
	return all
}

// checkAnswer fails the test unless b is one line of JSON.
func checkAnswer(t *testing.T, b []byte) {
	t.Helper()
	if !json.Valid(b) || bytes.IndexByte(b, '\n') != len(b)-1 {
		t.Fatalf("%q is not one line of JSON", b)
	}
}
