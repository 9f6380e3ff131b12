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
	// fileSettle lets an editor finish before the file is read.
	fileSettle = 100 * time.Millisecond
	// fileLookEvery is how often the file is looked at, whatever the system reports:
	// it reports no changes on network file systems or by mounts, and few of links
	// and of folders that are replaced.
	fileLookEvery = 2 * time.Second
	// fileRecent is how long after a change the file is read at every look, because
	// its modification time may be too coarse to show a second change.
	fileRecent = 10 * time.Second

	// Pauses before the system is asked to watch again after it has failed.
	firstRewatch = 10 * time.Second
	lastRewatch  = 5 * time.Minute
)

// fileReport is the result of a look at the coin file.
type fileReport struct {
	content *fileContent // nil if err is set
	err     error
}

// fileWatch reads the coin file whenever it changes. Only its goroutine run touches
// the file and its folders, because the file system may make it hang. So there is
// never more than one hanging read, and nobody waits for it.
type fileWatch struct {
	path       string
	rules      FileRules
	read       func(path string, limit int64) ([]byte, os.FileInfo, error)
	newWatcher func() (*fsnotify.Watcher, error)
	// report receives the result of every reading. It must not block.
	report func(fileReport)
	stop   chan struct{}
	ended  sync.WaitGroup
	// looking is when the current look began, in Unix nanoseconds, or 0 between looks.
	looking atomic.Int64

	// The fields below belong to run.

	// last describes the file as it was last read. Nil means that it must be read
	// again.
	last      os.FileInfo
	changedAt time.Time
	// text is what was last read, and latest the result of it.
	text   []byte
	latest fileReport

	// watcher is nil while the system cannot watch for us.
	watcher *fsnotify.Watcher
	// folders holds the watched folders by their path without links.
	folders   map[string]os.FileInfo
	rewatch   time.Time // when to try again if there is no watcher
	pause     time.Duration
	complaint logPause
}

// logPause lets a line through once a minute.
type logPause struct{ last time.Time }

func (p *logPause) over() bool {
	if !p.last.IsZero() && time.Since(p.last) < time.Minute {
		return false
	}
	p.last = time.Now()
	return true
}

func newFileWatch(path string, rules FileRules, report func(fileReport)) *fileWatch {
	return &fileWatch{path: path, rules: rules, read: regularfile.Read, newWatcher: fsnotify.NewWatcher, report: report, stop: make(chan struct{})}
}

// alreadyRead gives the first content to a watch that has not been started.
func (w *fileWatch) alreadyRead(content *fileContent) {
	w.last, w.text, w.latest = content.info, content.text, fileReport{content: content}
	w.changedAt = time.Now() // perhaps
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

// hangs reports whether the current look has been going on for too long.
func (w *fileWatch) hangs() bool {
	began := w.looking.Load()
	return began != 0 && time.Since(time.Unix(0, began)) > regularfile.Wait
}

func (w *fileWatch) run() {
	looks := time.NewTicker(fileLookEvery)
	defer looks.Stop()
	defer w.unwatch()
	w.look(false)
	var settled <-chan time.Time
	touched := false // the system reported the file itself
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
		case <-looks.C:
			w.look(false)
		}
	}
}

// look reads the file if it may have changed. With anyway it reads it always.
func (w *fileWatch) look(anyway bool) {
	w.looking.Store(time.Now().UnixNano())
	defer w.looking.Store(0)
	w.follow()
	info, err := os.Stat(w.path)
	if err != nil {
		info = nil // the reading below says why
	}
	if info == nil || w.last == nil || !sameFile(info, w.last) {
		w.changedAt = time.Now()
	} else if !anyway && time.Since(w.changedAt) > fileRecent {
		return
	}
	text, info, err := w.read(w.path, MaxFileSize)
	w.last = info // nil with an error: the next look tries again
	switch {
	case err != nil:
		w.text, w.latest = nil, fileReport{err: fmt.Errorf("coin file: %w", err)}
	case w.text == nil || !bytes.Equal(text, w.text):
		w.text = text
		w.latest.content, w.latest.err = checkFile(w.path, text, info, w.rules)
	}
	w.report(w.latest)
}

// sameFile reports whether a file seems to be the same as before, and unchanged.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// follow watches the folders that matter now: the one that the file is in and, if the
// file is a link, the one that it leads to. Either may have been replaced by another
// folder or by a link to one.
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
		// The folder may be gone, and the watch with it.
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
		case w.complaint.over():
			glog.Warningf("coin file %s: watching %s: %v; the file is looked at every %v", w.path, dir, err, fileLookEvery)
		}
	}
}

// startWatcher reports whether there is a watcher now.
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

// watchFailed handles an error of the watcher or of its creation. Too many events
// only cost a look. After any other error the watcher may keep failing, so it is
// closed for a while.
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
	if w.complaint.over() {
		glog.Warningf("coin file %s: watching: %v; the file is looked at every %v", w.path, err, fileLookEvery)
	}
}

func (w *fileWatch) unwatch() {
	if w.watcher != nil {
		w.watcher.Close()
		w.watcher, w.folders = nil, nil
	}
}
