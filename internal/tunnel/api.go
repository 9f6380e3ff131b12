package tunnel

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var (
	// ErrUnsupported is the error of every call on systems other than Linux.
	ErrUnsupported = errors.New("TLS needs Linux")

	// ErrBusy means that too many connections are waiting for the tunnel process.
	ErrBusy = errors.New("too many connections wait for the tunnel process")

	// ErrClosed means that Close was called.
	ErrClosed = errors.New("the tunnel is closed")
)

// Owner is notified of the events of a connection. The calls come from a goroutine of
// the tunnel, one at a time for each tunnel process. They must not block and must not
// call any method of the tunnel except Conn.Reset. An owner that belongs to a loop posts
// the events there.
type Owner interface {
	// TunnelReady reports that the handshake is done. It is called at most once,
	// before TunnelEnded.
	TunnelReady(c *Conn, s Secured)

	// TunnelEnded reports that the connection has ended or was never established. It
	// is called exactly once for each connection, unless the tunnel is closed first.
	TunnelEnded(c *Conn, e Ending)
}

// Secured describes a finished handshake.
type Secured struct {
	Version  uint16    // such as tls.VersionTLS13
	Suite    uint16    // the cipher suite, such as tls.TLS_AES_128_GCM_SHA256
	Resumed  bool      // a former session was resumed
	NotAfter time.Time // when the peer's certificate expires; zero if the peer has sent none
}

// Ending says how a connection ended.
type Ending struct {
	Reason Reason
	Ready  bool   // the handshake was done before
	Text   string // at most 200 printable bytes
}

func (e Ending) String() string {
	if e.Text == "" {
		return e.Reason.String()
	}
	return fmt.Sprintf("%v: %s", e.Reason, e.Text)
}

// ServerRequest asks for a TLS server on an accepted connection.
type ServerRequest struct {
	FD      int           // the TCP connection, which the tunnel owns after the call
	Address string        // the peer's address, for the limit on half-open handshakes
	Early   []byte        // bytes that were already read, at most MaxEarly
	Timeout time.Duration // for the handshake
}

// ClientRequest asks for a TLS client on an established connection.
type ClientRequest struct {
	FD         int
	Address    string // the pool's address, for messages
	ServerName string // the name that is sent to the pool and that its certificate must contain
	Trust      *Trust // the trusted certificates; nil stands for the system's
	Pins       []Fingerprint
	NoVerify   bool // accept any certificate
	Timeout    time.Duration
}

// Fingerprint is the SHA-256 of a certificate in DER form.
type Fingerprint = digest

// ParseFingerprint reads 64 hexadecimal digits, with or without colons, as
// openssl x509 -fingerprint -sha256 prints them.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("fingerprint %q: a SHA-256 has 64 hexadecimal digits", s)
	}
	copy(f[:], b)
	return f, nil
}

// Trust is a set of certificates that may have signed a pool's certificate.
type Trust struct {
	pem []byte
	key digest
}

// LoadTrust reads the file of TLSCAFile.
func LoadTrust(path string) (*Trust, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := parseTrust(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Trust{b, sha256.Sum256(b)}, nil
}

func parseTrust(b []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for rest := b; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block of type %q, not only certificates", plainText(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		pool.AddCert(cert)
	}
	if n == 0 || bytes.Count(b, []byte("-----BEGIN ")) != n {
		return nil, errors.New("it holds no PEM certificate, or a damaged one")
	}
	return pool, nil
}

// Report is what a tunnel process reports about itself.
type Report struct {
	Resident, Private, Heap      uint64 // in bytes; Private excludes memory shared with other processes
	Goroutines                   uint64
	Connections, Handshaking     uint64
	Descriptors, DescriptorLimit uint64
	Handshakes                   uint64          // completed since the process started
	Failed                       [reasons]uint64 // failed handshakes by Reason
}

// Process describes a running tunnel process.
type Process struct {
	PID         int
	Program     string
	Current     bool // it gets the new connections
	Connections int
	Report      Report
	Reported    time.Time // when the report arrived; zero if there is none yet
}

// Certificate is the outcome of loading the certificate that miners get.
type Certificate struct {
	Pair *Pair // the pair in use, or nil if there is none
	Err  error // the reason why the present files are not used, or nil if they are
}

// Options are the options of New and Resume. The functions may be called from any
// goroutine of the tunnel and must not block.
type Options struct {
	// Program is this program's version. A tunnel process of another one is
	// replaced after an upgrade.
	Program string

	// Args are the child's arguments after the program's name. Nil stands for
	// "-tunnel".
	Args []string

	CertFile, KeyFile string

	// CheckEvery is how often the certificate files are checked; zero means 20 s.
	CheckEvery time.Duration

	// ReportEvery is how often tunnel processes are asked for a report; zero means 10 s.
	ReportEvery time.Duration

	// Patience is how long a process may take for an answer, or for its first
	// message, before it is killed; zero means 20 s.
	Patience time.Duration

	Logf        func(format string, args ...any) // logs for the operator; nil disables logging
	Stderr      io.Writer                        // receives the standard error of tunnel processes; nil means os.Stderr
	Certificate func(Certificate)                // called when the certificate changes or cannot be loaded; may be nil
}

// State is the state that the next program needs to continue after exec. It is part of
// runtime.json.
type State struct {
	LastID    uint64
	Processes []ProcessState `json:",omitempty"`
	Waiting   []WaitingState `json:",omitempty"` // connections that no process has yet
	Pair      *PairState     `json:",omitempty"` // nil if there is no pair
}

// PairState is the last good certificate and its key. They are in memory files, which no
// other process can change.
type PairState struct {
	CertFD, KeyFD int
	Serial        uint64 // the number of the last pair, whether it was good or not
}

// ProcessState is a tunnel process.
type ProcessState struct {
	PID, ControlFD, Protocol           int
	LogFD                              int `json:",omitempty"` // the pipe of its standard error, or 0
	Program                            string
	Hello, Current, Certified, Retired bool
	InFlight                           int
	Resets                             []uint64 `json:",omitempty"` // not sent yet
}

// WaitingState is a connection that no process has yet.
type WaitingState struct {
	Message []byte
	FDs     []int
	Left    time.Duration
	Trust   []byte `json:",omitempty"`
}

// Descriptors returns the descriptors that must survive exec.
func (s *State) Descriptors() []int {
	var fds []int
	for _, p := range s.Processes {
		fds = append(fds, p.ControlFD)
		if p.LogFD > 0 {
			fds = append(fds, p.LogFD)
		}
	}
	for _, w := range s.Waiting {
		fds = append(fds, w.FDs...)
	}
	if s.Pair != nil {
		fds = append(fds, s.Pair.CertFD, s.Pair.KeyFD)
	}
	return fds
}

// Ref identifies a connection before and after exec.
type Ref struct {
	Process int `json:",omitempty"` // the process ID of its tunnel process, or 0 while it waits for one
	ID      uint64
}
