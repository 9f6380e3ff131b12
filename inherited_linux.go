//go:build linux && !portable_relay

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// A state file names descriptors by number, and a number alone proves nothing. Older
// switchers name a duplicate of each connection's descriptor, which their garbage
// collector may close before exec. The number may then be unused, or belong to another
// connection, or to something that this process has opened. So every number is checked
// before any descriptor is used or closed.

// inheritedSocket returns nil if descriptor fd is a TCP socket that the former process
// left, and otherwise the reason why it is not.
//
// It recognises what this process has opened by the close-on-exec flag. Go's runtime, its
// library and this program set the flag on everything they open, and a descriptor with
// the flag does not survive exec.
func inheritedSocket(fd int) error {
	if fd <= 2 {
		return errors.New("it cannot be a connection's")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	if flags&unix.FD_CLOEXEC != 0 {
		return errors.New("it is this process's own")
	}
	// Other stream sockets, such as Unix ones, have another protocol. Where the
	// kernel has Multipath TCP, Go's library uses it for listeners, and
	// connections use it if the peer does.
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return err
	} else if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		return errors.New("it is not a TCP socket")
	}
	return nil
}

// inheritedConnection returns nil if descriptor fd is a TCP connection that the former
// process left, and otherwise the reason why it is not. The peer is not checked, because
// ListenAddr and the pools may have changed.
//
// With mayHaveEnded, a connection that was reset meanwhile is accepted too. The
// session's loop will notice the reset, and a lost pool then does not cost the
// miner its connection.
func inheritedConnection(fd int, mayHaveEnded bool) error {
	if err := inheritedSocket(fd); err != nil {
		return err
	}
	_, err := unix.Getpeername(fd)
	switch {
	case err == nil:
		return nil
	case listens(fd):
		return errors.New("it is a listener")
	case err == unix.ENOTCONN && mayHaveEnded && wasConnected(fd):
		return nil
	}
	return err
}

func listens(fd int) bool {
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && listening != 0
}

// wasConnected reports whether a closed TCP socket once had a connection. It did if it
// has received segments.
func wasConnected(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose && info.Segs_in > 0
}

// tcpClose is the kernel's TCP_CLOSE.
const tcpClose = 7

// inheritedListener returns nil if descriptor fd is a listener that the former process
// left, and otherwise the reason why it is not.
func inheritedListener(fd int) error {
	if err := inheritedSocket(fd); err != nil {
		return err
	}
	if !listens(fd) {
		return errors.New("it is not a listener")
	}
	return nil
}

// socketID identifies a socket. Two descriptors of the same socket have the same one.
type socketID struct{ dev, inode uint64 }

func socketIDOf(fd int) (socketID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return socketID{}, err
	}
	return socketID{uint64(st.Dev), st.Ino}, nil
}

// descriptorCheck holds what was found about all descriptors of a state file.
type descriptorCheck struct {
	st    *runtimeState
	seen  map[int]descriptorSeen
	named map[socketID]int // how often the state file names the socket
}

// descriptorSeen is what was found about one descriptor.
type descriptorSeen struct {
	id  socketID
	err error // why it is not a connection
}

// checkDescriptors drops every session from st whose descriptors may belong to something
// else, and returns the reason for each. The remaining sessions can be resumed. If the
// descriptor of the listener is wrong, the right one is searched for. If there is none, st
// has no listener afterwards.
//
// Valid connections of a dropped session are closed, and so are sockets that several
// sessions name, so that no peer waits forever. Other descriptors stay open, because they
// may belong to a supervisor.
func checkDescriptors(st *runtimeState, listenAddr string) []error {
	c := &descriptorCheck{st: st, seen: make(map[int]descriptorSeen, 2*len(st.SessionDatas)),
		named: make(map[socketID]int, 2*len(st.SessionDatas))}
	if st.Version > 0 || st.ListenAddr != "" {
		c.listener(listenAddr)
	}
	c.lookAtAll()
	// Nothing is closed before all descriptors have been looked at.
	var dropped []error
	unused := make(map[int]bool)
	kept := st.SessionDatas[:0]
	for i := range st.SessionDatas {
		ss := &st.SessionDatas[i]
		err := c.verdict(ss)
		if err == nil {
			if len(dropped) > 0 {
				st.SessionDatas[len(kept)] = *ss
			}
			kept = st.SessionDatas[:len(kept)+1]
			continue
		}
		dropped = append(dropped, fmt.Errorf("session %08x: %w", ss.SessionID, err))
		for _, fd := range ss.descriptors() {
			if c.seen[fd].err == nil {
				unused[fd] = true
			}
		}
	}
	clear(st.SessionDatas[len(kept):])
	st.SessionDatas = kept
	for fd := range unused {
		unix.Close(fd)
	}
	c.closeOrphans()
	if st.Version == 0 {
		c.closeDuplicates()
	}
	return dropped
}

