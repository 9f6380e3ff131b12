package journal

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang/glog"
)

const (
	// LinesPerMinute is how many lines of a kind are logged within a minute. After
	// that, one line with the number of the others is logged.
	LinesPerMinute = 10
	minute         = time.Minute
)

// LogLimits limits the log lines that miners, pools, ZooKeeper and HTTP clients can
// cause. Each kind of line is logged a few times a minute at most. Any goroutine may
// use it; the zero value is ready.
type LogLimits struct {
	window time.Duration // tests set it; 0 stands for a minute

	mu    sync.Mutex
	kinds map[string]*lineKind
}

// lineKind counts the lines of one kind.
type lineKind struct {
	began  time.Time
	lines  int // since began
	hidden int // how many of lines were not logged
}

// Infof logs or counts a line. The kind must be a constant of the program and never a
// text from outside.
func (l *LogLimits) Infof(kind, format string, args ...any) {
	if l.allow(kind, time.Now()) {
		glog.InfoDepthf(1, format, args...)
	}
}

// Warningf is Infof for warnings.
func (l *LogLimits) Warningf(kind, format string, args ...any) {
	if l.allow(kind, time.Now()) {
		glog.WarningDepthf(1, format, args...)
	}
}

// Errorf is Infof for errors.
func (l *LogLimits) Errorf(kind, format string, args ...any) {
	if l.allow(kind, time.Now()) {
		glog.ErrorDepthf(1, format, args...)
	}
}

// allow counts a line of this kind and reports whether it may be logged now.
func (l *LogLimits) allow(kind string, now time.Time) bool {
	window := minute
	if l.window > 0 {
		window = l.window
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[kind]
	if k == nil {
		if l.kinds == nil {
			l.kinds = make(map[string]*lineKind)
		}
		k = &lineKind{}
		l.kinds[kind] = k
	}
	// A minute with hidden lines ends when the timer has logged their number.
	if k.hidden == 0 && now.Sub(k.began) >= window {
		k.began, k.lines = now, 0
	}
	if k.lines++; k.lines <= LinesPerMinute {
		return true
	}
	if k.hidden++; k.hidden == 1 {
		time.AfterFunc(k.began.Add(window).Sub(now), func() { l.summary(kind) })
	}
	return false
}

// summary logs how many lines were hidden, if any, and starts a new minute.
func (l *LogLimits) summary(kind string) {
	l.mu.Lock()
	k := l.kinds[kind]
	hidden, shown := k.hidden, k.lines-k.hidden
	if hidden == 0 { // Flush has logged the number
		l.mu.Unlock()
		return
	}
	*k = lineKind{}
	l.mu.Unlock()
	glog.Warningf("log: %d more lines of the kind %q within a minute, beside the %d above", hidden, kind, shown)
}

// Flush immediately logs all summaries that would be logged later, for a process that
// is about to end.
func (l *LogLimits) Flush() {
	l.mu.Lock()
	kinds := slices.Sorted(maps.Keys(l.kinds))
	l.mu.Unlock()
	for _, kind := range kinds {
		l.summary(kind)
	}
}
