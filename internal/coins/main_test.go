package coins

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// logged holds the lines of the log since the tests began.
var logged struct {
	mu   sync.Mutex
	text strings.Builder
}

// TestMain keeps a copy of the log.
func TestMain(m *testing.M) {
	stderr := os.Stderr
	r, w, err := os.Pipe()
	if err == nil {
		err = flag.Set("logtostderr", "true")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Stderr = w // where the log goes from now on
	go func() {
		for lines := bufio.NewReader(r); ; {
			line, err := lines.ReadString('\n')
			logged.mu.Lock()
			logged.text.WriteString(line)
			logged.mu.Unlock()
			fmt.Fprint(stderr, line)
			if err != nil {
				return
			}
		}
	}()
	code := m.Run()
	testkit.Cleanup()
	os.Exit(code)
}

// logLines returns the lines of the log that match. They are searched without the
// lock, so that whoever polls does not hold up the goroutine that reads the log.
func logLines(pattern string) (lines []string) {
	logged.mu.Lock()
	text := logged.text.String()
	logged.mu.Unlock()
	matches := regexp.MustCompile(pattern)
	for line := range strings.SplitSeq(text, "\n") {
		if matches.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}
