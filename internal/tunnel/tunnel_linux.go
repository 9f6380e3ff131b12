package tunnel

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxProcesses is how many tunnel processes may run at a time.
	maxProcesses = 8

	// maxInFlight bounds the descriptors that were sent and not yet received. For an
	// unprivileged user, the kernel accepts at most RLIMIT_NOFILE of them (unix(7)).
	maxInFlight = 1000

	// maxQueue bounds the connections that wait to be sent.
	maxQueue = 8192

	// The pause before a process is started again grows from firstPause to lastPause. A
	// miner without a pool waits for 30 s, and its link must be restored by then.
	firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second

	// tickEvery is how often waiting connections and processes are checked.
	tickEvery = 500 * time.Millisecond

	// steadyTime is how long a process must have run for the pause to be reset.
	steadyTime = time.Minute

	// certificateWait is how long a new process may take for the certificate
	// before it gets connections without one.
	certificateWait = 5 * time.Second
)

// Tunnel is the daemon's side: it starts tunnel processes and hands them
// connections. Unless stated otherwise, its methods may be called from any
// goroutine and do not block.
type Tunnel struct {
	options Options
	wake    chan struct{} // wakes supervise

	mu      sync.Mutex // guards the following fields and all fields of processes
	begun   bool       // supervise is running
	frozen  bool
	closed  bool
	lastID  uint64
	all     []*process
	current *process   // gets new connections; nil if there is none
	queue   []*request // requests that wait for a process
	pause   time.Duration
	next    time.Time // the earliest time of the next start
	wanted  bool      // start a process even if no connection waits for one
	failure string    // the last error logged about a failed start, or ""
	pair    pairFiles

	stop    chan struct{}
	running sync.WaitGroup // all goroutines except those that wait for children
}

// Conn is a connection that the tunnel holds for an owner.
type Conn struct {
	tunnel  *Tunnel
	id      uint64
	owner   Owner
	process *process // nil while the connection waits for one
	sent    bool     // the process has the descriptors
}

// request is a message that carries descriptors or waits to be sent.
type request struct {
	message *message
	fds     []int // to be closed once they are sent
	conn    *Conn
	expires time.Time
	trust   *Trust
}

// New returns a tunnel without a process. The first connection starts one.
func New(o Options) (*Tunnel, error) {
	if o.Args == nil {
		o.Args = []string{"-tunnel"}
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = 20 * time.Second
	}
	if o.ReportEvery == 0 {
		o.ReportEvery = 10 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.Certificate == nil {
		o.Certificate = func(Certificate) {}
	}
	return &Tunnel{options: o, wake: make(chan struct{}, 1), stop: make(chan struct{})}, nil
}

// Server hands over an accepted connection. It returns the unencrypted side, which is an
// ordinary non-blocking stream socket with close-on-exec. The caller may use it at once
// and must close it. After an error, r.FD still belongs to the caller.
func (t *Tunnel) Server(r ServerRequest, owner Owner) (int, *Conn, error) {
	if len(r.Early) > MaxEarly {
		return -1, nil, fmt.Errorf("%d bytes were read before the handshake, at most %d can go with it", len(r.Early), MaxEarly)
	}
	m := &message{kind: kindServer, deadline: r.Timeout, address: r.Address, early: slices.Clone(r.Early)}
	return t.open(m, r.FD, nil, owner)
}

// Client hands over an established connection to a pool, as Server does.
func (t *Tunnel) Client(r ClientRequest, owner Owner) (int, *Conn, error) {
	if len(r.ServerName) > maxName || len(r.Pins) > maxFingerprints {
		return -1, nil, fmt.Errorf("the server's name is too long, or more than %d fingerprints", maxFingerprints)
	}
	m := &message{kind: kindClient, deadline: r.Timeout, address: r.Address, serverName: r.ServerName, pins: slices.Clone(r.Pins), noVerify: r.NoVerify}
	if r.Trust != nil {
		m.trust = r.Trust.key
	}
	return t.open(m, r.FD, r.Trust, owner)
}

func (t *Tunnel) open(m *message, fd int, trust *Trust, owner Owner) (int, *Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("socketpair: %w", err)
	}
	wait := m.deadline
	if wait <= 0 {
		wait = 15 * time.Second
		m.deadline = wait
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		err = ErrClosed
	case len(t.queue) >= maxQueue || t.current != nil && len(t.current.out) >= maxQueue:
		err = ErrBusy
	}
	if err != nil {
		closeAll(pair[:])
		return -1, nil, err
	}
	t.lastID++
	m.id = t.lastID
	c := &Conn{tunnel: t, id: m.id, owner: owner}
	t.dispatch(&request{message: m, fds: []int{fd, pair[1]}, conn: c, expires: time.Now().Add(wait), trust: trust})
	t.begin()
	return pair[0], c, nil
}

