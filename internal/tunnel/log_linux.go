package tunnel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// childLog is the daemon's end of the pipe that is a child's standard error. The text
// that the child writes there, such as the report of a panic, is copied to the daemon's
// own log. The pipe passes through exec, so that children of former programs still have
// a reader. The child never waits for the pipe: text that does not fit into it is lost.
type childLog struct {
	fd   int // 0 after the end of the log
	file *os.File
	to   io.Writer // nil stands for os.Stderr
}

// newChildLog returns a pipe and the child's end of it.
func newChildLog(to io.Writer) (*childLog, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	// Only this end becomes non-blocking here. The child changes its own end after Go's
	// runtime has found it blocking; otherwise the runtime would wait for the pipe.
	_ = unix.SetNonblock(fds[0], true) // it cannot fail for a pipe
	return &childLog{fds[0], os.NewFile(uintptr(fds[0]), "log of a tunnel process"), to}, os.NewFile(uintptr(fds[1]), "child's log"), nil
}

// resumeChildLog takes over the pipe of the former program.
func resumeChildLog(fd int, to io.Writer) (*childLog, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err == nil && flags&unix.FD_CLOEXEC != 0 {
		err = errors.New("it is this process's own")
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errors.New("it is not a pipe")
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("log %d: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	return &childLog{fd, os.NewFile(uintptr(fd), "log of a tunnel process"), to}, nil
}

// copy copies the child's standard error until the child ends or an upgrade begins.
func (l *childLog) copy() {
	b := make([]byte, 4<<10)
	for {
		n, err := l.file.Read(b)
		if n > 0 {
			to := l.to
			if to == nil {
				to = os.Stderr
			}
			_, _ = to.Write(b[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			l.close()
			l.fd = 0 // the number may be another file's soon
			return
		}
	}
}

// pause makes copy return if on is set, and otherwise allows it to be called again.
func (l *childLog) pause(on bool) {
	if l == nil {
		return
	}
	var at time.Time
	if on {
		at = time.Unix(1, 0)
	}
	_ = l.file.SetReadDeadline(at)
}

// close closes a log that copy does not read.
func (l *childLog) close() {
	if l != nil {
		l.file.Close()
	}
}
