package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxLogQueue bounds the bytes that wait for one output. Twice as many can
	// be in memory, because the writer may be writing another batch of that
	// size.
	maxLogQueue = 1 << 20

	// logBuffer (bytes) and logBufferTime bound what -logbuflevel may hold back.
	// They are the log library's own values.
	logBuffer     = 256 << 10
	logBufferTime = 30 * time.Second

	// maxLogWrite is the most that is written in one call. A pipe accepts that
	// much completely or not at all, so it is known what a blocked writer has
	// written.
	maxLogWrite = 4 << 10

	logRetry = time.Second // the pause after a failed write
)

// logOutput is the destination of one queue's lines.
type logOutput interface {
	// write is called with whole lines by the queue's goroutine only, and may
	// block. It returns how many bytes it took, also in whole lines; it will be
	// called again with the rest.
	write(lines []byte) (int, error)
}

// logQueue is the queue of lines for one output of the log. push never
// waits: if there is no room, lines are dropped and counted, and a line in
// their place says how many are missing. Only the goroutine run writes, and the
// output may block it for any length of time.
type logQueue struct {
	output  logOutput
	onError func(err error) // called for errors, at most once a minute; may be nil
	retry   time.Duration
	lost    atomic.Int64 // lines that were dropped, ever

	wake     chan struct{}
	retryNow chan struct{} // ends the pause before a retry early

	mu      sync.Mutex
	pending []byte
	lines   int           // in pending
	dropped int           // lines that were dropped after the last pending one
	held    *time.Timer   // wakes the writer for lines that -logbuflevel holds back
	writing int           // lines that the writer has taken and not written yet
	gap     int           // dropped lines that the last line of the writer's batch reports
	failed  error         // error of the last write, or nil
	writes  int           // calls of output.write that have returned
	since   time.Time     // when the write under way began; zero if none is
	changed chan struct{} // closed at the next change; nil if nobody waits

	// The fields below belong to run.

	spare    []byte    // the buffer of the last batch, to be used again
	reported time.Time // when onError was last called
}

func newLogQueue(output logOutput) *logQueue {
	return &logQueue{output: output, retry: logRetry, wake: make(chan struct{}, 1), retryNow: make(chan struct{}, 1)}
}

// push adds a line, which ends with a newline. A line that is not urgent may be
// held back for up to logBufferTime. Any goroutine may call push.
func (q *logQueue) push(line []byte, urgent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// After one line was dropped, all others are too until the writer takes the
	// pending ones, so that the line that reports the gap is in the right
	// place.
	if q.dropped > 0 || len(q.pending)+len(line) > maxLogQueue {
		q.dropped++
		q.lost.Add(1)
		return
	}
	q.pending = append(q.pending, line...)
	q.lines++
	switch {
	case urgent || len(q.pending) >= logBuffer:
		signalOnce(q.wake)
	case q.held == nil:
		q.held = time.AfterFunc(logBufferTime, func() { signalOnce(q.wake) })
	}
}

func signalOnce(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes the lines that were pushed. It never returns.
func (q *logQueue) run() {
	for range q.wake {
		for {
			batch := q.take()
			q.writeOut(batch)
			if cap(batch) <= logBuffer {
				q.spare = batch
			}
			if len(batch) == 0 {
				break
			}
		}
	}
}

// take returns all pending lines to the writer, and ends them with a line about
// those that were dropped.
func (q *logQueue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held != nil {
		q.held.Stop()
		q.held = nil
	}
	batch := q.pending
	q.pending, q.spare = q.spare[:0], nil
	q.writing, q.lines = q.lines, 0
	if q.dropped > 0 {
		batch = append(batch, missingLines(q.dropped, "there was no room for them")...)
		q.gap, q.dropped = q.dropped, 0
	}
	q.change()
	return batch
}

// writeOut writes all of batch, with as many calls and retries as needed.
func (q *logQueue) writeOut(batch []byte) {
	for len(batch) > 0 {
		q.begin()
		n, err := q.output.write(firstLines(batch, maxLogWrite))
		lines := bytes.Count(batch[:n], []byte{'\n'})
		batch = batch[n:]
		q.mu.Lock()
		q.writing = max(0, q.writing-lines)
		if len(batch) == 0 {
			q.writing, q.gap = 0, 0
		}
		q.failed = err
		q.writes++
		q.since = time.Time{}
		q.change()
		q.mu.Unlock()
		if err == nil {
			continue
		}
		if q.onError != nil && (q.reported.IsZero() || time.Since(q.reported) >= alertEvery) {
			q.reported = time.Now()
			q.onError(err)
		}
		select {
		case <-q.retryNow:
		case <-time.After(q.retry):
		}
	}
}

func (q *logQueue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.since = time.Now()
}

// writeBegan returns when the write under way began, or zero if none is under way.
func (q *logQueue) writeBegan() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.since
}