// dispatch gives a connection to the current process, or queues it until there is one.
// t.mu is held.
func (t *Tunnel) dispatch(r *request) {
	p := t.current
	if p == nil {
		t.queue = append(t.queue, r)
		t.poke()
		return
	}
	if r.trust != nil && !p.trusts[r.trust.key] {
		fd, err := memoryFile(r.trust.pem)
		if err != nil {
			t.options.Logf("certificates to trust: %v", err) // the child refuses the connection
		} else {
			p.trusts[r.trust.key] = true
			p.enqueue(&request{message: &message{kind: kindTrust, trust: r.trust.key}, fds: []int{fd}})
		}
	}
	r.conn.process = p
	p.conns[r.conn.id] = r.conn
	p.enqueue(r)
}

// memoryFile returns an unnamed file in memory that contains b.
func memoryFile(b []byte) (int, error) {
	fd, err := unix.MemfdCreate("certificates", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		b = b[n:]
	}
	return fd, nil
}

// Reset resets the peer's TCP connection. The caller closes its own end
// afterwards; if the close overtakes the reset, the connection ends normally.
func (c *Conn) Reset() {
	t := c.tunnel
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.process != nil {
		c.process.enqueue(&request{message: &message{kind: kindReset, id: c.id}})
	}
}

// begin starts supervise on the first call. t.mu is held.
func (t *Tunnel) begin() {
	if t.begun || t.frozen || t.closed {
		return
	}
	t.begun = true
	stop := t.stop
	t.running.Go(func() { t.supervise(stop) })
	if t.options.CertFile != "" {
		go t.watchPair(t.stop) // Close does not wait for it, because a file system may hang
	}
}

// poke wakes supervise.
func (t *Tunnel) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// supervise starts processes when they are needed, and enforces time limits.
func (t *Tunnel) supervise(stop <-chan struct{}) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	asked := time.Now()
	ticked := false
	for {
		t.mu.Lock()
		now := time.Now()
		start := !t.frozen && !t.closed && t.mustStart(now)
		late := t.removeExpired(now)
		if ticked {
			ticked = false
			t.killSilent()
		}
		t.promoteReady(now)
		var wait time.Duration
		if t.mustStart(t.next) && t.next.After(now) {
			wait = t.next.Sub(now)
		}
		if now.Sub(asked) >= t.options.ReportEvery {
			asked = now
			t.requestReports()
		}
		t.mu.Unlock()
		for _, r := range late {
			closeAll(r.fds)
			r.conn.owner.TunnelEnded(r.conn, Ending{Reason: Died, Text: "no tunnel process took the connection in time"})
		}
		if start {
			t.start()
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-stop:
			return
		case <-t.wake:
		case <-tick.C:
			ticked = true
		case <-due:
		}
	}
}

// mustStart reports whether a process must be started now. t.mu is held.
func (t *Tunnel) mustStart(now time.Time) bool {
	if now.Before(t.next) || t.current == nil && len(t.queue) == 0 && !t.wanted || t.current != nil && !t.wanted {
		return false
	}
	for _, p := range t.all {
		if !p.retired && p != t.current && p.program == t.options.Program {
			return false // this process is being started
		}
	}
	return len(t.all) < maxProcesses
}

// removeExpired removes and returns connections that have waited too long, because no
// process can be started or because a process accepts no messages. t.mu is held.
func (t *Tunnel) removeExpired(now time.Time) []*request {
	var late []*request
	isLate := func(r *request) bool {
		if r.conn == nil || now.Before(r.expires) {
			return false
		}
		late = append(late, r)
		return true
	}
	t.queue = slices.DeleteFunc(t.queue, isLate)
	for _, p := range t.all {
		if len(p.out) < 2 {
			continue
		}
		n := len(late)
		rest := slices.DeleteFunc(p.out[1:], isLate) // the first message may be being sent
		p.out = p.out[:1+len(rest)]
		for _, r := range late[n:] {
			delete(p.conns, r.conn.id)
		}
	}
	return late
}

