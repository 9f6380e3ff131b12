package daemontest

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// LeakSettle is how long what is left of many sessions may take to be gone: the
// memory is given back by a sweep.
const LeakSettle = 40 * time.Second

// AwaitSettled is eventually with that patience.
func AwaitSettled(t *testing.T, what func() string) {
	t.Helper()
	for end := time.Now().Add(LeakSettle); ; time.Sleep(20 * time.Millisecond) {
		left := what()
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %s", left)
		}
	}
}

// DebugText is what the daemon's HTTP listener says.
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

// Figure is the number in text that the pattern finds.
func Figure(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing like %q in %.2000q", pattern, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// HeapBytes is what a daemon's heap holds after a collection.
func HeapBytes(t *testing.T, debug string) int {
	t.Helper()
	// Twice: what a first collection finds to have finalizers goes in the next.
	DebugText(t, debug, "/debug/pprof/heap?gc=1&debug=1")
	return Figure(t, DebugText(t, debug, "/debug/pprof/heap?gc=1&debug=1"), HeapInUse)
}

const HeapInUse = `(?m)^# HeapAlloc = (\d+)`
