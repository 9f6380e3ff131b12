package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// fileWait is how long a start, a check or an upgrade waits for one of its
// files. A network file system may answer never.
const fileWait = 3 * time.Second

// errFileTooSlow: what was asked for was not there in time.
var errFileTooSlow = errors.New("takes too long, does its file system answer?")

// readRegularFile reads a file of at most limit bytes. It takes regular files
// only: a pipe or a device may have no end, or make the reader wait for ever.
// It may still hang in the kernel, as on a network file system whose server is
// away; readInTime is for callers that can not afford that.
//
// The FileInfo is that of the file that was read, whatever path is by then.
func readRegularFile(path string, limit int64) ([]byte, os.FileInfo, error) {
	// Opening a device may have an effect, so it is looked at before as well.
	// What can not be looked at can not be opened, which tells why.
	if info, err := os.Stat(path); err == nil {
		if err := checkRegular(path, info); err != nil {
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
	if err := checkRegular(path, info); err != nil {
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

func checkRegular(path string, info os.FileInfo) error {
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

// trimByteOrderMark drops what editors on Windows put first, and refuses the
// encoding that others write there.
func trimByteOrderMark(text []byte) ([]byte, error) {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, errors.New("the file is in UTF-16, must be in UTF-8")
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// readInTime runs read in a goroutine of its own and waits for it no longer
// than wait. After that its result is dropped, whenever it comes.
func readInTime[T any](wait time.Duration, read func() (T, error)) (T, error) {
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
		return none, errFileTooSlow
	}
}