// lookAtAll looks at all descriptors that sessions name. It uses all processors,
// because nothing is relayed meanwhile.
func (c *descriptorCheck) lookAtAll() {
	type found struct {
		fd   int
		seen descriptorSeen
	}
	sessions := c.st.SessionDatas
	parts := make([][]found, processors(len(sessions)))
	inParallel(len(parts), len(sessions), func(part, from, to int) {
		all := make([]found, 0, 2*(to-from))
		for i := from; i < to; i++ {
			for _, fd := range sessions[i].descriptors() {
				all = append(all, found{fd, c.look(fd, sessions[i].isPair(fd))})
			}
		}
		parts[part] = all
	})
	for _, part := range parts {
		for _, f := range part {
			c.note(f.fd, f.seen)
		}
	}
}

// look checks a descriptor that a session names. If pair is true, it belongs to a
// connection with TLS and has to be an end of a socket pair.
func (c *descriptorCheck) look(fd int, pair bool) descriptorSeen {
	if pair {
		return descriptorSeen{id: socketID{inode: uint64(fd)}, err: tunnel.InheritedPair(fd)}
	}
	// In a state file of this program, a descriptor without a peer is a
	// connection that has ended since. In files of older switchers it may be
	// anything. This program also never duplicates a connection, so different
	// numbers are different sockets.
	ours := c.st.Version > 0
	seen := descriptorSeen{id: socketID{inode: uint64(fd)}, err: inheritedConnection(fd, ours)}
	if seen.err == nil && !ours {
		seen.id, seen.err = socketIDOf(fd)
	}
	return seen
}

func (c *descriptorCheck) note(fd int, seen descriptorSeen) {
	c.seen[fd] = seen
	if seen.err == nil {
		c.named[seen.id]++
	}
}

// verdict returns nil if a session can be resumed, and otherwise the reason why it cannot.
func (c *descriptorCheck) verdict(ss *sessionState) error {
	for _, fd := range ss.descriptors() {
		seen := c.seen[fd]
		if seen.err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, seen.err)
		}
		if c.named[seen.id] > 1 {
			return fmt.Errorf("descriptor %d: its socket is named more than once", fd)
		}
	}
	if c.st.Version == 0 && ss.ServerConnFD < 0 {
		return fmt.Errorf("descriptor %d: it cannot be a connection's", ss.ServerConnFD)
	}
	return nil
}

// listener checks the former process's listener. If its number is wrong or unknown, the
// listener is searched for. It may still be open under another number, and then nobody
// else could listen at its address, and miners would wait in its queue.
func (c *descriptorCheck) listener(addr string) {
	st := c.st
	if st.ListenAddr != "" {
		if inheritedListener(st.ListenFD) == nil {
			return
		}
		if inheritedConnection(st.ListenFD, true) == nil {
			// If a session names this connection too, neither can have it.
			c.note(st.ListenFD, c.look(st.ListenFD, false))
		}
	}
	for _, addr := range []string{st.ListenAddr, addr} {
		if fd := findListener(addr); fd >= 0 {
			st.ListenFD, st.ListenAddr = fd, addr
			return
		}
	}
	st.ListenFD, st.ListenAddr = 0, ""
}

// closeOrphans closes the connections of sessions whose records were unreadable.
func (c *descriptorCheck) closeOrphans() {
	for _, fd := range c.st.orphans {
		if _, ok := c.seen[fd]; ok {
			continue // a readable session names it
		}
		if inheritedConnection(fd, true) == nil || isOwnPair(fd) {
			unix.Close(fd)
		}
	}
}

// closeDuplicates closes further descriptors of sockets that sessions name. An
// older switcher leaves some when an upgrade fails, and they would keep a
// connection open after its session has ended.
func (c *descriptorCheck) closeDuplicates() {
	for _, fd := range openFiles() {
		if _, ok := c.seen[fd]; ok || inheritedSocket(fd) != nil {
			continue
		}
		if id, err := socketIDOf(fd); err == nil && c.named[id] > 0 {
			unix.Close(fd)
		}
	}
}

// findListener returns the inherited TCP socket that listens at an address, or -1.
func findListener(addr string) int {
	for _, fd := range openFiles() {
		if inheritedListener(fd) != nil {
			continue
		}
		if local, err := relay.LocalAddr(fd); err == nil && isListenAddr(local, addr) {
			return fd
		}
	}
	return -1
}

// isListenAddr reports whether a listener that is bound to local may have been
// opened with the ListenAddr addr. Port 0 in addr matches any port, and a host
// name matches any address, because names are not looked up here.
func isListenAddr(local netip.AddrPort, addr string) bool {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil || port != 0 && port != int(local.Port()) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if host == "" || err == nil && ip.IsUnspecified() {
		return local.Addr().IsUnspecified()
	}
	return err != nil || ip.Unmap() == local.Addr().Unmap()
}

// closeInherited closes what a former process left if its state could not be read: its
// connections, the sockets to its tunnel processes, its copies of the certificate and its
// listener. Miners then connect again instead of waiting forever, and the address is free
// to listen at.
func closeInherited(listenAddr string) {
	for _, fd := range openFiles() {
		if inheritedConnection(fd, true) == nil || isOwnPair(fd) || tunnel.InheritedCopy(fd) == nil {
			unix.Close(fd)
		}
	}
	reapFormer()
	if fd := findListener(listenAddr); fd >= 0 {
		unix.Close(fd)
	}
}

// openFiles returns the numbers of all open descriptors.
func openFiles() []int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var fds []int
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}
