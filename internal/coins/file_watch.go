package coins

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

const (
	// fileSettle is the pause between an event and reading the file, in which an
	// editor can finish its work.
	fileSettle = 100 * time.Millisecond
	// fileLookEvery is how often the file is checked even without an event. The
	// system reports no changes on network file systems or by mounts, and misses some
	// of links and of folders that are replaced.
	fileLookEvery = 2 * time.Second
	// fileRecent is how long after a change the file is read at every check, because
	// its modification time may be too coarse to show a second change.
	fileRecent = 10 * time.Second

	// These are the pauses before a watcher that has failed is created again.
	firstRewatch = 10 * time.Second
	lastRewatch  = 5 * time.Minute
)

// fileReport is the result of a check of the coin file.
type fileReport struct {
	content *fileContent // nil if err is set
	err     error
}

// fileWatch reads the coin file whenever it changes. Only its goroutine run accesses
// the file and its folders, because the file system may make it hang. So at most one
// read hangs, and nothing waits for it.
type fileWatch struct {
	path       string
	rules      FileRules
	read       func(path string, limit int64) ([]byte, os.FileInfo, error)
	newWatcher func() (*fsnotify.Watcher, error)
	// looks is when to check the file even without an event. Nil means every
	// fileLookEvery.
	looks <-chan time.Time
	// report receives the result of every reading. It must not block.
	report func(fileReport)
	stop   chan struct{}
	ended  sync.WaitGroup
	// looking is when the current check began, in Unix nanoseconds, or 0 if none is
	// running.
	looking atomic.Int64

	// The fields below belong to run.

	// last describes the file as it was last read. Nil means that it must be read
	// again.
	last      os.FileInfo
	changedAt time.Time
	// text is the text that was last read, and latest is the report about it.
	text   []byte
	latest fileReport

	// watcher is nil after it has failed, until it is created again.
	watcher *fsnotify.Watcher
	// folders holds the watched folders by their path with all links resolved.
	folders   map[string]os.FileInfo
	rewatch   time.Time // when to create the watcher again if there is none
	pause     time.Duration
	complaint logPause
}

// logPause allows one log line a minute.
type logPause struct{ last time.Time }

// allow reports whether a line may be logged now.
func (p *logPause) allow() bool {
	if !p.last.IsZero() && time.Since(p.last) < time.Minute {
		return false
	}
	p.last = time.Now()
	return true
}

func newFileWatch(path string, rules FileRules, report func(fileReport)) *fileWatch {
	return &fileWatch{path: path, rules: rules, read: regularfile.Read, newWatcher: fsnotify.NewWatcher, report: report, stop: make(chan struct{})}
}

// setContent gives the content that was already read to a watch that is not started
// yet.
func (w *fileWatch) setContent(content *fileContent) {
	w.last, w.text, w.latest = content.info, content.text, fileReport{content: content}
	w.changedAt = time.Now() // the file may have changed just before it was read
}

func (w *fileWatch) start() { w.ended.Go(w.run) }

// close ends the watch. It does not wait for a read that hangs.
func (w *fileWatch) close() {
	const wait = 500 * time.Millisecond
	close(w.stop)
	ended := make(chan struct{})
	go func() {
		w.ended.Wait()
		close(ended)
	}()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
	}
}

// hangs reports whether the current check takes longer than regularfile.Wait.
func (w *fileWatch) hangs() bool {
	began := w.looking.Load()
	return began != 0 && time.Since(time.Unix(0, began)) > regularfile.Wait
}

func (w *fileWatch) run() {
	if w.looks == nil {
		ticker := time.NewTicker(fileLookEvery)
		defer ticker.Stop()
		w.looks = ticker.C
	}
	defer w.unwatch()
	w.look(false)
	var settled <-chan time.Time
	touched := false // an event was about the file itself
	for {
		var events chan fsnotify.Event
		var failures chan error
		if w.watcher != nil {
			events, failures = w.watcher.Events, w.watcher.Errors
		}
		select {
		case <-w.stop:
			return
		case event := <-events:
			touched = touched || filepath.Base(event.Name) == filepath.Base(w.path)
			if settled == nil {
				settled = time.After(fileSettle)
			}
		case err := <-failures:
			w.watchFailed(err)
			if settled == nil {
				settled = time.After(fileSettle)
			}
		case <-settled:
			settled = nil
			w.look(touched)
			touched = false
		case <-w.looks:
			w.look(false)
		}
	}
}

