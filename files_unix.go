//go:build unix

package main

import (
	"os"
	"syscall"
)

// openNoFollow makes open fail on a symbolic link, and not wait at a pipe.
const openNoFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func ownedByUs(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
