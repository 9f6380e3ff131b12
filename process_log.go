package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/golang/glog"
)

// No loop and no signal ever waits for the log. The log library itself would
// write to its files and to standard error, wait for them, and end the process
// if a write fails. So it is set to log to standard error, which is replaced by
// a pipe that is always emptied, and this file does what the library's flags
// ask for:
//
//	glog → pipe → processLog.read → one logQueue for each output → logOutput
//
// Descriptor 2 stays unchanged, for the Go runtime's report of a panic.

const (
	// logDrainTime is how long the process waits for the queues to empty before
	// it ends or is replaced. Before a replacement, logFrozenTime of it falls
	// into the time when nothing is relayed.
	logDrainTime  = 100 * time.Millisecond
	logFrozenTime = 20 * time.Millisecond

	// logHangTime is how long a write to a file may take before it prevents an
	// upgrade.
	logHangTime = time.Second

	// logHandoverVariable is the environment variable with what the next program
	// has to know about this one's log.
	logHandoverVariable = "STRATUM_SWITCHER_LOG"
)

// logSeverities are the severities that have files, spelled as in the files'
// names. A line is in the files of its severity and of all lower ones.
var logSeverities = [...]string{"INFO", "WARNING", "ERROR"}

const severityWarning = 1 // an index of logSeverities

// logFlags are the log library's flags.
type logFlags struct {
	toStderr, alsoToStderr bool
	stderrThreshold        int
	bufferLevel            int
	dir, links             string
}

func readLogFlags() (f logFlags, err error) {
	get := func(name string) (text string) {
		if known := flag.Lookup(name); known != nil {
			text = known.Value.String()
		} else if err == nil {
			err = fmt.Errorf("the log library has no flag -%s", name)
		}
		return text
	}
	number := func(name string) int {
		n, convErr := strconv.Atoi(get(name))
		if err == nil && convErr != nil {
			err = fmt.Errorf("-%s: %w", name, convErr)
		}
		return n
	}
	f = logFlags{
		toStderr: get("logtostderr") == "true", alsoToStderr: get("alsologtostderr") == "true",
		stderrThreshold: number("stderrthreshold"), bufferLevel: number("logbuflevel"),
		dir: get("log_dir"), links: get("log_link"),
	}
	return f, err
}

// processLog takes the lines of the log to the outputs that the flags name.
// With a nil processLog, as in tests, the library writes the log itself.
type processLog struct {
	flags  logFlags
	pipe   *os.File // the end that the library writes to
	stderr *logQueue
	files  []*logQueue // by severity; none with -logtostderr
	marker []byte      // a line that only drain writes; when it is read, so are all lines before it

	mu    sync.Mutex
	seen  chan struct{} // closed when the marker has been read; nil if nobody waits for it
	entry int           // severity of the entry whose lines are being read; only the reader uses it
}

// newProcessLog makes a log that writes to stderr and to files as flags say. from
// is the end of the pipe that start reads. Later changes of the flags have no
// effect.
func newProcessLog(flags logFlags, stderr io.Writer) (p *processLog, from *os.File, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	p = &processLog{flags: flags, pipe: to, marker: []byte("\x00" + rand.Text() + "\n")}
	p.stderr = newLogQueue(&logStream{to: stderr})
	p.stderr.onError = func(err error) {
		p.toFiles(severityWarning, formatLogLine('W', "log: standard error: %v; lines are kept as far as there is room, or left out and counted", err))
	}
	if !flags.toStderr {
		for _, severity := range logSeverities {
			q := newLogQueue(newLogFile(severity, flags.dir, flags.links, p.warn))
			q.onError = func(err error) {
				p.warn("log: %s file: %v; lines are kept as far as there is room, or left out and counted", severity, err)
			}
			p.files = append(p.files, q)
		}
	}
	return p, from, nil
}

// startLog puts the log in place of the library's own. It must be called
// before anything is logged, and at most once.
func startLog() (*processLog, error) {
	flags, err := readLogFlags()
	if err != nil {
		return nil, err
	}
	p, from, err := newProcessLog(flags, os.Stderr)
	if err != nil {
		return nil, err
	}
	if err := flag.Set("logtostderr", "true"); err != nil {
		return nil, err
	}
	os.Stderr = p.pipe
	glog.CopyStandardLogTo(logSeverities[severityWarning]) // what libraries log through the standard package
	// A write to standard output or error without a reader would end the
	// process by SIGPIPE. If the signal has a receiver, the write fails like
	// any other.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ignoreTerminal()
	p.takeHandover()
	p.start(from)
	return p, nil
}

// start starts the goroutines that read from the pipe and write to the outputs.
func (p *processLog) start(from *os.File) {
	for _, q := range p.queues() {
		go q.run()
	}
	go p.read(from)
}

func (p *processLog) queues() []*logQueue { return append([]*logQueue{p.stderr}, p.files...) }

// queueNames are the outputs' names, in the order of queues.
func (p *processLog) queueNames() []string {
	names := []string{"stderr"}
	for i := range p.files {
		names = append(names, logSeverities[i])
	}
	return names
}

