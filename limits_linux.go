package main

import (
	"math"

	"github.com/golang/glog"
	"golang.org/x/sys/unix"
)

// raiseDescriptorLimit sets the soft limit to the hard one. Go's runtime also does that
// at start, but it ignores errors, and it restores the former limit before an exec unless
// the program has set the limit itself.
func raiseDescriptorLimit() {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		glog.Warningf("file descriptor limit: %v", err)
	}
}

// descriptorLimit returns how many files this process may have open.
func descriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, math.MaxInt32))
}