// firstLines returns as many whole lines from the beginning as fit into limit
// bytes, but at least one.
func firstLines(lines []byte, limit int) []byte {
	if len(lines) <= limit {
		return lines
	}
	if end := bytes.LastIndexByte(lines[:limit], '\n'); end >= 0 {
		return lines[:end+1]
	}
	if end := bytes.IndexByte(lines, '\n'); end >= 0 {
		return lines[:end+1]
	}
	return lines
}

// change wakes the callers of drain. q.mu is held.
func (q *logQueue) change() {
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// drain waits until everything is written, the output fails, or the deadline
// has passed.
func (q *logQueue) drain(deadline <-chan struct{}) {
	signalOnce(q.wake)
	q.mu.Lock()
	writes := q.writes
	if q.failed != nil {
		signalOnce(q.retryNow)
	}
	for {
		waiting := q.writing + q.gap + q.lines + q.dropped
		if waiting == 0 || q.failed != nil && q.writes > writes {
			q.mu.Unlock()
			return
		}
		if q.changed == nil {
			q.changed = make(chan struct{})
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			return
		}
		q.mu.Lock()
	}
}

// outputHandover is what the next program learns about one output.
type outputHandover struct {
	Missing int   // lines that were not written and are not reported yet
	Lost    int64 // all lines that were ever dropped
}

// handover returns what a process that ends now would leave unwritten.
func (q *logQueue) handover() outputHandover {
	q.mu.Lock()
	defer q.mu.Unlock()
	unsent := q.writing + q.lines
	return outputHandover{Missing: unsent + q.gap + q.dropped, Lost: q.lost.Load() + int64(unsent)}
}

// takeHandover makes the queue begin with a line about those that the former
// program did not write.
func (q *logQueue) takeHandover(h outputHandover) {
	q.lost.Add(max(0, h.Lost))
	if h.Missing > 0 {
		q.push(missingLines(h.Missing, "the program before the upgrade could not write them"), true)
	}
}

// missingLines returns the line that reports n missing lines.
func missingLines(n int, why string) []byte {
	return formatLogLine('W', "log: %d lines are missing here: %s", n, why)
}

// formatLogLine formats a line as the log library does. It is for lines that go
// to a single output, which the library does not support.
func formatLogLine(severity byte, format string, args ...any) []byte {
	_, source, at, _ := runtime.Caller(1)
	line := fmt.Appendf(nil, "%c%s %7d %s:%d] ", severity, time.Now().Format("0102 15:04:05.000000"), os.Getpid(), filepath.Base(source), at)
	return append(fmt.Appendf(line, format, args...), '\n')
}

// lineWriter writes to files that may accept only part of a line. It reports
// whole lines as written and remembers how much of the next line is written
// already.
type lineWriter struct{ part int }

func (w *lineWriter) write(to io.Writer, lines []byte) (int, error) {
	n, err := to.Write(lines[w.part:])
	n += w.part
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	w.part = n - whole
	return whole, err
}

// logStream is a logOutput that is already open, such as standard error.
type logStream struct {
	to    io.Writer
	lines lineWriter
}

func (s *logStream) write(lines []byte) (int, error) { return s.lines.write(s.to, lines) }
