package tunnel

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// process is one child. It has three goroutines in the daemon: receive, which also reaps
// it, send, and childLog.copy. Tunnel.mu guards all fields that change.
type process struct {
	tunnel    *Tunnel
	pid       int
	controlFD int
	control   *control
	log       *childLog // nil for a child of a former program that had no such log
	started   time.Time
	gone      chan struct{} // closed when the child is reaped

	program   string // the version with which it was started, or which it has reported
	protocol  int
	hello     bool // it has sent its first message
	certified bool // it has a certificate
	retired   bool // it gets no new connections and exits with its last one
	hungUp    bool // the control socket is closed
	asked     bool // a report was requested and has not arrived
	silent    int  // number of ticks spent waiting for an answer
	inFlight  int  // descriptors that were sent and not yet acknowledged
	conns     map[uint64]*Conn
	trusts    map[digest]bool // sets of trusted certificates that were sent
	out       []*request      // messages that are to be sent
	report    Report
	reported  time.Time // when report arrived

	outNew chan struct{} // wakes send
	unsent chan struct{} // closed when send has returned; from then on receive owns out
}

func newProcess(t *Tunnel, pid, controlFD int) (*process, error) {
	c, err := newControl(controlFD)
	if err != nil {
		return nil, err
	}
	return &process{
		tunnel: t, pid: pid, controlFD: controlFD, control: c, started: time.Now(), gone: make(chan struct{}),
		conns: make(map[uint64]*Conn), trusts: make(map[digest]bool), outNew: make(chan struct{}, 1),
	}, nil
}

// startProcess starts this program's own file, even if another file has taken its
// name in the meantime.
func startProcess(t *Tunnel) (*process, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	childEnd := os.NewFile(uintptr(ends[1]), "child's end")
	defer childEnd.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(ends[0])
		return nil, err
	}
	defer null.Close()
	log, logEnd, err := newChildLog(t.options.Stderr)
	if err != nil {
		unix.Close(ends[0])
		return nil, err
	}
	defer logEnd.Close()
	child, err := os.StartProcess("/proc/self/exe", append([]string{os.Args[0]}, t.options.Args...), &os.ProcAttr{
		Env:   environment(),
		Files: []*os.File{null, null, logEnd, childEnd},
	})
	if err != nil {
		unix.Close(ends[0])
		log.close()
		return nil, err
	}
	pid := child.Pid
	_ = child.Release() // reap waits for the process ID, as it has to after an upgrade
	p, err := newProcess(t, pid, ends[0])
	if err != nil {
		unix.Close(ends[0])
		log.close()
		return nil, err
	}
	p.log, p.program, p.protocol = log, t.options.Program, Protocol
	return p, nil
}

// run starts the goroutines. t.mu is held.
func (p *process) run() {
	p.unsent = make(chan struct{})
	p.tunnel.running.Go(p.receive)
	p.tunnel.running.Go(p.send)
	if p.log != nil {
		p.tunnel.running.Go(p.log.copy)
	}
	p.signal()
}

// enqueue sends a message if that is possible at once, and queues it otherwise.
// t.mu is held.
func (p *process) enqueue(r *request) {
	if p.sendNow(r) {
		return
	}
	p.out = append(p.out, r)
	p.signal()
}

func (p *process) signal() {
	select {
	case p.outNew <- struct{}{}:
	default:
	}
}

// usable reports whether certificates can be sent to the process. t.mu is held.
func (p *process) usable() bool { return p.protocol == Protocol && !p.hungUp }

// retire makes the process exit with its last connection. t.mu is held.
func (p *process) retire() {
	if !p.retired && p.protocol == Protocol {
		p.enqueue(&request{message: &message{kind: kindRetire}})
	}
	p.retired = true
}

// hangUp closes the control socket, which ends the child. t.mu is held.
func (p *process) hangUp() {
	if !p.hungUp {
		p.hungUp = true
		p.control.file.Close()
		p.signal()
	}
}

// kill ends a process that cannot be used any more. receive then handles its end. The
// process is not reaped before the control socket is closed, so its process ID cannot
// belong to another process yet. t.mu is held.
func (p *process) kill() {
	if !p.hungUp {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
}

// sendNow sends a message without the goroutine send, which would cost more, and reports
// whether that was possible. t.mu is held.
func (p *process) sendNow(r *request) bool {
	if len(p.out) > 0 || p.unsent == nil || p.hungUp || p.tunnel.frozen || p.inFlight+len(r.fds) > maxInFlight {
		return false
	}
	if !p.control.trySend(r.message.appendTo(nil), r.fds) {
		return false
	}
	p.inFlight += len(r.fds)
	if r.conn != nil {
		r.conn.sent = true
	}
	closeAll(r.fds)
	r.fds = nil
	return true
}

// nextToSend returns the first message that may be sent now, or nil.
func (p *process) nextToSend() (r *request, over bool) {
	p.tunnel.mu.Lock()
	defer p.tunnel.mu.Unlock()
	if p.hungUp || p.tunnel.frozen {
		return nil, true
	}
	if len(p.out) == 0 || p.inFlight+len(p.out[0].fds) > maxInFlight {
		return nil, false
	}
	return p.out[0], false
}

// send sends the messages in out in order, until the process or the tunnel ends or an
// upgrade begins.
func (p *process) send() {
	t := p.tunnel
	defer close(p.unsent)
	b := make([]byte, 0, maxMessage)
	for {
		r, over := p.nextToSend()
		if over {
			return
		}
		if r == nil {
			<-p.outNew
			continue
		}
		b = r.message.appendTo(b[:0])
		err := p.control.send(b, r.fds)
		switch {
		case err == nil:
			t.mu.Lock()
			p.out[0] = nil
			if p.out = p.out[1:]; len(p.out) == 0 {
				p.out = nil
			}
			p.inFlight += len(r.fds)
			if r.conn != nil {
				r.conn.sent = true
			}
			t.mu.Unlock()
			closeAll(r.fds)
			r.fds = nil
		case errors.Is(err, unix.ETOOMANYREFS), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			time.Sleep(10 * time.Millisecond)
		case errors.Is(err, os.ErrDeadlineExceeded):
			// an upgrade begins
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, os.ErrClosed):
			return // receive reads the last messages and handles the process's end
		default:
			// A process that cannot receive messages cannot be used.
			t.mu.Lock()
			t.options.Logf("tunnel process pid=%d cannot be sent a message and is killed: %v", p.pid, err)
			p.kill()
			t.mu.Unlock()
			return
		}
	}
}

