package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Reason is why a connection ended. There are few enough reasons to count each of them.
type Reason uint8

const (
	Closed           Reason = iota // both sides have closed, or one during the handshake
	Reset                          // the peer has reset the connection, or vanished
	ResetByDaemon                  // Conn.Reset
	Timeout                        // the handshake took too long
	NotTLS                         // the peer speaks something else
	OldVersion                     // no common version of TLS; ours are 1.2 and 1.3
	NoCommonCipher                 // no common cipher suite, curve or signature
	Refused                        // the peer has sent an alert, for instance about our certificate
	Malformed                      // the peer violates the protocol
	Expired                        // the peer's certificate has expired
	NotYetValid                    // the peer's certificate is not valid yet
	WrongName                      // the peer's certificate is for another name
	UnknownAuthority               // no trusted authority has signed the peer's certificate
	WrongFingerprint               // the peer's certificate is not the pinned one
	BadCertificate                 // the peer's certificate has another fault
	Busy                           // too many unfinished handshakes, in total or from this address
	NoCertificate                  // there is no server certificate
	Limit                          // the process has no descriptors left
	Died                           // the tunnel process has ended
	Internal                       // a fault of the tunnel itself
	reasons                        // number of reasons
)

var reasonNames = [reasons]string{
	"closed", "reset", "reset by the switcher", "timeout", "not TLS", "old version", "no common cipher", "refused by the peer",
	"malformed", "expired", "not yet valid", "wrong name", "unknown authority", "wrong fingerprint", "bad certificate",
	"busy", "no certificate", "limit", "tunnel process ended", "internal",
}

// Reasons returns all reasons, for counters.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// errFingerprint is returned by the check of pinned certificates.
var errFingerprint = errors.New("the certificate is not the pinned one")

// errNoCertificate ends a server handshake when no certificate is loaded.
var errNoCertificate = errors.New("no certificate is loaded")

// reasonOf classifies the error of a handshake or of a read from the peer.
func reasonOf(err error) Reason {
	var header tls.RecordHeaderError
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return Closed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ETIMEDOUT),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Reset
	case errors.Is(err, errFingerprint):
		return WrongFingerprint
	case errors.Is(err, errNoCertificate):
		return NoCertificate
	case errors.As(err, &header):
		return NotTLS
	case errors.As(err, &authority):
		return UnknownAuthority
	case errors.As(err, &name):
		return WrongName
	case errors.As(err, &invalid):
		if invalid.Reason != x509.Expired {
			return BadCertificate
		}
		if invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore) {
			return NotYetValid
		}
		return Expired
	case errors.As(err, &verification):
		return BadCertificate
	}
	text := err.Error()
	switch {
	// crypto/tls has no error types for these.
	case strings.Contains(text, "protocol version"), strings.Contains(text, "unsupported versions"), strings.Contains(text, "unsupported protocol version"):
		return OldVersion
	case strings.Contains(text, "no cipher suite supported"), strings.Contains(text, "no ECDHE curve supported"),
		strings.Contains(text, "no mutually supported"), strings.Contains(text, "unsupported signature algorithms"),
		strings.Contains(text, "handshake failure"), strings.Contains(text, "unconfigured cipher suite"):
		return NoCommonCipher
	case errors.As(err, &op) && op.Op == "remote error":
		return Refused
	case strings.HasPrefix(text, "tls: failed to parse certificate"):
		return BadCertificate
	}
	return Malformed
}

// plainText makes a text safe for a log line: it replaces unprintable characters and
// limits the length. The peer chooses the names in its certificate, for instance.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxText {
		s = s[:maxText-3] + "..."
	}
	return s
}
