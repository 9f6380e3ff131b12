package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang/glog"
)

// The log library names a file by program, host, user, severity, second and
// pid, and ends the process if there is such a file already. After an upgrade
// the pid is the same, so the second upgrade within a second would be fatal;
// in a container, where the pid is always 1, a quick restart as well.

const logStamp = "20060102-150405" // of a file's name, local time

// freeLogNames moves log files of former programs with this pid out of the way.
// It must be called before anything is logged.
func freeLogNames() {
	dir := os.TempDir()
	if f := flag.Lookup("log_dir"); f != nil && f.Value.String() != "" {
		dir = f.Value.String()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknownhost" // as the library says then
	}
	host, _, _ = strings.Cut(host, ".")
	prefix := filepath.Base(os.Args[0]) + "." + host + "."
	if err := moveLogFiles(dir, prefix, os.Getpid(), time.Now()); err != nil {
		glog.Warningf("log files: %v", err)
	}
}

// moveLogFiles renames the files PREFIX*.log.SEVERITY.STAMP.PID whose time is
// now or later: PREFIX*.log.SEVERITY.STAMP.N.PID.
func moveLogFiles(dir, prefix string, pid int, now time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // the library says so better
	}
	since := now.Format(logStamp)
	suffix := fmt.Sprintf(".%d", pid)
	for _, e := range entries {
		rest, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !strings.HasPrefix(rest, prefix) || !strings.Contains(rest, ".log.") || !e.Type().IsRegular() {
			continue
		}
		if stamp := rest[strings.LastIndexByte(rest, '.')+1:]; len(stamp) != len(logStamp) || stamp < since {
			continue
		}
		if renameErr := renameAside(dir, e.Name(), rest, suffix); renameErr != nil {
			err = renameErr
		}
	}
	return err
}

func renameAside(dir, name, rest, suffix string) error {
	const most = 1000 // starts in one second
	for n := 1; n <= most; n++ {
		path := filepath.Join(dir, fmt.Sprintf("%s.%d%s", rest, n, suffix))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(filepath.Join(dir, name), path)
		}
	}
	return fmt.Errorf("%s: there are %d like it", filepath.Join(dir, name), most)
}
