package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This relay is the floor of all comparisons. Each time when a socket is readable, it
// makes one read from it and one write to its peer, and nothing else. No proxy that
// copies through user space one line at a time can cost less.

// bareRelay is one thread of the relay. It has its own listener at the common port and
// all connections that this listener accepts.
type bareRelay struct {
	peers    []int32 // the peer of each descriptor; 0 if it is not relayed
	listener int
	epoll    int
	upstream unix.Sockaddr
}

func runRelay(listen, upstream, threads string) error {
	n, err := strconv.Atoi(threads)
	if err != nil || n < 1 {
		return fmt.Errorf("relay: %q threads", threads)
	}
	at, err := inet4(listen)
	if err != nil {
		return err
	}
	to, err := inet4(upstream)
	if err != nil {
		return err
	}
	limit, err := descriptorLimit()
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(n + 1)
	debug.SetGCPercent(-1) // the relay makes no garbage
	for range n {
		r := &bareRelay{peers: make([]int32, limit), upstream: to}
		if err := r.listen(at); err != nil {
			return fmt.Errorf("relay: listening at %s: %w", listen, err)
		}
		go r.loop()
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func inet4(addr string) (*unix.SockaddrInet4, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil || !a.Addr().Is4() {
		return nil, fmt.Errorf("relay: %q is not an IPv4 address with a port", addr)
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

func (r *bareRelay) listen(at unix.Sockaddr) (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if r.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(r.listener, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(r.listener, at); err != nil {
		return err
	}
	if err := unix.Listen(r.listener, 4096); err != nil {
		return err
	}
	return r.watch(r.listener)
}

func (r *bareRelay) watch(fd int) error {
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (r *bareRelay) loop() {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 64<<10)
	for {
		// A raw system call does not tell Go's scheduler that this thread waits.
		// Telling it would cost more than the relaying, and there is nothing else
		// to run.
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(r.epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), ^uintptr(0), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			panic(errno)
		}
		for _, ev := range events[:n] {
			if int(ev.Fd) == r.listener {
				r.accept()
			} else if peer := r.peers[ev.Fd]; peer != 0 && !pass(ev.Fd, peer, buf) {
				r.peers[ev.Fd], r.peers[peer] = 0, 0
				unix.Close(int(ev.Fd))
				unix.Close(int(peer))
			}
		}
	}
}

// accept connects one miner to the pool. The blocking connect returns at once, because
// the pool is on the loopback interface.
func (r *bareRelay) accept() {
	miner, _, err := unix.Accept4(r.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	pool, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(miner)
		return
	}
	if max(miner, pool) >= len(r.peers) || unix.Connect(pool, r.upstream) != nil {
		unix.Close(miner)
		unix.Close(pool)
		return
	}
	unix.SetNonblock(pool, true)
	unix.SetsockoptInt(miner, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(pool, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	r.peers[miner], r.peers[pool] = int32(pool), int32(miner)
	if err := errors.Join(r.watch(miner), r.watch(pool)); err != nil {
		panic(err)
	}
}

// pass reads once and writes everything to the peer. It returns false if the connection
// has ended.
func pass(from, to int32, buf []byte) bool {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(from), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return true
	}
	if errno != 0 || n == 0 {
		return false
	}
	for b := buf[:n]; ; {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(to), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			if b = b[n:]; len(b) == 0 {
				return true
			}
		case unix.EAGAIN, unix.EINTR:
			// The peer's buffer is full. The bench's peers empty it soon.
			unix.Poll([]unix.PollFd{{Fd: to, Events: unix.POLLOUT}}, 1000)
		default:
			return false
		}
	}
}
