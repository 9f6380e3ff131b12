//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// minerListener is the listening socket. Connections come straight from
// accept4, with the listener's socket options, and never enter Go's poller.
// It belongs to the manager, which closes it.
type minerListener struct {
	file   *os.File
	fd     int // file's; it stays valid until close
	addr   net.Addr
	closed atomic.Bool
}

// newMinerListener takes over ln's socket and closes ln.
func newMinerListener(ln *net.TCPListener) (*minerListener, error) {
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
	return listenerFromFD(fd)
}

// listenerFromFD takes over a listening descriptor.
func listenerFromFD(fd int) (*minerListener, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("listener descriptor %d: %w", fd, err)
	}
	return &minerListener{file: os.NewFile(uintptr(fd), "listener"), fd: fd, addr: net.TCPAddrFromAddrPort(addrPort(sa))}, nil
}

// accept waits for the next connection.
func (ln *minerListener) accept() (socketHandle, netip.AddrPort, error) {
	conn, err := ln.file.SyscallConn()
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	var (
		fd        int
		sa        unix.Sockaddr
		acceptErr error
	)
	err = conn.Read(func(lfd uintptr) bool {
		for {
			fd, sa, acceptErr = unix.Accept4(int(lfd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch acceptErr {
			case unix.EINTR, unix.ECONNABORTED:
				continue
			}
			return acceptErr != unix.EAGAIN
		}
	})
	if err == nil {
		err = acceptErr
	}
	switch {
	case ln.closed.Load():
		return -1, netip.AddrPort{}, net.ErrClosed
	case err != nil:
		return -1, netip.AddrPort{}, fmt.Errorf("accept: %w", err)
	}
	return socketHandle(fd), addrPort(sa), nil
}

// stop makes accept return with a time-out until it is undone. Connections
// wait in the kernel meanwhile.
func (ln *minerListener) stop()   { ln.file.SetReadDeadline(time.Unix(1, 0)) }
func (ln *minerListener) unstop() { ln.file.SetReadDeadline(time.Time{}) }

// acceptWaiting is accept for a connection that waits already. Without one it
// fails.
func (ln *minerListener) acceptWaiting() (socketHandle, netip.AddrPort, error) {
	for {
		fd, sa, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return socketHandle(fd), addrPort(sa), nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return -1, netip.AddrPort{}, err
		}
	}
}

func (ln *minerListener) close() {
	ln.closed.Store(true)
	ln.file.Close()
}
