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

	// ErrClosed means that the tunnel is being closed, or is frozen for good.
	ErrClosed = errors.New("the tunnel is closed")
)

// Owner is told what becomes of a connection. The calls come from a goroutine
// of the tunnel, one at a time for each tunnel process; they must not block and
// must not call back into the tunnel except for Conn.Reset. An owner that lives
// on a loop posts them there.
type Owner interface {
	// TunnelReady says that the handshake is done. It is called at most once,
	// before TunnelEnded.
	TunnelReady(c *Conn, s Secured)

	// TunnelEnded says that the connection is gone or was never established. It is
	// called exactly once for each connection, whatever happens, unless the
	// tunnel is closed first.
	TunnelEnded(c *Conn, e Ending)
}

// Secured describes a finished handshake.
type Secured struct {
	Version  uint16 // such as tls.VersionTLS13
	Suite    uint16
	Resumed  bool
	NotAfter time.Time // end of the peer's certificate; zero if it has sent none
}

// Ending says how a connection ended.
type Ending struct {
	Reason Reason
	Ready  bool   // the handshake had been done
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
	FD      int           // the TCP connection; it belongs to the tunnel from the call on
	Address string        // the peer's address, for the limit on half-open handshakes
	Early   []byte        // bytes that were already read, at most MaxEarly
	Timeout time.Duration // for the handshake
}

// ClientRequest asks for a TLS client on an established connection.
type ClientRequest struct {
	FD         int
	Address    string // of the pool, for messages
	ServerName string // the name to ask for, which the certificate must contain
	Trust      *Trust // nil: the system's certificates
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

// Process describes a living tunnel process.
type Process struct {
	PID         int
	Program     string
	Current     bool // takes new connections
	Connections int
	Report      Report
	Reported    time.Time // when the report arrived; zero if there is none yet
}

// Certificate is the outcome of loading the certificate that miners get.
type Certificate struct {
	Pair *Pair // the pair in use, nil if there is none
	Err  error // why the files' present content is not used, nil if it is
}

// Options are given once. All functions may be called from any goroutine of the
// tunnel and must not block.
type Options struct {
	// Program is this program's version. A tunnel process of another one is
	// replaced after an upgrade.
	Program string

	// Args is the command line of the child behind the program's name; nil
	// means "-tunnel".
	Args []string

	CertFile, KeyFile string

	// CheckEvery is how often the certificate files are checked; zero means 20 s.
	CheckEvery time.Duration

	// ReportEvery is how often tunnel processes are asked for a report; zero means 10 s.
	ReportEvery time.Duration

	// Patience is how long a process may take for an answer, or for its first
	// word, before it is killed; zero means 20 s.
	Patience time.Duration

	Logf        func(format string, args ...any) // logs for the operator; nil disables logging
	Stderr      io.Writer                        // takes what tunnel processes write to standard error; nil means os.Stderr
	Certificate func(Certificate)                // called when the certificate changes or cannot be loaded; may be nil
}

// State is what the next program needs to continue after exec. It is part of
// runtime.json.
type State struct {
	LastID    uint64
	Processes []ProcessState `json:",omitempty"`
	Waiting   []WaitingState `json:",omitempty"` // not handed over yet
	Pair      *PairState     `json:",omitempty"` // nil: there is none
}

// PairState is the last good certificate and its key: files in memory, which nobody
// can spoil.
type PairState struct {
	CertFD, KeyFD int
	Serial        uint64 // of the last pair, good or not
}

// ProcessState is a tunnel process.
type ProcessState struct {
	PID, ControlFD, Protocol           int
	LogFD                              int `json:",omitempty"` // its standard error; 0: none
	Program                            string
	Hello, Current, Certified, Retired bool
	InFlight                           int
	Resets                             []uint64 `json:",omitempty"` // not sent yet
}

// WaitingState is a connection that was not handed to a process yet.
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

// Ref names a connection across exec.
type Ref struct {
	Process int `json:",omitempty"` // number of its process, 0 while it waits for one
	ID      uint64
}
