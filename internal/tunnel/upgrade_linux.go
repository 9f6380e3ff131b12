package tunnel

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Freeze stops all goroutines of the tunnel between two messages. When it returns, owners
// have received every event so far and get no more until Thaw; new connections are
// queued. It is called before the loops are frozen, so that they still handle the events
// that owners have posted. It does not wait for children.
func (t *Tunnel) Freeze() {
	t.mu.Lock()
	if t.frozen || t.closed {
		t.mu.Unlock()
		return
	}
	t.frozen, t.begun = true, false
	close(t.stop)
	past := time.Unix(1, 0)
	for _, p := range t.all {
		p.control.file.SetDeadline(past)
		p.log.pause(true)
		p.signal()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// Thaw undoes Freeze.
func (t *Tunnel) Thaw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.frozen || t.closed {
		return
	}
	t.frozen, t.stop = false, make(chan struct{})
	for _, p := range t.all {
		p.control.file.SetDeadline(time.Time{})
		p.log.pause(false)
		p.run()
	}
	if len(t.all) > 0 || len(t.queue) > 0 {
		t.begin()
	}
}

// State describes a frozen tunnel. It is nil if there is nothing to hand over.
func (t *Tunnel) State() *State {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := t.pair.state()
	if t.lastID == 0 && len(t.all) == 0 && pair == nil {
		return nil
	}
	st := &State{LastID: t.lastID, Pair: pair}
	waiting := slices.Clone(t.queue)
	for _, p := range t.all {
		ps := ProcessState{
			PID: p.pid, ControlFD: p.controlFD, Protocol: p.protocol, Program: p.program, Hello: p.hello,
			Current: p == t.current, Certified: p.certified, Retired: p.retired, InFlight: p.inFlight,
		}
		if p.log != nil {
			ps.LogFD = p.log.fd
		}
		for _, r := range p.out {
			switch {
			case r.conn != nil:
				waiting = append(waiting, r)
			case r.message.kind == kindReset:
				ps.Resets = append(ps.Resets, r.message.id)
			}
		}
		st.Processes = append(st.Processes, ps)
	}
	for _, r := range waiting {
		w := WaitingState{Message: r.message.appendTo(nil), FDs: r.fds, Left: time.Until(r.expires)}
		if r.trust != nil {
			w.Trust = r.trust.pem
		}
		st.Waiting = append(st.Waiting, w)
	}
	return st
}

// Ref returns the reference by which Adopt finds the connection. The tunnel must
// be frozen.
func (c *Conn) Ref() Ref {
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	if c.process == nil || !c.sent {
		return Ref{ID: c.id}
	}
	return Ref{c.process.pid, c.id}
}

// Resume takes over the processes and connections of the former program. The
// tunnel stays frozen until the caller has adopted the connections of its sessions
// and calls Begin. Each error concerns one process or connection; all others are
// taken over.
func Resume(o Options, st *State) (*Tunnel, []error) {
	t, err := New(o)
	if err != nil {
		return nil, []error{err}
	}
	t.frozen = true
	close(t.stop)
	var errs []error
	t.lastID = st.LastID
	if st.Pair != nil {
		if err := t.resumePair(st.Pair); err != nil {
			errs = append(errs, fmt.Errorf("certificate: %w", err))
		}
	}
	for _, ps := range st.Processes {
		p, err := resumeProcess(t, ps)
		if err != nil {
			errs = append(errs, fmt.Errorf("tunnel process %d: %w", ps.PID, err))
			continue
		}
		t.all = append(t.all, p)
	}
	for _, w := range st.Waiting {
		if err := t.resumeWaiting(w); err != nil {
			errs = append(errs, fmt.Errorf("connection that waits for the tunnel: %w", err))
		}
	}
	return t, errs
}

func resumeProcess(t *Tunnel, ps ProcessState) (*process, error) {
	if err := inherited(ps.ControlFD, unix.SOCK_SEQPACKET); err != nil {
		return nil, fmt.Errorf("control socket %d: %w", ps.ControlFD, err)
	}
	if ps.PID <= 0 || !isChild(ps.PID) {
		unix.Close(ps.ControlFD)
		return nil, errors.New("it is not a child of this process")
	}
	p, err := newProcess(t, ps.PID, ps.ControlFD)
	if err != nil {
		return nil, err
	}
	p.program, p.protocol, p.hello, p.certified = ps.Program, ps.Protocol, ps.Hello, ps.Certified
	p.inFlight = min(max(ps.InFlight, 0), maxInFlight)
	if ps.LogFD > 0 {
		if p.log, err = resumeChildLog(ps.LogFD, t.options.Stderr); err != nil {
			t.options.Logf("tunnel process pid=%d: %v", ps.PID, err)
		}
	}
	// A process whose program was replaced before it was in use will never be used. If
	// upgrades follow each other quickly, such processes would otherwise leave no room
	// for this program's own.
	if ps.Retired || p.protocol != Protocol || !ps.Current && ps.Program != t.options.Program {
		p.retire()
	}
	for _, id := range ps.Resets {
		p.out = append(p.out, &request{message: &message{kind: kindReset, id: id}})
	}
	if ps.Current && !p.retired {
		t.current = p
		// A process of another program version serves until its successor is ready.
		t.wanted = p.program != t.options.Program
	}
	return p, nil
}

// isChild reports whether pid is a child of this process. It does not reap a child that has
// ended: the next program may take it over before this one sees its end.
func isChild(pid int) bool {
	err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil || err == unix.EINTR
}

// inherited returns nil if a descriptor is a Unix socket of this type that was
// inherited from the former program, and otherwise why it is not. Descriptors that
// this process opened itself are recognized by their close-on-exec flag.
func inherited(fd, socketType int) error {
	if fd <= 2 {
		return errors.New("it cannot be a socket")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	if flags&unix.FD_CLOEXEC != 0 {
		return errors.New("it is this process's own")
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	if domain != unix.AF_UNIX || kind != socketType {
		return errors.New("it is another kind of socket")
	}
	return nil
}

// InheritedPair returns nil if a descriptor can be the daemon's end of a pair that
// was inherited from the former program, and otherwise why it cannot.
func InheritedPair(fd int) error { return inherited(fd, unix.SOCK_STREAM) }

// InheritedControl does the same for the daemon's end of a control socket.
func InheritedControl(fd int) error { return inherited(fd, unix.SOCK_SEQPACKET) }

func (t *Tunnel) resumeWaiting(w WaitingState) error {
	m, err := decode(w.Message)
	if err == nil && (len(w.FDs) != 2 || m.kind != kindServer && m.kind != kindClient) {
		err = errMessage
	}
	if err != nil {
		return err
	}
	for _, fd := range w.FDs {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 {
			err = errors.New("it is this process's own")
		}
		if err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	for _, fd := range w.FDs {
		unix.CloseOnExec(fd)
	}
	r := &request{message: m, fds: w.FDs, conn: &Conn{tunnel: t, id: m.id}, expires: time.Now().Add(w.Left)}
	if w.Trust != nil {
		r.trust = &Trust{w.Trust, sha256.Sum256(w.Trust)}
	}
	t.queue = append(t.queue, r)
	return nil
}

// Adopt makes owner the owner of a connection of the former program, between
// Resume and Begin. It returns nil if there is no connection with that reference.
// The caller takes care of the owner's end of the pair.
func (t *Tunnel) Adopt(ref Ref, owner Owner) *Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ref.Process == 0 {
		for _, r := range t.queue {
			if r.conn.id == ref.ID && r.conn.owner == nil {
				r.conn.owner = owner
				return r.conn
			}
		}
		return nil
	}
	for _, p := range t.all {
		if p.pid == ref.Process && p.conns[ref.ID] == nil {
			c := &Conn{tunnel: t, id: ref.ID, owner: owner, process: p, sent: true}
			p.conns[ref.ID] = c
			t.lastID = max(t.lastID, ref.ID)
			return c
		}
	}
	return nil
}

// Begin completes Resume: it closes the waiting connections that were not adopted, and
// allows calls to owners.
func (t *Tunnel) Begin() {
	t.mu.Lock()
	t.queue = slices.DeleteFunc(t.queue, func(r *request) bool {
		if r.conn.owner == nil {
			closeAll(r.fds)
		}
		return r.conn.owner == nil
	})
	if t.current != nil {
		queue := t.queue
		t.queue = nil
		for _, r := range queue {
			t.dispatch(r)
		}
	}
	t.mu.Unlock()
	t.Thaw()
}
