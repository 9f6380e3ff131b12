package main

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
	// coinFileSettle lets an editor finish before the file is read.
	coinFileSettle = 100 * time.Millisecond
	// coinFileLook is how often the file is looked at, whatever the system
	// reports: it reports nothing of network file systems and of mounts, and
	// little of links and of folders that are replaced.
	coinFileLook = 2 * time.Second
	// coinFileRecent is how long after a change the file is read at every look.
	// Its time of modification may be too coarse to show a second change.
	coinFileRecent = 10 * time.Second

	// Pauses before the system is asked to watch again after it failed to.
	coinFileFirstRewatch = 10 * time.Second
	coinFileLastRewatch  = 5 * time.Minute
)

// coinFileReport is what a look at the coin file has come to.
type coinFileReport struct {
	content *coinFileContent // nil if err is set
	err     error
}

// coinFileWatch reads the coin file whenever it changes. Nothing but its
// goroutine run touches the file and its folders, because the file system may
// make it hang there. So there is never more than one hanging read, and nobody
// waits for it.
type coinFileWatch struct {
	path       string
	rules      coinFileRules
	read       func(path string, limit int64) ([]byte, os.FileInfo, error)
	newWatcher func() (*fsnotify.Watcher, error)
	// report gets every reading of the file. It must not block.
	report func(coinFileReport)
	stop   chan struct{}
	ended  sync.WaitGroup
	// looking is when the look under way began, in Unix nanoseconds; 0: there
	// is none.
	looking atomic.Int64

	// The fields below belong to run.

	// last is the file as it was read last; nil: it is to be read anew.
	last      os.FileInfo
	changedAt time.Time
	// text is what was read last, and latest what that has come to.
	text   []byte
	latest coinFileReport

	// watcher is nil while the system can not watch for us.
	watcher *fsnotify.Watcher
	// folders are those watched, by their path without links.
	folders   map[string]os.FileInfo
	rewatch   time.Time // when to try again, without a watcher
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

func newCoinFileWatch(path string, rules coinFileRules, report func(coinFileReport)) *coinFileWatch {
	return &coinFileWatch{path: path, rules: rules, read: regularfile.Read, newWatcher: fsnotify.NewWatcher, report: report, stop: make(chan struct{})}
}

// alreadyRead tells a watch that has not been started of the first content.
func (w *coinFileWatch) alreadyRead(content *coinFileContent) {
	w.last, w.text, w.latest = content.info, content.text, coinFileReport{content: content}
	w.changedAt = time.Now() // for all that is known
}

func (w *coinFileWatch) start() { w.ended.Go(w.run) }

// close ends the watch. A read that hangs is not waited for.
func (w *coinFileWatch) close() {
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

// hangs says that a look has not come to an end for a while.
func (w *coinFileWatch) hangs() bool {
	began := w.looking.Load()
	return began != 0 && time.Since(time.Unix(0, began)) > regularfile.Wait
}

func (w *coinFileWatch) run() {
	looks := time.NewTicker(coinFileLook)
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
				settled = time.After(coinFileSettle)
			}
		case err := <-failures:
			w.watchFailed(err)
			if settled == nil {
				settled = time.After(coinFileSettle)
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

// look reads the file if it may have changed, or anyway.
func (w *coinFileWatch) look(anyway bool) {
	w.looking.Store(time.Now().UnixNano())
	defer w.looking.Store(0)
	w.follow()
	info, err := os.Stat(w.path)
	if err != nil {
		info = nil // reading tells why
	}
	if info == nil || w.last == nil || !sameFile(info, w.last) {
		w.changedAt = time.Now()
	} else if !anyway && time.Since(w.changedAt) > coinFileRecent {
		return
	}
	text, info, err := w.read(w.path, coinFileLimit)
	w.last = info // nil with an error: the next look tries again
	switch {
	case err != nil:
		w.text, w.latest = nil, coinFileReport{err: fmt.Errorf("coin file: %w", err)}
	case w.text == nil || !bytes.Equal(text, w.text):
		w.text = text
		w.latest.content, w.latest.err = checkCoinFile(w.path, text, info, w.rules)
	}
	w.report(w.latest)
}

// sameFile says that a file seems to be the one of before, unchanged.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// follow has the folders watched that matter now: the one the file is in, and
// if the file is a link, the one it leads to. Either may have been replaced by
// another folder or have become a link to one.
func (w *coinFileWatch) follow() {
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
			glog.Warningf("coin file %s: watching %s: %v; the file is looked at every %v", w.path, dir, err, coinFileLook)
		}
	}
}

// startWatcher reports whether there is a watcher now.
func (w *coinFileWatch) startWatcher() bool {
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

// watchFailed is for an error of the watcher, or of making one. Events that
// were too many cost nothing but a look; after anything else the watcher may
// fail for ever and is done away with for a while.
func (w *coinFileWatch) watchFailed(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		return
	}
	w.unwatch()
	w.pause = min(max(2*w.pause, coinFileFirstRewatch), coinFileLastRewatch)
	w.rewatch = time.Now().Add(w.pause)
	if err == nil {
		err = fmt.Errorf("the watcher has ended")
	}
	if w.complaint.over() {
		glog.Warningf("coin file %s: watching: %v; the file is looked at every %v", w.path, err, coinFileLook)
	}
}

func (w *coinFileWatch) unwatch() {
	if w.watcher != nil {
		w.watcher.Close()
		w.watcher, w.folders = nil, nil
	}
}
