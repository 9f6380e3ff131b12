package journal

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang/glog"
)

// LogDigests logs what may happen often: the first of each kind at once, and a minute
// later how many others there were, with one of them as an example. Any goroutine may
// use it; the zero value is ready.
type LogDigests struct {
	window time.Duration                   // minute; less in tests
	write  func(warning bool, line string) // nil: to the log

	mu    sync.Mutex
	kinds map[string]*digest
}

// digest is what happened of one kind since the last line about it.
type digest struct {
	warning bool
	count   int
	example string // the latest
}

// Infof logs or counts an event. Its kind is a constant of the program, never a text
// from outside, and begins the line.
func (l *LogDigests) Infof(kind, format string, args ...any) { l.add(false, kind, format, args) }

// Warningf is Infof for warnings.
func (l *LogDigests) Warningf(kind, format string, args ...any) { l.add(true, kind, format, args) }

func (l *LogDigests) add(warning bool, kind, format string, args []any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	if d := l.kinds[kind]; d != nil {
		d.warning, d.example = warning, text
		d.count++
		l.mu.Unlock()
		return
	}
	if l.kinds == nil {
		l.kinds = make(map[string]*digest)
	}
	l.kinds[kind] = &digest{}
	l.mu.Unlock()
	l.log(warning, kind+" "+text)
	l.tellLater(kind)
}

func (l *LogDigests) tellLater(kind string) {
	window := minute
	if l.window > 0 {
		window = l.window
	}
	time.AfterFunc(window, func() {
		if l.tell(kind) {
			l.tellLater(kind)
		}
	})
}

// tell logs what was counted. It reports whether there was something; otherwise the
// next event of the kind is logged at once.
func (l *LogDigests) tell(kind string) bool {
	l.mu.Lock()
	d := l.kinds[kind]
	if d == nil || d.count == 0 {
		delete(l.kinds, kind)
		l.mu.Unlock()
		return false
	}
	was := *d
	*d = digest{}
	l.mu.Unlock()
	l.log(was.warning, fmt.Sprintf("%s: %d more within a minute, such as %s", kind, was.count, was.example))
	return true
}

func (l *LogDigests) log(warning bool, line string) {
	switch {
	case l.write != nil:
		l.write(warning, line)
	case warning:
		glog.Warning(line)
	default:
		glog.Info(line)
	}
}

// Tell logs at once what is due later, for a process that is about to end.
func (l *LogDigests) Tell() {
	l.mu.Lock()
	kinds := slices.Sorted(maps.Keys(l.kinds))
	l.mu.Unlock()
	for _, kind := range kinds {
		l.tell(kind)
	}
}
