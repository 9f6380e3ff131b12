package coins

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// logDir holds the log of the tests.
var logDir string

// TestMain keeps a copy of the log in files. With "go test -json", package testing
// replaces os.Stderr after TestMain has begun, so os.Stderr cannot be redirected
// here.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coins-log-")
	if err == nil {
		err = flag.Set("log_dir", dir)
	}
	if err == nil {
		err = flag.Set("alsologtostderr", "true")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	logDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	testkit.Cleanup()
	os.Exit(code)
}

// logLines returns the lines of the log that match.
func logLines(t *testing.T, pattern string) (lines []string) {
	t.Helper()
	glog.Flush()
	files, err := filepath.Glob(filepath.Join(logDir, "*.log.INFO.*"))
	if err != nil {
		t.Fatal(err)
	}
	matches := regexp.MustCompile(pattern)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if matches.MatchString(line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
