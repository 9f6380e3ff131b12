package main

import "os"

// openDescriptors returns how many files this process has open, or -1 if that cannot
// be found out cheaply. Since Linux 6.2 it is the size of the directory.
func openDescriptors() int {
	info, err := os.Stat("/proc/self/fd")
	if err != nil || info.Size() == 0 {
		return -1
	}
	return int(info.Size())
}
