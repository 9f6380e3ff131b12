package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/golang/glog"
)

// Log files have the names, links, first and last lines of those of the log
// library. Unlike there, a file that cannot be written does not end the process.

const (
	logStamp = "20060102-150405" // the time in a file's name, in local time

	// logFileLook is how often the log checks that its file was not moved or removed.
	logFileLook = time.Second

	// logDirRetry is how often a directory that could not be used is tried again.
	logDirRetry = time.Minute
)

// logFile is the logOutput for the lines of one severity and above. It belongs
// to its queue's goroutine.
type logFile struct {
	severity string // spelled as in the file's name
	dir      string // -log_dir; if empty, the directory for temporary files is used
	links    string // -log_link; may be empty
	program  string // program, host and user are parts of the files' names
	host     string
	user     string
	warn     func(format string, args ...any)
	now      func() time.Time

	file     *os.File // nil if none is open
	path     string
	previous string // the file before this one
	header   []byte // what is still to be written of the file's first lines
	lines    lineWriter
	size     uint64 // bytes written to file
	created  time.Time
	checked  time.Time // when the file was last found in place
	inTemp   bool      // the file is not in dir but in the directory for temporary files
	retryDir time.Time // when dir is tried again
}

func newLogFile(severity, dir, links string, warn func(format string, args ...any)) *logFile {
	f := &logFile{
		severity: severity, dir: dir, links: links, warn: warn, now: time.Now, previous: "<none>",
		program: filepath.Base(os.Args[0]), host: "unknownhost", user: "unknownuser",
	}
	if host, err := os.Hostname(); err == nil {
		f.host, _, _ = strings.Cut(host, ".")
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		f.user = strings.Map(nameRune, u.Username)
	}
	return f
}

// nameRune replaces runes that a file's name cannot contain.
func nameRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return r
	}
	return '_'
}

func (f *logFile) write(lines []byte) (int, error) {
	if err := f.ready(len(lines)); err != nil {
		return 0, err
	}
	if len(f.header) > 0 {
		n, err := f.file.Write(f.header)
		f.header = f.header[n:]
		f.size += uint64(n)
		if err != nil {
			return 0, f.broken(err)
		}
	}
	n, err := f.lines.write(f.file, lines)
	f.size += uint64(n)
	return n, f.broken(err)
}

// broken closes the file after any error other than a full disk, so that the
// next write creates another one. It returns err.
func (f *logFile) broken(err error) error {
	if err != nil && !isDiskFull(err) {
		f.close()
	}
	return err
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// ready makes sure that a file is open, has not been moved or removed, and has
// room for n more bytes.
func (f *logFile) ready(n int) error {
	now := f.now()
	if f.file != nil && now.Sub(f.checked).Abs() >= logFileLook {
		f.checked = now
		if !f.inPlace() {
			f.close()
		}
	}
	switch {
	case f.file == nil:
		file, path, inTemp, err := f.find(now)
		if err != nil {
			return fmt.Errorf("no log file can be made: %w", err)
		}
		f.use(file, path, inTemp, now)
	case f.inTemp && !now.Before(f.retryDir):
		if file, path, err := f.create(f.dir, now); err == nil {
			f.use(file, path, false, now)
		} else {
			f.dirFailed(err, now)
		}
	case f.size+uint64(n) >= glog.MaxSize && now.Format(logStamp) != f.created.Format(logStamp):
		if file, path, inTemp, err := f.find(now); err == nil {
			f.use(file, path, inTemp, now)
		}
	}
	return nil
}

// inPlace reports whether the file is still where it was created. Somebody may
// have moved or removed it or its directory.
func (f *logFile) inPlace() bool {
	there, err := os.Lstat(f.path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // after other errors, assume that it is in place
	}
	opened, err := f.file.Stat()
	return err == nil && os.SameFile(there, opened)
}

// find creates a file in the configured directory or, if that cannot be used,
// in the one for temporary files. If the disk is full, find returns that error
// instead, so that the log does not fill another disk.
func (f *logFile) find(now time.Time) (file *os.File, path string, inTemp bool, err error) {
	if f.dir == "" {
		file, path, err = f.create(os.TempDir(), now)
		return file, path, false, err
	}
	file, path, err = f.create(f.dir, now)
	if err == nil || isDiskFull(err) {
		return file, path, false, err
	}
	f.dirFailed(err, now)
	file, path, err = f.create(os.TempDir(), now)
	return file, path, true, err
}

// dirFailed warns that the configured directory could not be used, and sets when
// it is tried again.
func (f *logFile) dirFailed(err error, now time.Time) {
	if !now.Before(f.retryDir) {
		f.warn("log: %v; log files are in %s until this works, next try in %v", err, os.TempDir(), logDirRetry)
		f.retryDir = now.Add(logDirRetry)
	}
}

// use continues the log in a new file.
func (f *logFile) use(file *os.File, path string, inTemp bool, now time.Time) {
	if f.file != nil {
		_, _ = fmt.Fprintf(f.file, "Next log: %s\n\nCONTINUED IN NEXT FILE\n", path) // the disk may be full
		f.file.Close()
	}
	if f.path != "" {
		f.previous = f.path
	}
	f.file, f.path, f.inTemp = file, path, inTemp
	f.size, f.created, f.checked, f.lines = 0, now, now, lineWriter{}
	f.header = fmt.Appendf(nil, "Log file created at: %s\nRunning on machine: %s\nBinary: Built with %s %s for %s/%s\nPrevious log: %s\n"+
		"Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n", now.Format("2006/01/02 15:04:05"),
		f.host, runtime.Compiler, runtime.Version(), runtime.GOOS, runtime.GOARCH, f.previous)
}

// create creates a file and the links to it. It never writes to an existing
// file, which could be a link to something else if others may write to the
// directory.
func (f *logFile) create(dir string, now time.Time) (*os.File, string, error) {
	rest := fmt.Sprintf("%s.%s.%s.log.%s.%s", f.program, f.host, f.user, f.severity, now.Format(logStamp))
	suffix := fmt.Sprintf(".%d", os.Getpid())
	path := filepath.Join(dir, rest+suffix)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL | os.O_APPEND
	file, err := os.OpenFile(path, flags, 0o666)
	if errors.Is(err, fs.ErrExist) {
		// After an upgrade the process has the same pid, and so has each start in a
		// container.
		if err = renameAside(dir, rest, suffix); err == nil {
			file, err = os.OpenFile(path, flags, 0o666)
		}
	}
	if err != nil {
		return nil, "", err
	}
	link := f.program + "." + f.severity
	relink(filepath.Join(dir, link), filepath.Base(path))
	if f.links != "" {
		relink(filepath.Join(f.links, link), path)
	}
	return file, path, nil
}

// relink replaces a symbolic link. Links are only a convenience, and some systems
// have none, so errors are ignored.
func relink(link, target string) {
	_ = os.Remove(link)
	_ = os.Symlink(target, link)
}

// renameAside renames REST.PID, the file of a former program with the same pid,
// to REST.N.PID.
func renameAside(dir, rest, suffix string) error {
	const most = 1000 // starts in one second
	for n := 1; n <= most; n++ {
		path := filepath.Join(dir, fmt.Sprintf("%s.%d%s", rest, n, suffix))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(filepath.Join(dir, rest+suffix), path)
		}
	}
	return fmt.Errorf("%s: there are %d like it", filepath.Join(dir, rest+suffix), most)
}

func (f *logFile) close() {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}
