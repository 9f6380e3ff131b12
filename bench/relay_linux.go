package main

import (
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

// The floor: each readiness of a socket is one read from it and one write to
// its peer, and nothing else happens. No proxy that copies through user space
// one line at a time can cost less.

// bareRelay belongs to its threads together: a descriptor's entry in peers is
// set before any of them hears of it.
type bareRelay struct {
	peers    []int32 // by descriptor; 0: not relayed
	listener int
	upstream unix.Sockaddr
	epolls   []int
}

func runRelay(listen, upstream, threads string) error {
	n, err := strconv.Atoi(threads)
	if err != nil || n < 1 {
		return fmt.Errorf("relay: %q threads", threads)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	at, err := inet4(listen)
	if err != nil {
		return err
	}
	to, err := inet4(upstream)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(n + 1)
	debug.SetGCPercent(-1) // there is no garbage
	r := &bareRelay{peers: make([]int32, limit.Cur), upstream: to}
	if r.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	unix.SetsockoptInt(r.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(r.listener, at); err != nil {
		return fmt.Errorf("bind %s: %w", listen, err)
	}
	for range n {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return err
		}
		r.epolls = append(r.epolls, fd)
	}
	if err := r.watch(0, r.listener); err != nil {
		return err
	}
	if err := unix.Listen(r.listener, 4096); err != nil {
		return err
	}
	for i := range r.epolls {
		go r.loop(i)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func inet4(addr string) (*unix.SockaddrInet4, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil || !a.Addr().Is4() {
		return nil, fmt.Errorf("relay: %q is no IPv4 address with port", addr)
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

func (r *bareRelay) watch(thread, fd int) error {
	return unix.EpollCtl(r.epolls[thread], unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (r *bareRelay) loop(thread int) {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 64<<10)
	next := 0
	for {
		n, err := unix.EpollWait(r.epolls[thread], events, -1)
		if err != nil && err != unix.EINTR {
			panic(err)
		}
		for _, ev := range events[:max(0, n)] {
			if int(ev.Fd) == r.listener {
				next++
				r.accept(next % len(r.epolls))
			} else if peer := r.peers[ev.Fd]; peer != 0 && !pass(ev.Fd, peer, buf) {
				r.peers[ev.Fd], r.peers[peer] = 0, 0
				unix.Close(int(ev.Fd))
				unix.Close(int(peer))
			}
		}
	}
}

// accept connects one miner to the pool. The connect blocks, which on
// loopback means that it is done at once.
func (r *bareRelay) accept(thread int) {
	miner, _, err := unix.Accept4(r.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	pool, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(miner)
		return
	}
	if unix.Connect(pool, r.upstream) != nil || max(miner, pool) >= len(r.peers) {
		unix.Close(miner)
		unix.Close(pool)
		return
	}
	unix.SetNonblock(pool, true)
	unix.SetsockoptInt(miner, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(pool, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	r.peers[miner], r.peers[pool] = int32(pool), int32(miner)
	if r.watch(thread, miner) != nil || r.watch(thread, pool) != nil {
		panic("relay: epoll_ctl")
	}
}

// pass hands on what there is to read. It reports whether the connection lives.
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
			// The peer is slow, which the bench's are not for long.
			unix.Poll([]unix.PollFd{{Fd: to, Events: unix.POLLOUT}}, 1000)
		default:
			return false
		}
	}
}
