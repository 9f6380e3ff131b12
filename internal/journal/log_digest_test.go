package journal

import (
	"slices"
	"testing"
	"time"
)

// The first of each kind is logged at once, the others by their number with the latest
// as an example, and a kind that was quiet for a while is logged at once again.
func TestLogDigests(t *testing.T) {
	lines := make(chan string, 100)
	l := &LogDigests{window: 50 * time.Millisecond, write: func(warning bool, line string) {
		if warning {
			line = "W " + line
		}
		lines <- line
	}}
	for i := range 4 {
		l.Warningf("failed: a", "miner=%d", i)
	}
	l.Infof("failed: b", "miner=x")
	var got []string
	for len(got) < 3 {
		select {
		case line := <-lines:
			got = append(got, line)
		case <-time.After(10 * time.Second):
			t.Fatalf("only %q", got)
		}
	}
	want := []string{"W failed: a miner=0", "failed: b miner=x", "W failed: a: 3 more within a minute, such as miner=3"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		kinds := len(l.kinds)
		l.mu.Unlock()
		if kinds == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("a quiet kind is kept")
		}
	}
	l.Infof("failed: a", "miner=5")
	l.Infof("failed: a", "miner=6")
	l.Flush()
	if first, told := <-lines, <-lines; first != "failed: a miner=5" || told != "failed: a: 1 more within a minute, such as miner=6" {
		t.Errorf("%q, %q", first, told)
	}
}
