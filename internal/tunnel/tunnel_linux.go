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
