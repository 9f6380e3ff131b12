//go:build linux && !portable_relay

package relay

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block. They bypass the scheduler's bookkeeping for blocking system calls,
// which costs more than most of these calls do.

func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		n = 0
	}
	return int(n), errno
}

func rawClose(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// rawAccept is accept4 for a non-blocking listener. The new descriptor is non-blocking and has
// close-on-exec.
func rawAccept(listener int) (fd int, peer netip.AddrPort, errno syscall.Errno) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(n), fromRaw(&sa), 0
}

// rawConnect connects a non-blocking socket of the address's family.
func rawConnect(fd int, addr netip.AddrPort) syscall.Errno {
	sa, size := toRaw(addr)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), size)
	return errno
}

// toRaw returns an address in the kernel's form, and the size of that form. The form of an IPv4
// address is at the beginning of sa.
func toRaw(addr netip.AddrPort) (sa unix.RawSockaddrInet6, size uintptr) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], addr.Port())
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		sa.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)).Addr = ip.As4()
		return sa, unix.SizeofSockaddrInet4
	}
	sa.Family, sa.Addr = unix.AF_INET6, ip.As16()
	if zone, err := strconv.ParseUint(ip.Zone(), 10, 32); err == nil {
		sa.Scope_id = uint32(zone)
	}
	return sa, unix.SizeofSockaddrInet6
}

// fromRaw is the reverse of toRaw, without the zone.
func fromRaw(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}

// rawSetOption sets a socket option whose value is of the type T. It ignores errors, because the
// switcher also works without these options.
func rawSetOption[T int32 | unix.Linger](fd, level, option int, value T) {
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
}

// SetSocketOptions sets the options of a TCP socket, so that it sends lines at once and notices a peer
// that has vanished. Accepted sockets inherit these options from the listener.
func SetSocketOptions(fd int) {
	rawSetOption[int32](fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	rawSetOption[int32](fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	rawSetOption[int32](fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	rawSetOption[int32](fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	rawSetOption[int32](fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4)
	rawSetOption[int32](fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 120_000)
}

// setListenerOptions sets the options that accepted sockets inherit. It has the form that
// net.ListenConfig needs.
func setListenerOptions(fd uintptr) { SetSocketOptions(int(fd)) }

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// LocalAddr returns the address to which a descriptor is bound.
func LocalAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return addrPort(sa), nil
}

// PeerAddr returns the address to which a descriptor is connected.
func PeerAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return addrPort(sa), nil
}
