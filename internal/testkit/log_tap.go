package testkit

import (
	"bytes"
	"regexp"
	"sync"
	"syscall"
)

// LogTap is a log output that a test can block, or let fail as on a full disk.
type LogTap struct {
	Gate  sync.Mutex // writes block while a test holds it
	mu    sync.Mutex
	Got   bytes.Buffer
	Room  int // bytes until the disk is full; negative means no limit
	Calls int
}

func (o *LogTap) Write(b []byte) (int, error) {
	o.Gate.Lock()
	defer o.Gate.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Calls++
	if o.Room >= 0 && len(b) > o.Room {
		n, _ := o.Got.Write(b[:o.Room])
		o.Room = 0
		return n, syscall.ENOSPC
	}
	if o.Room >= 0 {
		o.Room -= len(b)
	}
	return o.Got.Write(b)
}

func (o *LogTap) SetRoom(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Room = n
}

func (o *LogTap) Text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Got.String()
}

// MissingOf matches the log line that says how many lines are missing.
var MissingOf = regexp.MustCompile(`(?m)^W\d{4} [\d:.]+ +\d+ log_queue\.go:\d+\] log: (\d+) lines are missing here: .*$`)
