package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ControlFD is the number under which the child finds its control socket.
const ControlFD = 3

const (
	// maxHandshakes bounds the half-open handshakes of miners: each has a
	// goroutine and the state of one handshake, 20 KB or so.
	maxHandshakes = 4096

	// maxAddressHandshakes bounds the half-open handshakes of one address. A farm behind one
	// address connects all its miners at once after an outage.
	maxAddressHandshakes = 1024

	// maxTrusts bounds the sets of trusted certificates that are kept; the daemon
	// sends a dropped one again when it is needed.
	maxTrusts = 64

	// maxClientConfigs bounds the configurations that are kept for connections to pools.
	maxClientConfigs = 256

	// acknowledgeEvery is how many descriptors one acknowledgement covers. Up to 1,000
	// may be unacknowledged.
	acknowledgeEvery = 128
)

// server is the child: everything that holds TLS state.
type server struct {
	control *control
	loops   []*loop
	next    int // index of the next loop to use; control goroutine only

	certificate atomic.Pointer[tls.Certificate]
	taking      sync.Mutex // held while the certificate is replaced
	taken       uint64     // number of the certificate in use; guarded by taking
	config      *tls.Config
	compute     chan struct{} // holds one token for each handshake that is computing
	queueing    atomic.Int32  // number of handshakes that wait for a token

	idle    chan *handshake // read by goroutines that are waiting for another handshake
	waiting atomic.Int32    // number of these goroutines

	handshakes atomic.Uint64
	failed     [reasons]atomic.Uint64

	mu          sync.Mutex
	conns       map[uint64]*conn
	handshaking int            // number of handshakes with miners
	clients     int            // number of handshakes with pools
	byAddress   map[string]int // number of handshakes with miners of each address
	retired     bool

	roots      atomic.Pointer[x509.CertPool] // the system's authorities; nil means those that crypto/x509 has read
	rootsEvery time.Duration                 // how often they are read again; tests shorten it

	// The following fields belong to the control goroutine.

	follows  bool // followRoots is running
	trusts   map[digest]*x509.CertPool
	ages     []digest // the keys of trusts, the oldest first
	configs  map[string]*tls.Config
	returned uint64 // handshakes completed when memory was last returned to the system
	reported uint64 // handshakes completed at the last report

	writing sync.Mutex // held while messages taken from out are sent

	outMu sync.Mutex
	out   [][]byte

	outNew chan struct{}
	empty  chan struct{} // closed when a retired child has no connection left
	ended  sync.Once
}

// Serve runs the child. It returns when the daemon is gone, or when the last connection
// ends after the daemon has retired the child. The process must then exit. Serve must be
// called on the main goroutine, before the process does anything else.
func Serve(controlFD int, program string) error {
	// Signals to the process group are meant for the daemon. This process ends when
	// the daemon does.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	if name, err := unix.BytePtrFromString("switcherTunnel"); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	closeInherited(controlFD)
	// Standard error is a pipe to the daemon, which may be stopped or being replaced.
	_ = unix.SetNonblock(2, true)
	// Keep keys out of debuggers and core files, and prevent any gain of privileges.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	collectBySlack()
	if t, err := unix.GetsockoptInt(controlFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || t != unix.SOCK_SEQPACKET {
		return errors.New("-tunnel is how the switcher starts its own helper process; it cannot be started by hand")
	}
	c, err := newControl(controlFD)
	if err != nil {
		return err
	}
	s := &server{
		control:   c,
		compute:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
		conns:     make(map[uint64]*conn),
		byAddress: make(map[string]int),
		trusts:    make(map[digest]*x509.CertPool),
		configs:   make(map[string]*tls.Config),
		idle:      make(chan *handshake),
		outNew:    make(chan struct{}, 1),
		empty:     make(chan struct{}),
	}
	s.config = &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true, // a line is small, and a write is a record
		// Shares are public within minutes, so protection against later decryption of
		// recorded traffic is not worth a third more CPU per handshake.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		// Miners mostly reconnect because this process has ended, and then its ticket
		// keys are lost.
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := s.certificate.Load(); cert != nil {
				return cert, nil
			}
			return nil, errNoCertificate
		},
	}
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(s)
		if err != nil {
			return err
		}
		s.loops = append(s.loops, l)
		go l.run()
	}
	s.sendToDaemon(&message{kind: kindHello, protocol: Protocol, pid: uint32(os.Getpid()), descriptors: uint32(descriptorLimit()), program: program})
	failed := make(chan error, 2)
	go func() { failed <- s.write() }()
	go func() { failed <- s.read() }()
	select {
	case err = <-failed:
	case <-s.empty:
		// The daemon may be frozen; the last messages then wait in the kernel.
		err = s.writeQueued()
	}
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return nil // the daemon is gone and has not read everything
	}
	return err
}

