package regularfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Wait is how long a start, a check or an upgrade waits for one of its files.
const Wait = 3 * time.Second

// ErrTooSlow means that a call did not return in time.
var ErrTooSlow = errors.New("takes too long, does its file system answer?")

// Read reads a regular file of at most limit bytes. The FileInfo describes the file that
// was read, even if the path has another file by then.
func Read(path string, limit int64) ([]byte, os.FileInfo, error) {
	// Opening a device may have side effects, so the path is also checked before it is
	// opened. If it cannot be checked, opening it returns the error.
	if info, err := os.Stat(path); err == nil {
		if err := check(path, info); err != nil {
			return nil, nil, err
		}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if err := check(path, info); err != nil {
		return nil, nil, err
	}
	tooLarge := fmt.Errorf("%s is larger than %d bytes", path, limit)
	if info.Size() > limit {
		return nil, nil, tooLarge
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(content)) > limit {
		return nil, nil, tooLarge
	}
	return content, info, nil
}

// check returns an error unless the file is a regular one.
func check(path string, info os.FileInfo) error {
	kind := "no regular file"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "a directory"
	case mode&os.ModeNamedPipe != 0:
		kind = "a pipe"
	case mode&os.ModeSocket != 0:
		kind = "a socket"
	case mode&os.ModeDevice != 0:
		kind = "a device"
	}
	return fmt.Errorf("%s is %s, must be a regular file", path, kind)
}

// InTime runs read on another goroutine and waits for it, but no longer than wait. Then
// it returns ErrTooSlow, and the result of read is dropped.
func InTime[T any](wait time.Duration, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-limit.C:
		var none T
		return none, ErrTooSlow
	}
}