// killSilent kills processes that have not answered for too long, because their
// connections are stuck and new ones accumulate. Time is counted in ticks, so that it
// does not pass while this process is stopped. t.mu is held.
func (t *Tunnel) killSilent() {
	for _, p := range t.all {
		if p.hello && !p.asked || p.hungUp {
			p.silent = 0
			continue
		}
		if p.silent++; p.silent == max(1, int(t.options.Patience/tickEvery)) {
			t.options.Logf("tunnel process pid=%d has not answered for %v and is killed", p.pid, t.options.Patience)
			p.kill()
		}
	}
}

// requestReports requests a report from each process. t.mu is held.
func (t *Tunnel) requestReports() {
	for _, p := range t.all {
		if p.hello && !p.asked && p.protocol == Protocol {
			p.asked = true
			p.enqueue(&request{message: &message{kind: kindAsk}})
		}
	}
}

// promoteReady directs new connections to a new process once it has said hello and
// has the certificate. t.mu is held.
func (t *Tunnel) promoteReady(now time.Time) {
	for _, p := range t.all {
		if p == t.current || p.retired || !p.hello || p.protocol != Protocol || p.program != t.options.Program {
			continue
		}
		waiting := t.options.CertFile != "" && !p.certified && now.Sub(p.started) < certificateWait && (t.pair.err == nil || t.pair.good != nil)
		// A process with a certificate is not replaced by one without.
		if waiting || t.options.CertFile != "" && t.current != nil && t.current.certified && !p.certified {
			continue
		}
		t.current, t.wanted = p, false
		// Besides the former process, there may be processes of programs that were
		// replaced before their process was ready.
		for _, other := range t.all {
			if other != p {
				other.retire()
			}
		}
		queue := t.queue
		t.queue = nil
		for _, r := range queue {
			t.dispatch(r)
		}
		return
	}
}

// Processes describes the running tunnel processes.
func (t *Tunnel) Processes() []Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Process
	for _, p := range t.all {
		all = append(all, Process{PID: p.pid, Program: p.program, Current: p == t.current, Connections: len(p.conns), Report: p.report, Reported: p.reported})
	}
	return all
}

// Close ends all connections and processes without calling any owner, and waits
// until they are gone. That takes milliseconds, or seconds if a process hangs and
// has to be killed. It must not be called from an owner's callback.
func (t *Tunnel) Close() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.closed = true
	if !t.frozen {
		close(t.stop)
	}
	for _, r := range t.queue {
		closeAll(r.fds)
	}
	t.queue = nil
	all := slices.Clone(t.all)
	for _, p := range all {
		clear(p.conns)
		p.hangUp()
		if t.frozen {
			go p.reap() // the process's goroutines have ended
			p.log.close()
		}
	}
	t.mu.Unlock()
	t.running.Wait()
	for _, p := range all {
		<-p.gone
	}
	t.mu.Lock()
	t.pair.close()
	t.mu.Unlock()
}

// start starts a process. Only supervise calls it.
func (t *Tunnel) start() {
	p, err := startProcess(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && t.closed {
		p.hangUp()
		go p.reap()
		p.log.close()
		return
	}
	if err != nil {
		t.lengthenPause()
		if text := err.Error(); text != t.failure {
			t.failure = text
			t.options.Logf("tunnel process cannot be started: %v", err)
		}
		return
	}
	t.failure = ""
	t.all = append(t.all, p)
	if len(t.all) == maxProcesses {
		t.options.Logf("%d tunnel processes are running, no more are started until one of them ends", maxProcesses)
	}
	t.pair.give(p)
	if !t.frozen { // otherwise the next program takes it over, or Thaw runs it
		p.run()
	}
}

// lengthenPause lengthens the pause before the next start. t.mu is held.
func (t *Tunnel) lengthenPause() {
	t.pause = min(max(2*t.pause, firstPause), lastPause)
	t.next = time.Now().Add(t.pause)
}

// environment returns the part of the daemon's environment that the child needs.
func environment() []string {
	var kept []string
	for _, name := range []string{"GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			kept = append(kept, name+"="+value)
		}
	}
	return kept
}
