package daemontest

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// LeakSettle is how long it may take until the memory of many sessions is free again,
// because a periodic sweep frees it.
const LeakSettle = 40 * time.Second

// AwaitSettled waits until what, which describes what is left behind, returns nothing. After
// LeakSettle, it ends the test.
func AwaitSettled(t *testing.T, what func() string) {
	t.Helper()
	for end := time.Now().Add(LeakSettle); ; time.Sleep(20 * time.Millisecond) {
		left := what()
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("something is left behind: %s", left)
		}
	}
}

// DebugText requests the path what from the daemon's HTTP listener and returns the answer.
func DebugText(t *testing.T, debug, what string) string {
	t.Helper()
	res, err := http.Get("http://" + debug + what)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Figure returns the number in the first group of the first match of pattern in text,
// without its fraction.
func Figure(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %q in %.2000q", pattern, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// HeapBytes returns the size of a daemon's heap after a garbage collection.
func HeapBytes(t *testing.T, debug string) int {
	t.Helper()
	// The collector runs twice, because objects with finalizers that the first run
	// finds are freed by the next.
	DebugText(t, debug, "/debug/pprof/heap?gc=1&debug=1")
	return Figure(t, DebugText(t, debug, "/debug/pprof/heap?gc=1&debug=1"), HeapInUse)
}

const HeapInUse = `(?m)^# HeapAlloc = (\d+)`

// CPUTime returns the processor time that the daemon has used so far.
func (p *Daemon) CPUTime() time.Duration {
	p.T.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			p.T.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

var Seed = flag.Uint64("seed", 0, "seed of the random tests; 0 takes it from the clock")

// Usage counts the resources of a process.
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
	// The request has an HTTP client of its own. Its connection counts among the
	// descriptors, so other tests must not close it meanwhile.
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

var PeakOf = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`)

// PeakMemory returns the most memory that the process has used since its start, in KB.
func (p *Daemon) PeakMemory() int {
	p.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	m := PeakOf.FindSubmatch(status)
	if m == nil {
		p.T.Fatalf("there is no peak in %s", status)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		p.T.Fatal(err)
	}
	return n
}
