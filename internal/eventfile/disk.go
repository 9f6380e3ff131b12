package eventfile

import (
	"errors"
	"fmt"
	"os"
)

// mode lets no stranger read the file: it has names and addresses of miners.
const mode = 0o640

var errNotRegular = errors.New("not a regular file")

// disk is the real place of files.
type disk struct{}

func (disk) stat(path string) (os.FileInfo, error) { return os.Stat(path) }

// open opens a file to add lines to. What a process that was killed has left of a
// line is ended.
func (disk) open(path string) (file, error) {
	if there, err := os.Stat(path); err == nil && !there.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, errNotRegular) // a pipe would block
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return nil, err
	}
	if err := endLine(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", f.Name(), errNotRegular)
	}
	if info.Size() == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}
