package stratum

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	textJob      = `{"id":null,"method":"mining.notify","params":["j1","00","01","02",[],"20000000","1703a30c","5e9a5c3b",false]}`
	textCleanJob = `{"id":null,"method":"mining.notify","params":["j1","00","01","02",[],"20000000","1703a30c","5e9a5c3b",true]}`
)

var allChains = []Chain{Bitcoin, DecredNormal, DecredGominer, Ethereum}

var (
	benchShare  = []byte(stratumtest.UsualShare)
	benchAnswer = []byte(stratumtest.UsualAnswer)
	benchJob    = stratumtest.JobOfSize("btc-815", 1400, false)

	jobLine   = stratumtest.JobLine
	shareLine = stratumtest.ShareLine
)

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
