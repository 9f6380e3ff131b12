//go:build unix

package regularfile

import "syscall"

// openNonblock makes open return at once for a pipe, a device or a file with a lease.
const openNonblock = syscall.O_NONBLOCK
