package daemontest

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
)

var Seed = flag.Uint64("seed", 0, "of the random tests; 0: by the clock")

// Usage is what a process holds.
type Usage struct {
	Descriptors, Goroutines int
	Private                 int // KB
}

func (u Usage) String() string {
	return fmt.Sprintf("%d descriptors, %d goroutines, %d KB private", u.Descriptors, u.Goroutines, u.Private)
}

var (
	GoroutinesOf = regexp.MustCompile(`goroutine profile: total (\d+)`)
	PrivateOf    = regexp.MustCompile(`(?m)^Private_(?:Clean|Dirty): +(\d+) kB`)
)

func (p *Daemon) Usage(debug string) (u Usage) {
	p.T.Helper()
	// A client of its own: what it asks by is among the descriptors, and other
	// tests must not close it meanwhile.
	var transport http.Transport
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: &transport}
	res, err := client.Get("http://" + debug + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		p.T.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if m := GoroutinesOf.FindSubmatch(text); m != nil {
		u.Goroutines, _ = strconv.Atoi(string(m[1]))
	}
	u.Descriptors = p.Descriptors()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	for _, m := range PrivateOf.FindAllSubmatch(rollup, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		u.Private += n
	}
	return u
}
