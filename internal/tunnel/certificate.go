package tunnel

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// maxPEM is the longest file of certificates or keys that is read. The system's
// own collection has about 220 KB.
const maxPEM = 1 << 20

// Pair describes a certificate and its key.
type Pair struct {
	Names               []string // that the certificate is for
	NotBefore, NotAfter time.Time
}

// CheckPair loads the files of TLSCertFile and TLSKeyFile as the tunnel process
// would. The error tells the operator which file is wrong, and why.
func CheckPair(certFile, keyFile string) (*Pair, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("TLSCertFile is %q (%w), must be a PEM file with the certificate and its chain", certFile, err)
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLSKeyFile is %q (%w), must be a PEM file with the certificate's private key", keyFile, err)
	}
	pair, err := parsePair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("TLSCertFile is %q and TLSKeyFile %q, must be a pair: %w", certFile, keyFile, err)
	}
	return describe(pair.Leaf), nil
}

// ReadCertificate describes the first certificate of a file without looking at its
// key.
func ReadCertificate(path string) (*Pair, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			return describe(leaf), nil
		}
	}
	return nil, fmt.Errorf("%s holds no PEM certificate", path)
}

func describe(leaf *x509.Certificate) *Pair {
	p := &Pair{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Names: append([]string(nil), leaf.DNSNames...)}
	for _, ip := range leaf.IPAddresses {
		p.Names = append(p.Names, ip.String())
	}
	return p
}

// Warning returns a warning if the pair has expired, is not valid yet, or expires
// within the given number of days, and "" otherwise.
func (p *Pair) Warning(now time.Time, days int) string {
	left := p.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return fmt.Sprintf("the TLS certificate expired on %s UTC: miners that check it cannot connect", p.NotAfter.UTC().Format(time.DateTime))
	case now.Before(p.NotBefore):
		return fmt.Sprintf("the TLS certificate is valid only from %s UTC: miners that check it cannot connect before", p.NotBefore.UTC().Format(time.DateTime))
	case left < time.Duration(days)*24*time.Hour:
		return fmt.Sprintf("the TLS certificate expires on %s UTC, in %d days", p.NotAfter.UTC().Format(time.DateTime), int(left.Hours()/24))
	}
	return ""
}

// parsePair checks that a certificate and a key are there and belong together.
// Messages of crypto/tls are replaced by ones that say what to do.
func parsePair(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "does not match"):
		return nil, errors.New("the key does not belong to the certificate; the server's own certificate must be the first in its file")
	case strings.Contains(err.Error(), "in certificate input"), strings.Contains(err.Error(), "rather than a certificate"):
		return nil, errors.New("the certificate file holds no PEM certificate")
	case strings.Contains(err.Error(), "failed to parse private key") && isEncrypted(keyPEM):
		return nil, errors.New("the key file holds an encrypted key, which cannot be used")
	case strings.Contains(err.Error(), "in key input"), strings.Contains(err.Error(), "rather than a key"):
		return nil, errors.New("the key file holds no PEM private key that can be used (an encrypted key cannot)")
	default:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, err
		}
	}
	if err := tryPair(pair); err != nil {
		return nil, fmt.Errorf("no handshake can be done with it: %w", err)
	}
	return &pair, nil
}

// tryPair does a handshake with the pair. There are keys that can be read and
// not be used, such as those of short RSA or of a curve that TLS does not have.
func tryPair(pair tls.Certificate) error {
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	limit := time.Now().Add(10 * time.Second)
	_ = server.SetDeadline(limit)
	_ = client.SetDeadline(limit)
	go func() {
		// Nothing is verified: who has signed the pair and until when is another
		// question.
		_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).Handshake()
		_ = client.Close()
	}()
	err := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}).Handshake()
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	return nil
}

// isEncrypted reports whether a PEM key asks for a password, in either of the
// two forms that openssl writes.
func isEncrypted(keyPEM []byte) bool {
	return bytes.Contains(keyPEM, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")) || bytes.Contains(keyPEM, []byte("\nProc-Type: 4,ENCRYPTED"))
}

// openFile opens a regular file. A pipe or a terminal would block.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func readFile(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

func readBounded(f *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is longer than %d bytes", f.Name(), maxPEM)
	}
	return b, nil
}
