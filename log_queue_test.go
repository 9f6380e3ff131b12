package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func startLogQueue(t *testing.T) (*logQueue, *testkit.LogTap) {
	t.Helper()
	tap := &testkit.LogTap{Room: -1}
	q := newLogQueue(&logStream{to: tap})
	q.retry = time.Millisecond
	go q.run()
	return q, tap
}

func drainQueue(q *logQueue, limit time.Duration) {
	deadline := make(chan struct{})
	defer time.AfterFunc(limit, func() { close(deadline) }).Stop()
	q.drain(deadline)
}

// checkNumbered wants lines 0 to n-1 in order, except those that are reported as
// missing in their place.
func checkNumbered(t *testing.T, text string, n int) (missing int) {
	t.Helper()
	next := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := testkit.MissingOf.FindStringSubmatch(line); m != nil {
			gap, _ := strconv.Atoi(m[1])
			next, missing = next+gap, missing+gap
			continue
		}
		number, _, _ := strings.Cut(line, " ")
		if number != strconv.Itoa(next) {
			t.Fatalf("after %d lines there is %.60q", next, line)
		}
		next++
	}
	if next != n {
		t.Fatalf("got %d lines, want %d", next, n)
	}
	return missing
}

// While the output is blocked, nobody waits and memory is bounded. The exact number
// of lines that were left out is reported in their place.
func TestLogQueueBlockedOutput(t *testing.T) {
	const lines = 60000
	padding := strings.Repeat("x", 100)
	push := func(q *logQueue) time.Duration {
		began := time.Now()
		for i := range lines {
			q.push(fmt.Appendf(nil, "%d %s\n", i, padding), true)
		}
		return time.Since(began)
	}
	// An output that accepts everything shows how long the machine needs.
	free, _ := startLogQueue(t)
	usual := push(free)
	q, tap := startLogQueue(t)
	tap.Gate.Lock()
	if took := push(q); took > time.Second+3*usual {
		t.Errorf("pushing took %v, compared with %v for an output that accepts everything", took, usual)
	}
	if q.mu.Lock(); cap(q.pending) > 3*maxLogQueue {
		t.Errorf("%d bytes are waiting, which is too much", cap(q.pending))
	}
	q.mu.Unlock()
	began := time.Now()
	drainQueue(q, 20*time.Millisecond)
	if took := time.Since(began); took > time.Second+usual {
		t.Errorf("draining took %v, which is too long", took)
	}
	tap.Gate.Unlock()
	drainQueue(q, 10*time.Second)
	missing := checkNumbered(t, tap.Text(), lines)
	if lost := q.lost.Load(); missing == 0 || lost != int64(missing) {
		t.Errorf("%d lines are reported as missing, but %d were counted", missing, lost)
	}
}

// A disk that fills up in the middle of a line and gets room later costs no line,
// and breaks none.
func TestLogQueueFullDisk(t *testing.T) {
	q, tap := startLogQueue(t)
	var troubles []error
	q.onError = func(err error) { troubles = append(troubles, err) }
	tap.SetRoom(10_000)
	const lines = 1000
	for i := range lines {
		q.push(fmt.Appendf(nil, "%d some text\n", i), true)
	}
	drainQueue(q, 10*time.Second) // this returns although lines are waiting, because a try has failed
	if h := q.handover(); h.Missing == 0 || h.Missing >= lines || h.Lost != int64(h.Missing) {
		t.Errorf("unexpected handover with a full disk: %+v", h)
	}
	for room := 10; room < 100; room += 7 {
		tap.SetRoom(room)
		drainQueue(q, 10*time.Second)
	}
	tap.SetRoom(-1)
	drainQueue(q, 10*time.Second)
	eventually(t, "all written", func() bool { return q.handover().Missing == 0 })
	if missing := checkNumbered(t, tap.Text(), lines); missing != 0 {
		t.Errorf("%d lines are missing, want none", missing)
	}
	if len(troubles) != 1 || !errors.Is(troubles[0], syscall.ENOSPC) {
		t.Errorf("got troubles %v, want one", troubles)
	}
}

// The next program reports what one program could not write.
func TestLogQueueHandover(t *testing.T) {
	q, tap := startLogQueue(t)
	q.takeHandover(outputHandover{Missing: 7, Lost: 40})
	q.push([]byte("7 after\n"), true)
	drainQueue(q, 10*time.Second)
	if missing := checkNumbered(t, tap.Text(), 8); missing != 7 || q.lost.Load() != 40 {
		t.Errorf("%d lines are reported as missing, %d counted as lost in all", missing, q.lost.Load())
	}
}

// Lines that are not urgent wait for one that is, for a drain, or until there are
// many of them.
func TestLogQueueHoldsBack(t *testing.T) {
	q, tap := startLogQueue(t)
	q.push([]byte("0\n"), false)
	q.push([]byte("1\n"), false)
	time.Sleep(20 * time.Millisecond) // nothing may happen meanwhile
	if got := tap.Text(); got != "" {
		t.Errorf("%q was not held back", got)
	}
	q.push([]byte("2\n"), true)
	eventually(t, "an urgent line takes those before along", func() bool { return tap.Text() == "0\n1\n2\n" })
	q.push([]byte("3\n"), false)
	drainQueue(q, 10*time.Second)
	if got := tap.Text(); !strings.HasSuffix(got, "3\n") {
		t.Errorf("after a drain, the output has %q", got)
	}
	line := []byte(strings.Repeat("y", 1000) + "\n")
	for range logBuffer/len(line) + 1 {
		q.push(line, false)
	}
	eventually(t, "a full buffer is written", func() bool { return len(tap.Text()) > logBuffer })
}

