package journal

import (
	"testing"
	"time"
)

// However many lines of a kind there are, the first ones are logged and then their
// number. Other kinds are not affected.
func TestLogLimits(t *testing.T) {
	l := &LogLimits{window: time.Hour}
	now := time.Now()
	logged := 0
	for i := range 1000 {
		if l.allow("a", now.Add(time.Duration(i)*time.Millisecond)) {
			logged++
		}
	}
	if hidden := l.kinds["a"].hidden; logged != LinesPerMinute || hidden != 1000-LinesPerMinute {
		t.Errorf("%d lines were logged and %d hidden", logged, hidden)
	}
	if !l.allow("b", now) {
		t.Error("another kind is not logged")
	}
	l.Flush()
	if k := l.kinds["a"]; k.hidden != 0 || !l.allow("a", now) {
		t.Errorf("unexpected counts after the summary: %+v", k)
	}
	// Lines that come slowly are all logged.
	for i := range 50 {
		if !l.allow("slow", now.Add(time.Duration(i)*time.Hour)) {
			t.Errorf("slow line %d is not logged", i)
		}
	}
}

// The summary comes by itself when there are no more lines.
func TestLogLimitsFlush(t *testing.T) {
	l := &LogLimits{window: 20 * time.Millisecond}
	for range LinesPerMinute + 5 {
		l.allow("a", time.Now())
	}
	told := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.kinds["a"].lines == 0
	}
	for limit := time.Now().Add(10 * time.Second); !told(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("there is no summary")
		}
	}
}
