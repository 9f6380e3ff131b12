package daemontest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
)

var PeakOf = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`)

// PeakMemory is the most memory the process had since its start, in KB.
func (p *Daemon) PeakMemory() int {
	p.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	m := PeakOf.FindSubmatch(status)
	if m == nil {
		p.T.Fatalf("no peak in %s", status)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		p.T.Fatal(err)
	}
	return n
}
