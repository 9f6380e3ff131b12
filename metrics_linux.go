package main

import "os"

// openDescriptors counts this process's open files, -1 if it cannot be told
// cheaply. Since Linux 6.2 the directory's size is the number.
func openDescriptors() int {
	info, err := os.Stat("/proc/self/fd")
	if err != nil || info.Size() == 0 {
		return -1
	}
	return int(info.Size())
}
