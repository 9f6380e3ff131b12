package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang/glog"
)

const (
	// limitedFirst is how many lines of a kind the log has within limitedTime.
	// Of the rest there is one line with their number.
	limitedFirst = 10
	limitedTime  = time.Minute
)

// logLimits bounds the log lines that something outside can cause: miners,
// pools, ZooKeeper, HTTP clients. However many there are of them, each kind of
// line comes a few times a minute at most. Any goroutine may use it; the zero
// value is ready.
type logLimits struct {
	window time.Duration // limitedTime; less in tests

	mu    sync.Mutex
	kinds map[string]*limitedKind
}

// limitedKind counts the lines of one kind.
type limitedKind struct {
	began  time.Time
	lines  int // since began
	hidden int // those of them that were not logged
}

// The kind of a line is a constant of the program, never a text from outside.

func (l *logLimits) infof(kind, format string, args ...any) {
	if l.allow(kind, time.Now()) {
		glog.InfoDepthf(1, format, args...)
	}
}

func (l *logLimits) warningf(kind, format string, args ...any) {
	if l.allow(kind, time.Now()) {
		glog.WarningDepthf(1, format, args...)
	}
}

func (l *logLimits) errorf(kind, format string, args ...any) {
	if l.allow(kind, time.Now()) {
		glog.ErrorDepthf(1, format, args...)
	}
}

// allow says whether a line of this kind may be logged now.
func (l *logLimits) allow(kind string, now time.Time) bool {
	window := limitedTime
	if l.window > 0 {
		window = l.window
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[kind]
	if k == nil {
		if l.kinds == nil {
			l.kinds = make(map[string]*limitedKind)
		}
		k = &limitedKind{}
		l.kinds[kind] = k
	}
	// A minute with hidden lines ends when the timer has told of them.
	if k.hidden == 0 && now.Sub(k.began) >= window {
		k.began, k.lines = now, 0
	}
	if k.lines++; k.lines <= limitedFirst {
		return true
	}
	if k.hidden++; k.hidden == 1 {
		time.AfterFunc(k.began.Add(window).Sub(now), func() { l.summary(kind) })
	}
	return false
}

// summary tells how many lines were hidden, if any, and begins anew.
func (l *logLimits) summary(kind string) {
	l.mu.Lock()
	k := l.kinds[kind]
	hidden, shown := k.hidden, k.lines-k.hidden
	if hidden == 0 { // told meanwhile
		l.mu.Unlock()
		return
	}
	*k = limitedKind{}
	l.mu.Unlock()
	glog.Warningf("log: %d more lines of the kind %q within a minute, beside the %d above", hidden, kind, shown)
}

// tell has all summaries logged that are due later. The process may end before.
func (l *logLimits) tell() {
	l.mu.Lock()
	kinds := slices.Sorted(maps.Keys(l.kinds))
	l.mu.Unlock()
	for _, kind := range kinds {
		l.summary(kind)
	}
}
