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
)

// A state file names descriptors by number, and a number alone proves nothing.
// Older switchers duplicate each connection and forget the duplicate, which
// their garbage collector may close before exec. The number is then dead, or
// belongs to another connection, or by now to this process itself. So every
// number is checked before any descriptor is used or closed.

// inheritedSocket says why descriptor fd is not a TCP socket that the former
// process left; nil if it is one.
//
// The check cannot mistake what this process has opened: that is
// close-on-exec, as everything is that Go's runtime and library and this
// program open, and a descriptor with that flag does not survive exec.
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
	// Other stream sockets, such as Unix ones, have another protocol. Listeners
	// of Go's library are of Multipath TCP where the kernel has that, and so are
	// the connections of peers that use it.
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return err
	} else if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		return errors.New("it is not a TCP socket")
	}
	return nil
}

// inheritedConnection says why descriptor fd is not a TCP connection that the
// former process left; nil if it is one. The connection may lead anywhere:
// ListenAddr and the pools may have changed since it was made.
//
// mayHaveEnded also accepts a connection that was reset meanwhile. Its loop
// finds that out, and a lost pool then does not cost the miner.
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

// wasConnected tells a TCP socket whose connection has ended from one that
// never had any: something was received.
func wasConnected(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose && info.Segs_in > 0
}

// tcpClose is the kernel's TCP_CLOSE.
const tcpClose = 7

// inheritedListener says why descriptor fd is not a listener that the former
// process left; nil if it is one.
func inheritedListener(fd int) error {
	if err := inheritedSocket(fd); err != nil {
		return err
	}
	if !listens(fd) {
		return errors.New("it is not a listener")
	}
	return nil
}

// socketID tells whether two descriptors are the same socket.
type socketID struct{ dev, inode uint64 }

func socketIDOf(fd int) (socketID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return socketID{}, err
	}
	return socketID{uint64(st.Dev), st.Ino}, nil
}

// descriptorCheck is the outcome of looking at all descriptors of a state.
type descriptorCheck struct {
	st    *runtimeState
	seen  map[int]descriptorSeen
	named map[socketID]int // how often
}

// descriptorSeen is what a number has turned out to be.
type descriptorSeen struct {
	id  socketID
	err error // why it is no connection
}

// checkDescriptors drops the sessions from st whose descriptors are not theirs
// beyond doubt, and returns why, one error for each. What is left can be
// resumed. A listener that is none is looked for, and forgotten if there is
// none.
//
// The good half of a dropped session, and a socket that several name, are
// closed, so that no peer waits for ever. Nothing else is: it may belong to a
// supervisor.
func checkDescriptors(st *runtimeState, listenAddr string) []error {
	c := &descriptorCheck{st: st, seen: make(map[int]descriptorSeen, 2*len(st.SessionDatas)),
		named: make(map[socketID]int, 2*len(st.SessionDatas))}
	if st.Version > 0 || st.ListenAddr != "" {
		c.listener(listenAddr)
	}
	c.lookAtAll()
	// All have been looked at. Only now some are closed.
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

// lookAtAll looks at what the sessions name, by all processors: nothing is
// relayed meanwhile.
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
				all = append(all, found{fd, c.look(fd)})
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

// look checks a descriptor that a session names.
func (c *descriptorCheck) look(fd int) descriptorSeen {
	// Only state files of this program's own kind can be trusted to have named
	// a connection that has gone since. Nor does this program duplicate any, so
	// that its numbers alone tell sockets apart.
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

// verdict says why a session cannot be resumed; nil if it can.
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

// listener checks the former process's listener. If its number is wrong or
// not known, the listener itself is still open: nobody else could listen at its
// address, and miners would wait in its queue. So it is looked for.
func (c *descriptorCheck) listener(addr string) {
	st := c.st
	if st.ListenAddr != "" {
		if inheritedListener(st.ListenFD) == nil {
			return
		}
		if inheritedConnection(st.ListenFD, true) == nil {
			// Named here and by a session, it is nobody's.
			c.note(st.ListenFD, c.look(st.ListenFD))
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

// closeOrphans closes connections of sessions whose records were unreadable.
func (c *descriptorCheck) closeOrphans() {
	for _, fd := range c.st.orphans {
		if _, ok := c.seen[fd]; ok {
			continue // another session has named it
		}
		if inheritedConnection(fd, true) == nil {
			unix.Close(fd)
		}
	}
}

// closeDuplicates closes the other descriptors of sockets that sessions name.
// An older switcher whose upgrade failed has left some, and with one of them
// open a connection would outlive its session.
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

// findListener finds the inherited TCP socket that listens at an address;
// negative: there is none.
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

// isListenAddr says whether a listener bound to local was asked for as addr,
// a ListenAddr. Port 0 there stands for any port, and a host name for any
// address: nothing is looked up here.
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

// closeInherited closes the connections and the listener that a former process
// left, when nothing of its state could be read: miners then connect again
// instead of waiting for ever, and the address can be listened at.
func closeInherited(listenAddr string) {
	for _, fd := range openFiles() {
		if inheritedConnection(fd, true) == nil {
			unix.Close(fd)
		}
	}
	if fd := findListener(listenAddr); fd >= 0 {
		unix.Close(fd)
	}
}

// openFiles are the numbers of all open files.
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