// read empties the pipe. It never waits for anything else.
func (p *processLog) read(from *os.File) {
	buf := make([]byte, 64<<10)
	have := 0
	for {
		n, err := from.Read(buf[have:])
		have += n
		rest := buf[:have]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			p.line(rest[:end+1])
			rest = rest[end+1:]
		}
		if len(rest) == len(buf) { // the library writes no line of that length, but cut it all the same
			p.line(append(rest[:len(rest)-1], '\n'))
			rest = nil
		}
		have = copy(buf, rest)
		if err != nil {
			return // the pipe is closed in tests only
		}
	}
}

// line passes a line to its outputs. A line that does not begin with a severity
// and a time belongs to the entry of the line before it.
func (p *processLog) line(line []byte) {
	if bytes.Equal(line, p.marker) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.seen != nil {
			close(p.seen)
			p.seen = nil
		}
		return
	}
	if severity, ok := lineSeverity(line); ok {
		p.entry = severity
	}
	if f := &p.flags; f.toStderr || f.alsoToStderr || p.entry >= f.stderrThreshold {
		p.stderr.push(line, true)
	}
	p.toFiles(p.entry, line)
}

func (p *processLog) toFiles(severity int, line []byte) {
	for _, q := range p.files[:min(severity+1, len(p.files))] {
		q.push(line, severity > p.flags.bufferLevel)
	}
}

// warn reports a problem with the log files on standard error.
func (p *processLog) warn(format string, args ...any) {
	p.stderr.push(formatLogLine('W', format, args...), true)
}

// lineSeverity reads a line's head: Immdd hh:mm:ss.
func lineSeverity(line []byte) (severity int, ok bool) {
	const head = "Immdd hh:mm:ss."
	if len(line) < len(head) {
		return 0, false
	}
	severity = bytes.IndexByte([]byte("IWEF"), line[0])
	for i := 1; i < len(head); i++ {
		switch c := line[i]; head[i] {
		case ' ', ':', '.':
			ok = c == head[i]
		default:
			ok = c >= '0' && c <= '9'
		}
		if !ok {
			return 0, false
		}
	}
	return severity, severity >= 0
}

// drain waits until everything logged so far is written, but no longer than
// limit.
func (p *processLog) drain(limit time.Duration) {
	if p == nil {
		return
	}
	deadline := make(chan struct{})
	defer time.AfterFunc(limit, func() { close(deadline) }).Stop()
	seen := make(chan struct{})
	p.mu.Lock()
	p.seen = seen
	p.mu.Unlock()
	if _, err := p.pipe.Write(p.marker); err == nil {
		select {
		case <-seen:
		case <-deadline:
		}
	}
	var drained sync.WaitGroup
	for _, q := range p.queues() {
		drained.Go(func() { q.drain(deadline) })
	}
	drained.Wait()
}

// mayReplace reports whether the process can become another program. The kernel
// ends the process's threads first, but it cannot end a thread that waits for a
// disk that hangs, as during a snapshot, and nothing would be relayed until the
// disk responds. A blocked writer of standard error does not matter.
func (p *processLog) mayReplace() error {
	if p == nil {
		return nil
	}
	for i, q := range p.files {
		// Only the write that is under way now has to end, not those that begin
		// later.
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			since := q.writeBegan()
			if since.IsZero() || since.After(began) {
				break
			}
			if time.Since(began) > logHangTime {
				return fmt.Errorf("the disk of the log hangs: a write to the %s file has not ended for %v", logSeverities[i], time.Since(since).Round(time.Millisecond))
			}
		}
	}
	return nil
}

// end writes what the queues still hold. If err is not nil, it is the reason why
// the process ends, and end writes it to standard error.
func (p *processLog) end(err error) {
	switch {
	case p != nil && err != nil:
		p.drain(logDrainTime / 2) // earlier log lines come first
		p.stderr.push(fmt.Appendf(nil, "stratumSwitcher: %v\n", err), true)
	case err != nil:
		fmt.Fprintln(os.Stderr, "stratumSwitcher:", err)
	}
	p.drain(logDrainTime / 2)
}

// lostLines returns how many lines each output has dropped.
func (p *processLog) lostLines() map[string]int64 {
	lost := make(map[string]int64)
	if p != nil {
		for i, q := range p.queues() {
			lost[p.queueNames()[i]] = q.lost.Load()
		}
	}
	return lost
}

// handover waits a short time for the queues to empty and returns the
// environment variable by which the next program learns what is missing.
func (p *processLog) handover() []string {
	if p == nil {
		return nil
	}
	p.drain(logFrozenTime)
	outputs := make(map[string]outputHandover)
	for i, q := range p.queues() {
		if h := q.handover(); h.Lost > 0 {
			outputs[p.queueNames()[i]] = h
		}
	}
	if len(outputs) == 0 {
		return nil
	}
	text, err := json.Marshal(outputs)
	if err != nil {
		glog.Errorf("log: %v", err)
		return nil
	}
	return []string{logHandoverVariable + "=" + string(text)}
}

// takeHandover reads the former program's handover.
func (p *processLog) takeHandover() {
	text, ok := os.LookupEnv(logHandoverVariable)
	if !ok {
		return
	}
	_ = os.Unsetenv(logHandoverVariable) // it fails for bad names only
	var outputs map[string]outputHandover
	if json.Unmarshal([]byte(text), &outputs) != nil {
		return
	}
	for i, q := range p.queues() {
		q.takeHandover(outputs[p.queueNames()[i]])
	}
}
