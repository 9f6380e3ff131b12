//go:build linux && !portable_relay

package relay

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/epoll"
)

// Listener is a listening socket. Its connections come directly from accept4. They have the listener's
// socket options and are never registered with Go's poller. The caller that opened the listener
// closes it.
type Listener struct {
	file   *os.File
	fd     int // the descriptor of file, valid until Close
	row    int // connections accepted without a pause; only Accept uses it
	local  net.Addr
	closed atomic.Bool
}

// newListener takes over ln's socket and closes ln.
func newListener(ln *net.TCPListener) (*Listener, error) {
	defer ln.Close()
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if controlErr := raw.Control(func(lfd uintptr) {
		fd, err = unix.FcntlInt(lfd, unix.F_DUPFD_CLOEXEC, 0)
	}); controlErr != nil {
		return nil, controlErr
	}
	if err != nil {
		return nil, fmt.Errorf("listener descriptor: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("listener descriptor: %w", err)
	}
	return ListenerFromFD(fd)
}

// ListenerFromFD takes over a listening descriptor.
func ListenerFromFD(fd int) (*Listener, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("listener descriptor %d: %w", fd, err)
	}
	return &Listener{file: os.NewFile(uintptr(fd), "listener"), fd: fd, local: net.TCPAddrFromAddrPort(addrPort(sa))}, nil
}

// Addr returns the address at which ln listens.
func (ln *Listener) Addr() net.Addr { return ln.local }

// FD returns the listening descriptor, which still belongs to the listener.
func (ln *Listener) FD() int { return ln.fd }

// Accept waits for the next connection.
func (ln *Listener) Accept() (Handle, netip.AddrPort, error) {
	conn, err := ln.file.SyscallConn()
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	var (
		fd        int
		peer      netip.AddrPort
		acceptErr syscall.Errno
	)
	err = conn.Read(func(lfd uintptr) bool {
		for {
			fd, peer, acceptErr = rawAccept(int(lfd))
			switch acceptErr {
			case unix.EINTR, unix.ECONNABORTED:
				continue
			case unix.EAGAIN:
				ln.row = 0
				return false
			}
			if ln.row++; ln.row == epoll.WatchRounds {
				epoll.KeepWatch()
			}
			return true
		}
	})
	if err == nil && acceptErr != 0 {
		err = acceptErr
	}
	switch {
	case ln.closed.Load():
		return -1, netip.AddrPort{}, net.ErrClosed
	case err != nil:
		return -1, netip.AddrPort{}, fmt.Errorf("accept: %w", err)
	}
	return Handle(fd), peer, nil
}

// Pause makes Accept return an error that IsPaused recognizes, until Resume is called. Meanwhile
// connections wait in the kernel.
func (ln *Listener) Pause() { ln.file.SetReadDeadline(time.Unix(1, 0)) }

// Resume ends a pause.
func (ln *Listener) Resume() { ln.file.SetReadDeadline(time.Time{}) }

// AcceptWaiting is Accept for a connection that is already waiting. It fails if there is none.
func (ln *Listener) AcceptWaiting() (Handle, netip.AddrPort, error) {
	for {
		fd, peer, errno := rawAccept(ln.fd)
		switch errno {
		case 0:
			return Handle(fd), peer, nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return -1, netip.AddrPort{}, errno
		}
	}
}

func (ln *Listener) Close() {
	ln.closed.Store(true)
	ln.file.Close()
}
