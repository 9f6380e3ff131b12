// Package eventfile writes events to a file for other programs, as one JSON object per
// line.
//
// Problems with the file never affect the switcher: Add neither waits nor fails. Events
// are lost and counted if the disk is full, if it hangs, or if there are too many
// events. The next line that can be written contains the number of lost events.
package eventfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxQueue bounds the bytes that wait to be written. Twice as many can be in
	// memory, because the writer may be writing another maxQueue bytes.
	maxQueue = 2 << 20

	// keptQueue is how much memory an empty queue keeps.
	keptQueue = 64 << 10

	// Each kind may have perSecond events on average and burst events at once. A farm
	// may connect that many miners at once.
	perSecond = 200
	burst     = 10_000

	// checkEvery is how often the writer checks that the path still names the open
	// file.
	checkEvery = time.Second

	// reportEvery is the least time between two calls of onError.
	reportEvery = time.Minute
)

// File is an event file. Any goroutine may use it. Only the goroutine run touches the
// file, and the disk may block it for any length of time. All methods are no-ops on
// nil, which stands for no event file.
type File struct {
	path    string
	onError func(err error)
	now     func() time.Time
	fs      fileSystem

	written atomic.Uint64
	lost    atomic.Uint64
	wake    chan struct{}

	mu      sync.Mutex
	pending []byte
	lines   int    // how many lines pending has
	missing uint64 // lost events that no line of the file has reported yet
	rates   map[Kind]*allowance
	taken   int           // lines that the writer has taken
	idle    chan struct{} // closed when all lines are written; nil if nothing waits for that
	closed  bool

	// The fields below belong to run.

	file     file
	checked  time.Time // when the path was last checked
	reported time.Time // when onError was last called
	spare    []byte    // memory for the next batch
}

// file is the open file, and fileSystem opens it. Tests replace both, for example by a
// disk that is full.
type file interface {
	io.WriteCloser
	Stat() (os.FileInfo, error)
	Truncate(size int64) error
}

type fileSystem interface {
	open(path string) (file, error)
	stat(path string) (os.FileInfo, error)
}

// Open returns an event file for path. The file is created by the first event. onError,
// which may be nil, is called at most once a minute on another goroutine with the reason
// why events are lost.
func Open(path string, onError func(err error)) *File {
	return open(path, onError, disk{}, time.Now)
}

func open(path string, onError func(err error), fs fileSystem, now func() time.Time) *File {
	f := &File{path: path, onError: onError, now: now, fs: fs, wake: make(chan struct{}, 1), rates: make(map[Kind]*allowance)}
	go f.run()
	return f
}

// Add queues an event. It sets the event's time to now if that is missing.
func (f *File) Add(e Event) {
	if f == nil {
		return
	}
	now := f.now()
	f.mu.Lock()
	allowed := f.allow(e.Kind, now)
	f.mu.Unlock()
	if !allowed {
		return
	}
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC()
	e.clip()
	line, err := json.Marshal(&e)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || f.closed || len(f.pending)+len(line) >= maxQueue { // err is set if a number is NaN
		f.lose(1)
		return
	}
	f.pending = append(append(f.pending, line...), '\n')
	f.lines++
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// lose counts lost events. f.mu is held.
func (f *File) lose(n int) {
	f.missing += uint64(n)
	f.lost.Add(uint64(n))
}

// allowance is how many more events of a kind are allowed at the moment.
type allowance struct {
	left  float64
	since time.Time
}

// allow takes one event from its kind's allowance. f.mu is held.
func (f *File) allow(kind Kind, now time.Time) bool {
	a := f.rates[kind]
	if a == nil {
		a = &allowance{burst, now}
		f.rates[kind] = a // the map stays small, because kinds are constants of the program
	}
	if elapsed := now.Sub(a.since); elapsed > 0 {
		a.left = min(burst, a.left+elapsed.Seconds()*perSecond)
	}
	a.since = now
	if a.left < 1 {
		f.lose(1)
		return false
	}
	a.left--
	return true
}

// Written returns how many events were written.
func (f *File) Written() uint64 {
	if f == nil {
		return 0
	}
	return f.written.Load()
}

// Lost returns how many events were lost.
func (f *File) Lost() uint64 {
	if f == nil {
		return 0
	}
	return f.lost.Load()
}

// Drain waits until all events are written or lost, but no longer than limit.
func (f *File) Drain(limit time.Duration) {
	if f == nil {
		return
	}
	f.mu.Lock()
	if f.lines == 0 && f.taken == 0 {
		f.mu.Unlock()
		return
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(limit):
	}
}

// State is the state of an event file in runtime.json. It counts the events that are not
// written yet as lost.
type State struct {
	Written, Lost uint64
	Missing       uint64 `json:",omitempty"` // lost events that no line of the file has reported yet
}

// State describes the file for the next process. It is nil without a file.
func (f *File) State() *State {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := uint64(f.lines + f.taken)
	return &State{Written: f.written.Load(), Lost: f.lost.Load() + waiting, Missing: f.missing + waiting}
}

// Resume continues the counts of the former process. It is a no-op without a state.
func (f *File) Resume(st *State) {
	if f == nil || st == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written.Add(st.Written)
	f.lost.Add(st.Lost)
	f.missing += st.Missing
}

// Close waits like Drain and then closes the file. Events that are added later are lost.
func (f *File) Close(limit time.Duration) {
	if f == nil {
		return
	}
	f.Drain(limit)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.wake)
	}
}