// closeInherited closes descriptors that the daemon itself inherited and does not know,
// such as a file that stays locked while any process has it open. It recognizes them
// because all descriptors that this process opened have close-on-exec.
func closeInherited(controlFD int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 || fd == controlFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

func descriptorLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return limit.Cur
}

// sendToDaemon sends a message to the daemon, or queues it if the socket is full or other
// messages are queued. It never blocks. The number of connections bounds the queue,
// because each has at most two messages.
func (s *server) sendToDaemon(m *message) {
	b := m.appendTo(nil)
	if s.writing.TryLock() {
		s.outMu.Lock()
		first := len(s.out) == 0
		s.outMu.Unlock()
		sent := first && s.control.trySend(b, nil)
		s.writing.Unlock()
		if sent {
			return
		}
	}
	s.outMu.Lock()
	s.out = append(s.out, b)
	s.outMu.Unlock()
	select {
	case s.outNew <- struct{}{}:
	default:
	}
}

// write sends the messages that sendToDaemon has queued.
func (s *server) write() error {
	for range s.outNew {
		if err := s.writeQueued(); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) writeQueued() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.outMu.Lock()
	out := s.out
	s.out = nil
	s.outMu.Unlock()
	for _, b := range out {
		if err := s.control.send(b, nil); err != nil {
			return err
		}
	}
	return nil
}

// read handles the daemon's messages. It returns nil when the daemon is gone.
func (s *server) read() error {
	received := uint32(0)
	for {
		b, fds, lost, err := s.control.receive()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			closeAll(fds)
			return nil
		}
		m, err := decode(b)
		if err != nil {
			fmt.Fprintf(os.Stderr, "tunnel: control socket: %v\n", err)
			closeAll(fds)
			continue
		}
		// Acknowledgements are collected, because each one wakes the daemon.
		if received += uint32(m.kind.descriptors()); received >= acknowledgeEvery {
			s.sendToDaemon(&message{kind: kindReceived, count: received})
			received = 0
		}
		if len(fds) != m.kind.descriptors() {
			closeAll(fds)
			s.refuseMessage(m, lost)
			continue
		}
		s.handle(m, fds)
	}
}

// refuseMessage answers a message that arrived without its descriptors. lost is set if
// the kernel dropped them because this process has too many.
func (s *server) refuseMessage(m *message, lost bool) {
	reason, text := Internal, "the descriptors are missing"
	if lost {
		reason, text = Limit, "the tunnel process has no descriptors left"
	}
	switch m.kind {
	case kindServer, kindClient:
		s.failed[reason].Add(1)
		s.sendToDaemon(&message{kind: kindEnded, id: m.id, reason: reason, text: text})
	case kindCertificate:
		s.sendToDaemon(&message{kind: kindCertificateTaken, id: m.id, reason: reason, text: text})
	}
}

func (s *server) handle(m *message, fds []int) {
	switch m.kind {
	case kindServer, kindClient:
		s.open(m, fds)
	case kindReset:
		s.mu.Lock()
		c := s.conns[m.id]
		s.mu.Unlock()
		if c != nil {
			c.loop.post(c.resetByDaemon)
		}
	case kindCertificate:
		// A file system that does not answer must not hold up anything else.
		go s.takeCertificate(m.id, fds)
	case kindTrust:
		s.takeTrust(m.trust, fds[0])
	case kindRetire:
		s.mu.Lock()
		s.retired = true
		s.mu.Unlock()
		s.endIfEmpty()
	case kindAsk:
		report := s.report()
		s.sendToDaemon(&message{kind: kindReport, report: report})
		s.returnMemory(report.Handshakes)
	}
}

func (s *server) endIfEmpty() {
	s.mu.Lock()
	over := s.retired && len(s.conns) == 0
	s.mu.Unlock()
	if over {
		s.ended.Do(func() { close(s.empty) })
	}
}
