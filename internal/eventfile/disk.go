package eventfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// mode prevents other users from reading the file, because it contains names and
// addresses of miners.
const mode = 0o640

var errNotRegular = errors.New("not a regular file")

// disk is the real file system.
type disk struct{}

func (disk) stat(path string) (os.FileInfo, error) { return os.Stat(path) }

// open opens a file for appending. It completes a line that a killed process has left
// unfinished.
func (disk) open(path string) (file, error) {
	f, err := openToAppend(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := endLine(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openToAppend opens a regular file for appending. It fails on other kinds of files
// without blocking.
func openToAppend(path string, how int) (*os.File, error) {
	if found, err := os.Stat(path); err == nil && !found.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	f, err := os.OpenFile(path, how|os.O_APPEND|syscall.O_NONBLOCK, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errNotRegular) // the file was replaced after os.Stat
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// endLine appends "\n" if the file's last line has none.
func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

// Check returns an error if the path of an event file is wrong: its folder does not
// exist, it is not a regular file, or permissions are missing. Problems that may be
// temporary, such as a full disk, are not reported. Check leaves no file behind. It
// may hang if the file system does.
func Check(path string) error {
	f, err := openToAppend(path, os.O_WRONLY)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		folder := filepath.Dir(created(path))
		f, err = os.CreateTemp(folder, ".stratumSwitcher-check-*")
		if err == nil {
			f.Close()
			return os.Remove(f.Name())
		}
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("folder %s: %w", folder, e.Err)
		}
	}
	switch {
	case errors.Is(err, errNotRegular), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return err
	}
	return nil
}

// maxLinks is how many symbolic links created follows. Linux follows 40.
const maxLinks = 40

// created returns the path at which the file will be created. That is another one if the path
// is a symbolic link to a file that does not exist.
func created(path string) string {
	for range maxLinks {
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return path
}