// look reads the file if it may have changed, or in any case if always is set.
func (w *fileWatch) look(always bool) {
	w.looking.Store(time.Now().UnixNano())
	defer w.looking.Store(0)
	w.follow()
	info, err := os.Stat(w.path)
	if err != nil {
		info = nil // reading the file gives the error
	}
	if info == nil || w.last == nil || !sameFile(info, w.last) {
		w.changedAt = time.Now()
	} else if !always && time.Since(w.changedAt) > fileRecent {
		return
	}
	text, info, err := w.read(w.path, MaxFileSize)
	w.last = info // it is nil after an error, so that the next check reads the file again
	switch {
	case err != nil:
		w.text, w.latest = nil, fileReport{err: fmt.Errorf("coin file: %w", err)}
	case w.text == nil || !bytes.Equal(text, w.text):
		w.text = text
		w.latest.content, w.latest.err = checkFile(w.path, text, info, w.rules)
	}
	w.report(w.latest)
}

// sameFile reports whether a and b seem to describe the same unchanged file.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// follow updates the list of watched folders: the folder that contains the file and, if
// the file is a link, the folder that contains its target. Either may have been replaced
// by another folder or by a link to one.
func (w *fileWatch) follow() {
	if w.watcher == nil && !w.startWatcher() {
		return
	}
	var want []string
	if dir, err := filepath.EvalSymlinks(filepath.Dir(w.path)); err == nil {
		want = append(want, dir)
	}
	if target, err := filepath.EvalSymlinks(w.path); err == nil {
		want = append(want, filepath.Dir(target))
	}
	watched := w.watcher.WatchList()
	for dir, was := range w.folders {
		info, err := os.Stat(dir)
		if slices.Contains(want, dir) && slices.Contains(watched, dir) && err == nil && os.SameFile(info, was) {
			continue
		}
		// An error means that the folder was deleted, which has also ended the watch.
		_ = w.watcher.Remove(dir)
		delete(w.folders, dir)
	}
	for _, dir := range want {
		if w.folders[dir] != nil {
			continue
		}
		info, err := os.Stat(dir)
		if err == nil {
			err = w.watcher.Add(dir)
		}
		switch {
		case err == nil:
			w.folders[dir] = info
		case w.complaint.allow():
			glog.Warningf("coin file %s: watching %s: %v; the file is checked every %v", w.path, dir, err, fileLookEvery)
		}
	}
}

// startWatcher creates the watcher unless it is too early to try again. It reports
// whether there is one now.
func (w *fileWatch) startWatcher() bool {
	if time.Now().Before(w.rewatch) {
		return false
	}
	watcher, err := w.newWatcher()
	if err != nil {
		w.watchFailed(err)
		return false
	}
	w.watcher, w.folders = watcher, make(map[string]os.FileInfo)
	return true
}

// watchFailed handles an error of the watcher or of its creation. If there were too
// many events, the caller checks the file and nothing else is necessary. After any other
// error the watcher may keep failing, so it is closed for a while.
func (w *fileWatch) watchFailed(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		return
	}
	w.unwatch()
	w.pause = min(max(2*w.pause, firstRewatch), lastRewatch)
	w.rewatch = time.Now().Add(w.pause)
	if err == nil {
		err = fmt.Errorf("the watcher has ended")
	}
	if w.complaint.allow() {
		glog.Warningf("coin file %s: watching: %v; the file is checked every %v", w.path, err, fileLookEvery)
	}
}

func (w *fileWatch) unwatch() {
	if w.watcher != nil {
		w.watcher.Close()
		w.watcher, w.folders = nil, nil
	}
}
