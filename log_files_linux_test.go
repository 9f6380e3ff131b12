//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang/glog"
	"golang.org/x/sys/unix"
)

// A file of a former program with this pid that is in the way is moved aside and
// stays unchanged. Other files with similar names are not touched.
func TestLogFileMovesFormerOnesAside(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	dir := t.TempDir()
	f := newLogFile("INFO", dir, "", t.Errorf)
	f.program, f.host, f.user = "prog", "host", "me"
	f.now = func() time.Time { return now }
	pid := strconv.Itoa(os.Getpid())
	want := make(map[string]string) // contents by name
	for _, name := range []string{
		"prog.host.me.log.INFO.20260102-030405." + pid, "prog.host.me.log.INFO.20260102-030405.1." + pid,
		"prog.host.me.log.WARNING.20260102-030405." + pid, "prog.host.me.log.INFO.20260102-030404." + pid, "prog.host.me.log.INFO.20260102-030405.1",
	} {
		want[name] = "former " + name
		if err := os.WriteFile(filepath.Join(dir, name), []byte(want[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.write([]byte("line\n")); err != nil {
		t.Fatal(err)
	}
	own := "prog.host.me.log.INFO.20260102-030405." + pid
	want["prog.host.me.log.INFO.20260102-030405.2."+pid], want[own] = want[own], "line"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if e.Name() == "prog.INFO" {
			if target, err := os.Readlink(filepath.Join(dir, e.Name())); target != own || err != nil {
				t.Errorf("the link leads to %q, %v", target, err)
			}
			continue
		}
		if text, known := want[e.Name()]; err != nil || !known || !strings.Contains(string(content), text) {
			t.Errorf("%s: %q, %v, want %q", e.Name(), content, err, text)
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		t.Errorf("files are missing: %v", want)
	}
}

// logFileScene is a logFile with a clock of its own.
type logFileScene struct {
	t        *testing.T
	file     *logFile
	clock    time.Time
	warnings []string
	n        int // number of lines written
}

func newLogFileScene(t *testing.T, dir, links string) *logFileScene {
	s := &logFileScene{t: t, clock: time.Now()}
	s.file = newLogFile("INFO", dir, links, func(format string, args ...any) { s.warnings = append(s.warnings, fmt.Sprintf(format, args...)) })
	s.file.now = func() time.Time { return s.clock }
	t.Cleanup(s.file.close)
	return s
}

// write writes the next line after some time.
func (s *logFileScene) write(after time.Duration) {
	s.t.Helper()
	s.clock = s.clock.Add(after)
	line := fmt.Appendf(nil, "line %d\n", s.n)
	if n, err := s.file.write(line); n != len(line) || err != nil {
		s.t.Fatalf("line %d: %d bytes were written, %v", s.n, n, err)
	}
	s.n++
}

// want wants the link in dir to lead to a file with these lines and no others.
func (s *logFileScene) want(dir string, lines ...int) {
	s.t.Helper()
	path := filepath.Join(dir, s.file.program+".INFO")
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	head, text, _ := strings.Cut(string(content), "threadid file:line] msg\n")
	var want strings.Builder
	for _, n := range lines {
		fmt.Fprintf(&want, "line %d\n", n)
	}
	if !strings.HasPrefix(head, "Log file created at: ") || text != want.String() {
		s.t.Errorf("%s has %q, want lines %v", path, content, lines)
	}
}

// A file that is moved or removed is created again. If its directory is gone, it is
// created in the one for temporary files until the directory exists again.
func TestLogFileIsReopened(t *testing.T) {
	temporary, dir, links := t.TempDir(), filepath.Join(t.TempDir(), "logs"), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	s := newLogFileScene(t, dir, links)
	s.write(0) // the directory does not exist yet
	s.want(temporary, 0)
	s.write(time.Second)
	s.want(temporary, 0, 1)
	if len(s.warnings) != 1 || !strings.Contains(s.warnings[0], dir) {
		t.Errorf("got warnings %q, want one that names %s", s.warnings, dir)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.write(time.Second)
	s.want(temporary, 0, 1, 2)
	s.write(logDirRetry)
	s.want(dir, 3)
	s.want(links, 3)

	moved := s.file.path + ".1"
	if err := os.Rename(s.file.path, moved); err != nil {
		t.Fatal(err)
	}
	s.write(logFileLook)
	s.want(dir, 4)
	if content, err := os.ReadFile(moved); err != nil || !strings.HasSuffix(string(content), "line 3\n") {
		t.Errorf("the moved file has %q, %v", content, err)
	}
	if err := os.Remove(s.file.path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(s.file.path, 0o600); err != nil {
		t.Fatal(err)
	}
	s.write(logFileLook)
	s.want(dir, 5)
	if err := os.Truncate(s.file.path, 0); err != nil { // as logrotate's copytruncate does
		t.Fatal(err)
	}
	s.write(logFileLook)
	if content, err := os.ReadFile(s.file.path); string(content) != "line 6\n" || err != nil {
		t.Errorf("the truncated file has %q, %v", content, err)
	}

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.warnings = nil
	s.write(logFileLook)
	s.want(temporary, 7)
	for range 3 * int(logDirRetry/time.Second) {
		s.write(time.Second)
	}
	if len(s.warnings) != 4 {
		t.Errorf("there were %d warnings in three minutes: %q", len(s.warnings), s.warnings)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in the directory's place
		t.Fatal(err)
	}
	s.write(logDirRetry)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.write(logDirRetry)
	s.want(dir, s.n-1)
}

// A file that has become too long ends with the name of the next one.
func TestLogFileIsContinued(t *testing.T) {
	former := glog.MaxSize
	glog.MaxSize = 1000
	t.Cleanup(func() { glog.MaxSize = former })
	dir := t.TempDir()
	s := newLogFileScene(t, dir, "")
	s.write(0)
	first := s.file.path
	for s.file.path == first {
		s.write(time.Second)
	}
	s.want(dir, s.n-1)
	content, err := os.ReadFile(first)
	if err != nil || !strings.HasSuffix(string(content), fmt.Sprintf("line %d\nNext log: %s\n\nCONTINUED IN NEXT FILE\n", s.n-2, s.file.path)) {
		t.Errorf("the former file ends with %q, %v", content[max(0, len(content)-200):], err)
	}
	if content, err := os.ReadFile(s.file.path); err != nil || !strings.Contains(string(content), "Previous log: "+first) {
		t.Errorf("the next file begins with %q, %v", content, err)
	}
}
