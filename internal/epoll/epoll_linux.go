package epoll

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poll returns the number of pending events without waiting. It bypasses the scheduler's
// bookkeeping for blocking system calls, which costs more than the call itself.
func Poll(epfd int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// WatchRounds is after how many rounds without a pause a loop calls KeepWatch.
const WatchRounds = 100

// KeepWatch wakes Go's monitor thread, which then watches the process until no goroutine
// runs any more. Without it, a goroutine that never waits would not be interrupted while
// others are ready to run. The monitor thread sleeps while nothing runs, and only an
// ordinary system call wakes it.
//
// Loops make raw system calls, which do not wake it. This is another reason why these
// are cheaper: for some milliseconds after it was woken, the monitor thread checks
// everything every few microseconds.
func KeepWatch() { syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0) }