// run writes the queued events until Close.
func (f *File) run() {
	for range f.wake {
		for {
			batch, lines := f.take()
			if lines == 0 {
				break
			}
			f.write(batch)
			if cap(batch) <= keptQueue {
				f.spare = batch
			}
		}
	}
	if f.file != nil {
		f.file.Close()
	}
}

// take returns all pending lines to the writer.
func (f *File) take() (batch []byte, lines int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch, lines = f.pending, f.lines
	f.pending, f.lines, f.spare = f.spare[:0], 0, nil
	f.taken = lines
	if lines == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
	return batch, lines
}

// write writes lines or counts them as lost. If events were lost earlier, a line that
// says so comes first.
func (f *File) write(lines []byte) {
	f.mu.Lock()
	missing := f.missing
	f.mu.Unlock()
	if missing > 0 {
		if err := f.writeMissing(missing); err != nil {
			f.failed(lines, err)
			return
		}
		f.mu.Lock()
		f.missing -= missing // more may have been lost in the meantime
		f.mu.Unlock()
	}
	n, err := f.tryWrite(lines)
	f.written.Add(uint64(bytes.Count(lines[:n], []byte{'\n'})))
	if err != nil {
		f.failed(lines[n:], err)
	}
}

// writeMissing writes the line that says how many events are missing.
func (f *File) writeMissing(missing uint64) error {
	line, err := json.Marshal(&Event{Time: f.now().UTC(), Kind: KindLost, Count: missing})
	if err == nil {
		_, err = f.tryWrite(append(line, '\n'))
	}
	return err
}

// failed counts lines that could not be written.
func (f *File) failed(lines []byte, err error) {
	f.mu.Lock()
	f.lose(bytes.Count(lines, []byte{'\n'}))
	f.mu.Unlock()
	if now := f.now(); f.onError != nil && (f.reported.IsZero() || now.Sub(f.reported) >= reportEvery) {
		f.reported = now
		f.onError(fmt.Errorf("event file: %w", err))
	}
}

// tryWrite writes lines once. It returns how many bytes of complete lines were written.
func (f *File) tryWrite(lines []byte) (int, error) {
	if err := f.ready(); err != nil {
		return 0, err
	}
	n, err := f.file.Write(lines)
	if err == nil {
		return n, nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	if whole < n {
		f.cut(int64(n - whole))
	}
	f.file.Close() // it is opened again for the next event
	f.file = nil
	return whole, err
}

// cut removes the last part bytes of the file, which are the beginning of a line that
// could not be written completely. If cut fails, the line is ended when the file is
// opened again.
func (f *File) cut(part int64) {
	if info, err := f.file.Stat(); err == nil {
		_ = f.file.Truncate(info.Size() - part)
	}
}

// ready opens the file unless it is open. Every checkEvery it also checks that the file
// was not moved or removed.
func (f *File) ready() error {
	now := f.now()
	if f.file != nil && now.Sub(f.checked).Abs() >= checkEvery {
		f.checked = now
		if !f.inPlace() {
			f.file.Close()
			f.file = nil
		}
	}
	if f.file != nil {
		return nil
	}
	opened, err := f.fs.open(f.path)
	if err != nil {
		return err
	}
	f.file, f.checked = opened, now
	return nil
}

// inPlace reports whether the path still names the open file, as far as it can be
// checked.
func (f *File) inPlace() bool {
	atPath, err := f.fs.stat(f.path)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	open, err := f.file.Stat()
	return err == nil && os.SameFile(atPath, open)
}
