package tunnel

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const nonblock = unix.O_NONBLOCK

// The calls below never block. They bypass the scheduler's bookkeeping for blocking system
// calls, which costs more than most of these calls do.

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

func closeFD(fd int32) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func shutdownWrite(fd int32) {
	unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// ring makes the eventfd of a loop readable, which wakes the loop.
func ring(fd int) {
	one := [8]byte{0: 1}
	unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), uintptr(len(one)))
}

// sendMessage sends b, which is not empty, with descriptors in the form of
// unix.UnixRights.
func sendMessage(fd uintptr, b, rights []byte) syscall.Errno {
	io := unix.Iovec{Base: unsafe.SliceData(b)}
	io.SetLen(len(b))
	m := unix.Msghdr{Iov: &io}
	m.SetIovlen(1)
	if len(rights) > 0 {
		m.Control = unsafe.SliceData(rights)
		m.SetControllen(len(rights))
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno != unix.EINTR {
			return errno
		}
	}
}

// receiveMessage receives a message and its descriptors. Neither b nor oob is empty.
func receiveMessage(fd uintptr, b, oob []byte) (n, oobn, flags int, errno syscall.Errno) {
	io := unix.Iovec{Base: unsafe.SliceData(b)}
	io.SetLen(len(b))
	m := unix.Msghdr{Iov: &io, Control: unsafe.SliceData(oob)}
	m.SetIovlen(1)
	m.SetControllen(len(oob))
	for {
		got, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch errno {
		case 0:
			return int(got), int(m.Controllen), int(m.Flags), 0
		case unix.EINTR:
		default:
			return 0, 0, 0, errno
		}
	}
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

// receive waits for a message. The descriptors belong to the caller. lost reports that
// this process could not receive all of them.
func (c *control) receive() (b []byte, fds []int, lost bool, err error) {
	var n, oobn, flags int
	var errno syscall.Errno
	waitErr := c.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, errno = receiveMessage(fd, c.in, c.oob)
		return errno != unix.EAGAIN
	})
	if waitErr != nil {
		return nil, nil, false, waitErr
	}
	if errno != 0 {
		return nil, nil, false, errno
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
	var errno syscall.Errno
	waitErr := c.raw.Write(func(fd uintptr) bool {
		errno = sendMessage(fd, b, rights)
		return errno != unix.EAGAIN
	})
	switch {
	case waitErr != nil:
		return waitErr
	case errno != 0:
		return errno
	}
	return nil
}

// trySend sends a message if the other end has room for it now, and reports whether it
// did. If it did not, a call of send returns the reason.
func (c *control) trySend(b []byte, fds []int) bool {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	sent := false
	_ = c.raw.Write(func(fd uintptr) bool {
		sent = sendMessage(fd, b, rights) == 0
		return true
	})
	return sent
}

func closeAll(fds []int) {
	for _, fd := range fds {
		closeFD(int32(fd))
	}
}
