package journal

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang/glog"
)

// LogDigests logs events that may happen often. It logs the first event of each kind at
// once, and a minute later the number of the others with one of them as an example. Any
// goroutine may use it; the zero value is ready.
type LogDigests struct {
	window time.Duration                   // tests set it; 0 stands for a minute
	write  func(warning bool, line string) // tests set it; nil stands for the log

	mu    sync.Mutex
	kinds map[string]*digest
}

// digest counts the events of one kind since the last line about them.
type digest struct {
	warning bool
	count   int
	example string // the latest
}

// Infof logs or counts an event. The line begins with the kind, which must be a constant
// of the program and never a text from outside.
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
	l.reportLater(kind)
}

// reportLater starts the timer for the next line about a kind.
func (l *LogDigests) reportLater(kind string) {
	window := minute
	if l.window > 0 {
		window = l.window
	}
	time.AfterFunc(window, func() {
		if l.report(kind) {
			l.reportLater(kind)
		}
	})
}

// report logs the number of events that were counted, if any, and reports whether there
// were any. If there were none, the next event of the kind is logged at once.
func (l *LogDigests) report(kind string) bool {
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

// Flush immediately logs the counts that would be logged later, for a process that is
// about to end.
func (l *LogDigests) Flush() {
	l.mu.Lock()
	kinds := slices.Sorted(maps.Keys(l.kinds))
	l.mu.Unlock()
	for _, kind := range kinds {
		l.report(kind)
	}
}