// receive handles the child's messages until it ends, and then reaps it.
func (p *process) receive() {
	for {
		b, fds, _, err := p.control.receive()
		closeAll(fds) // a child never sends descriptors
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // an upgrade begins
		}
		if err != nil || len(b) == 0 {
			break
		}
		m, err := decode(b)
		if err != nil {
			p.tunnel.options.Logf("tunnel process pid=%d: %v", p.pid, err)
			break
		}
		p.handle(m)
	}
	p.handleEnd()
}

// handle handles a message of the child.
func (p *process) handle(m *message) {
	t := p.tunnel
	t.mu.Lock()
	var conn *Conn
	switch m.kind {
	case kindHello:
		p.hello, p.program, p.protocol = true, m.program, int(m.protocol)
		t.poke()
	case kindReceived:
		// The child's count is not trusted: it cannot acknowledge more than was sent.
		p.inFlight = max(0, p.inFlight-int(min(m.count, maxInFlight)))
		p.signal()
	case kindReady:
		conn = p.conns[m.id]
	case kindEnded:
		conn = p.conns[m.id]
		delete(p.conns, m.id)
		if !m.ready && (m.reason == Limit || m.reason == Internal) {
			// The child may not have had a descriptor for the trusted certificates,
			// or it may have dropped them. They are sent again.
			clear(p.trusts)
		}
	case kindReport:
		p.report, p.reported, p.asked = m.report, time.Now(), false
	}
	t.mu.Unlock()
	switch {
	case m.kind == kindCertificateTaken:
		t.certificateTaken(p, m)
	case conn == nil:
	case m.kind == kindReady:
		s := Secured{Version: m.version, Suite: m.suite, Resumed: m.resumed}
		if m.notAfter != 0 {
			s.NotAfter = time.Unix(m.notAfter, 0)
		}
		conn.owner.TunnelReady(conn, s)
	case m.kind == kindEnded:
		conn.owner.TunnelEnded(conn, Ending{Reason: m.reason, Ready: m.ready, Text: plainText(m.text)})
	}
}

// handleEnd handles the end of a process, whether it was intended or not.
func (p *process) handleEnd() {
	t := p.tunnel
	t.mu.Lock()
	p.hangUp()
	t.mu.Unlock()
	<-p.unsent
	status := p.reap()

	t.mu.Lock()
	for i, q := range t.all {
		if q == p {
			t.all = append(t.all[:i], t.all[i+1:]...)
			break
		}
	}
	if t.current == p {
		t.current = nil
	}
	lost := p.conns
	p.conns = make(map[uint64]*Conn)
	// Messages that were not sent can go to another process.
	var unsent []*request
	for _, r := range p.out {
		switch {
		case r.conn != nil && lost[r.conn.id] != nil && !t.closed:
			delete(lost, r.conn.id)
			r.conn.process = nil
			unsent = append(unsent, r)
		default:
			closeAll(r.fds)
		}
	}
	p.out = nil
	t.queue = append(unsent, t.queue...)
	unexpected := !t.closed && (!p.retired || len(lost) > 0)
	if unexpected {
		if time.Since(p.started) > steadyTime {
			t.pause = 0
		}
		t.lengthenPause()
		t.options.Logf("tunnel process pid=%d ended unexpectedly (%s), TLS connections lost=%d", p.pid, status, len(lost))
	}
	t.poke()
	t.mu.Unlock()
	for _, c := range lost {
		c.owner.TunnelEnded(c, Ending{Reason: Died, Text: "the tunnel process ended (" + status + ")"})
	}
}

// reap waits for the child, which ends because its control socket is closed. After 2 s
// it kills the child. Its process ID cannot be reused before it is reaped. reap does
// nothing to a process that is not this process's child.
func (p *process) reap() (status string) {
	defer close(p.gone)
	var ws unix.WaitStatus
	patience := time.Now().Add(2 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		pid, err := unix.Wait4(p.pid, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err.Error()
		case pid == p.pid && ws.Signaled():
			return "by " + ws.Signal().String()
		case pid == p.pid:
			return fmt.Sprintf("with status %d", ws.ExitStatus())
		}
		if time.Now().After(patience) {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
		time.Sleep(pause)
	}
}
