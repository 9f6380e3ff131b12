package tunnel

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const nonblock = unix.O_NONBLOCK

// The calls below never block, so they go around the scheduler's bookkeeping
// for blocking system calls, which costs more than most of them do.

func receive(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func send(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// epollPoll returns the number of pending events without waiting.
func epollPoll(epfd int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// control is one end of the control socket.
type control struct {
	file *os.File
	raw  syscall.RawConn
	in   []byte
	oob  []byte
}

func newControl(fd int) (*control, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "control socket")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &control{f, raw, make([]byte, maxMessage+1), make([]byte, unix.CmsgSpace(4*4))}, nil
}

// receive waits for a message. The descriptors belong to the caller; lost reports that
// some could not be received.
func (c *control) receive() (b []byte, fds []int, lost bool, err error) {
	var n, oobn, flags int
	waitErr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), c.in, c.oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false
			default:
				return true
			}
		}
	})
	if waitErr != nil {
		return nil, nil, false, waitErr
	}
	if err != nil {
		return nil, nil, false, err
	}
	if oobn > 0 {
		messages, err := unix.ParseSocketControlMessage(c.oob[:oobn])
		if err != nil {
			return nil, nil, false, err
		}
		for i := range messages {
			if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, got...)
			}
		}
	}
	return c.in[:n], fds, flags&unix.MSG_CTRUNC != 0, nil
}

// send waits until the other end accepts the message. It returns EOF if the other
// end is gone.
func (c *control) send(b []byte, fds []int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var err error
	waitErr := c.raw.Write(func(fd uintptr) bool {
		for {
			_, err = unix.SendmsgN(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if waitErr != nil {
		return waitErr
	}
	return err
}

// trySend sends a message if the other end has room for it now. It reports whether it
// did; if not, send says why.
func (c *control) trySend(b []byte, fds []int) bool {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	sent := false
	_ = c.raw.Write(func(fd uintptr) bool {
		_, err := unix.SendmsgN(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		sent = err == nil
		return true
	})
	return sent
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// ownMemory returns this process's resident memory, and the part of it that is not
// shared with other processes, in bytes.
func ownMemory() (resident, private uint64) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "Rss:":
			resident = kb << 10
		case "Private_Clean:", "Private_Dirty:":
			private += kb << 10
		}
	}
	return resident, private
}
