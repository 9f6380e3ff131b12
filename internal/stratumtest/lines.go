package stratumtest

import (
	"fmt"
	"strings"
)

// This file has lines for tests and benchmarks that need no pool or miner.

// UsualShare and UsualAnswer have the length that is typical of miners and pools.
const (
	UsualShare  = `{"id":4711,"method":"mining.submit","params":["alice.w1234","btc-815","0000000000a1b2c3","69201234","deadbeef","1fffe000"]}` + "\n"
	UsualAnswer = `{"id":4711,"result":true,"error":null}` + "\n"
)

// JobOfSize returns a job that its coinbase pads to at least size bytes.
func JobOfSize(id string, size int, clean bool) []byte {
	const form = `{"id":null,"method":"mining.notify","params":["%s","%s","01000000","%s",["%s","%s"],"20000000","1d00ffff","69201234",%t]}` + "\n"
	prev, branch := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	empty := len(fmt.Sprintf(form, id, prev, "", branch, branch, clean))
	return fmt.Appendf(nil, form, id, prev, strings.Repeat("e", max(0, size-empty)), branch, branch, clean)
}

// JobWithBranches returns a job that its merkle branches pad to at least size bytes, as
// in most real jobs.
func JobWithBranches(size int) []byte {
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

// JobLine returns a short job without a line end.
func JobLine(id string, clean bool) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.notify","params":["%s","00","01","02",[],"20000000","1d00ffff","5f000000",%v]}`, id, clean)
}

// ShareLine returns a share of the worker alice.1 without a line end.
func ShareLine(id, job string) string {
	return fmt.Sprintf(`{"id":%s,"method":"mining.submit","params":["alice.1","%s","0000000000000001","5f000000","00000000"]}`, id, job)
}