// A disk that hangs prevents the process from being replaced; pending writes alone
// do not.
func TestHangingDiskRefusesUpgrades(t *testing.T) {
	t.Parallel()
	tap := &testkit.LogTap{Room: -1}
	p, from, err := newProcessLog(logFlags{stderrThreshold: 3, dir: t.TempDir()}, tap)
	if err != nil {
		t.Fatal(err)
	}
	p.files[0] = newLogQueue(&logStream{to: tap})
	p.start(from)
	t.Cleanup(func() { p.pipe.Close() })
	if err := p.mayReplace(); err != nil {
		t.Error(err)
	}
	tap.Gate.Lock()
	if _, err := p.pipe.WriteString("W1128 10:00:00.000001 7 a.go:1] i\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the writer is at work", func() bool { return !p.files[0].writeBegan().IsZero() })
	if err := p.mayReplace(); err == nil || !strings.Contains(err.Error(), "INFO") {
		t.Errorf("with a disk that hangs, got error %v", err)
	}
	tap.Gate.Unlock()
	p.drain(10 * time.Second)
	if err := p.mayReplace(); err != nil {
		t.Error(err)
	}
}

func TestFirstLines(t *testing.T) {
	for _, c := range []struct {
		lines string
		limit int
		want  string
	}{
		{"a\nbc\n", 9, "a\nbc\n"}, {"a\nbc\n", 5, "a\nbc\n"}, {"a\nbc\n", 4, "a\n"}, {"abcdef\ng\n", 3, "abcdef\n"}, {"abc", 2, "abc"},
	} {
		if got := firstLines([]byte(c.lines), c.limit); string(got) != c.want {
			t.Errorf("%q, %d: got %q, want %q", c.lines, c.limit, got, c.want)
		}
	}
}

// Each flag sends lines where the log library would.
func TestProcessLogOutputs(t *testing.T) {
	const info, warning, fault = "I1128 10:00:00.000001 7 a.go:1] i\nmore of i\n", "W1128 10:00:00.000002 7 a.go:2] w\n", "E1128 10:00:00.000003 7 a.go:3] e\n"
	for name, c := range map[string]struct {
		flags               logFlags
		stderr              string
		info, warning, errs string
	}{
		"files":           {logFlags{stderrThreshold: 2}, fault, info + warning + fault, warning + fault, fault},
		"threshold":       {logFlags{stderrThreshold: 1}, warning + fault, info + warning + fault, warning + fault, fault},
		"also stderr":     {logFlags{stderrThreshold: 2, alsoToStderr: true}, info + warning + fault, info + warning + fault, warning + fault, fault},
		"only stderr":     {logFlags{stderrThreshold: 2, toStderr: true}, info + warning + fault, "", "", ""},
		"none buffered":   {logFlags{stderrThreshold: 3, bufferLevel: -1}, "", info + warning + fault, warning + fault, fault},
		"all is buffered": {logFlags{stderrThreshold: 3, bufferLevel: 2}, "", info + warning + fault, warning + fault, fault},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.flags.dir = dir
			tap := &testkit.LogTap{Room: -1}
			p, from, err := newProcessLog(c.flags, tap)
			if err != nil {
				t.Fatal(err)
			}
			p.start(from)
			t.Cleanup(func() { p.pipe.Close() })
			if _, err := p.pipe.WriteString(info + warning + fault); err != nil {
				t.Fatal(err)
			}
			p.drain(10 * time.Second)
			if got := tap.Text(); got != c.stderr {
				t.Errorf("standard error has %q, want %q", got, c.stderr)
			}
			for severity, want := range map[string]string{"INFO": c.info, "WARNING": c.warning, "ERROR": c.errs} {
				content, err := os.ReadFile(fmt.Sprintf("%s/%s.%s", dir, filepath.Base(os.Args[0]), severity)) // it is a link
				if want == "" {
					if err == nil {
						t.Errorf("there is a file for %s", severity)
					}
					continue
				}
				_, text, ok := strings.Cut(string(content), "threadid file:line] msg\n")
				if err != nil || !ok || text != want {
					t.Errorf("the file for %s has %q, %v, want %q", severity, text, err, want)
				}
			}
		})
	}
}

// The library's flags are read in the form in which it has them.
func TestReadLogFlags(t *testing.T) {
	f, err := readLogFlags()
	if err != nil || f.stderrThreshold != 2 || f.bufferLevel != 0 {
		t.Errorf("got %+v, %v, want the library's defaults", f, err)
	}
}

func TestLineSeverity(t *testing.T) {
	for line, want := range map[string]int{
		"I1128 10:00:00.000001 7 a.go:1] i\n": 0, "W1128 10:00:00.0\n": 1, "E1128 10:00:00.0\n": 2, "F1128 10:00:00.0\n": 3,
		"X1128 10:00:00.0\n": -1, "I112810:00:00.0\n": -1, "I1128 10:00\n": -1, "\n": -1, "I1128 1a:00:00.000001\n": -1,
	} {
		got, ok := lineSeverity([]byte(line))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", line, got, want)
		}
	}
}

// The product must not call the library's Fatal and Exit, because they would end
// the process before the queues are empty.
func TestNothingEndsTheProcessByTheLog(t *testing.T) {
	t.Parallel()
	ends := regexp.MustCompile(`glog\.(Fatal|Exit)|\blog\.(Fatal|Panic)`)
	check := func(path string, source fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case source.IsDir() && path != "." && path != "internal" && !strings.HasPrefix(path, "internal/"):
			return fs.SkipDir // another program
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if found := ends.Find(text); found != nil && !strings.HasPrefix(path, "internal/stratumtest/") {
			t.Errorf("%s calls %s", path, found)
		}
		return err
	}
	if err := filepath.WalkDir(".", check); err != nil {
		t.Fatal(err)
	}
}
