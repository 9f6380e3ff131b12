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
	"slices"
	"strings"
	"time"
)

// maxPEM is the longest file of certificates or keys that is read. The system's
// own collection has about 220 KB.
const maxPEM = 1 << 20

// Pair describes a certificate and its key.
type Pair struct {
	Names []string // the host names and IP addresses in the certificate

	// NotBefore and NotAfter limit the time in which the certificate and all
	// intermediate certificates between it and its authority are valid.
	NotBefore, NotAfter time.Time

	// Intermediate names the intermediate certificate that expires first. It is
	// empty if the certificate itself does.
	Intermediate string
}

// CheckPair loads the files of TLSCertFile and TLSKeyFile as the tunnel process
// would. The error tells the operator which file is wrong, and why.
func CheckPair(certFile, keyFile string) (*Pair, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return nil, certFileError(certFile, err)
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return nil, keyFileError(keyFile, err)
	}
	return checkPair(certFile, keyFile, certPEM, keyPEM)
}

// checkPair describes a pair that was read from these files.
func checkPair(certFile, keyFile string, certPEM, keyPEM []byte) (*Pair, error) {
	if _, err := parsePair(certPEM, keyPEM); err != nil {
		return nil, fmt.Errorf("TLSCertFile is %q and TLSKeyFile %q, must be a pair: %w", certFile, keyFile, err)
	}
	return describe(certPEM)
}

func certFileError(path string, err error) error {
	return fmt.Errorf("TLSCertFile is %q (%w), must be a PEM file with the certificate and its chain", path, err)
}

func keyFileError(path string, err error) error {
	return fmt.Errorf("TLSKeyFile is %q (%w), must be a PEM file with the certificate's private key", path, err)
}

// ReadCertificate describes the certificate of a file, without looking at its key.
func ReadCertificate(path string) (*Pair, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	p, err := describe(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// describe describes the first certificate of a PEM text, and its chain.
func describe(certPEM []byte) (*Pair, error) {
	var leaf *x509.Certificate
	var others []*x509.Certificate
	for block, rest := pem.Decode(certPEM); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err == nil && leaf == nil:
			leaf = cert
		case err == nil:
			others = append(others, cert)
		case leaf == nil:
			return nil, err
		}
	}
	if leaf == nil {
		return nil, errors.New("it holds no PEM certificate")
	}
	p := &Pair{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Names: append([]string(nil), leaf.DNSNames...)}
	for _, ip := range leaf.IPAddresses {
		p.Names = append(p.Names, ip.String())
	}
	for cert := issuerOf(leaf, others); cert != nil; cert = issuerOf(cert, others) {
		others = slices.DeleteFunc(others, func(o *x509.Certificate) bool { return bytes.Equal(o.RawSubject, cert.RawSubject) })
		if cert.NotAfter.Before(p.NotAfter) {
			p.NotAfter, p.Intermediate = cert.NotAfter, plainText(cert.Subject.String())
		}
		if cert.NotBefore.After(p.NotBefore) {
			p.NotBefore = cert.NotBefore
		}
	}
	return p, nil
}

// issuerOf returns the intermediate certificate that has signed cert, according to its
// name. If there are several, any of them is sufficient, so it returns the one that
// expires last. Roots are ignored, because clients use their own.
func issuerOf(cert *x509.Certificate, others []*x509.Certificate) (issuer *x509.Certificate) {
	for _, o := range others {
		root := bytes.Equal(o.RawSubject, o.RawIssuer)
		if !root && bytes.Equal(o.RawSubject, cert.RawIssuer) && (issuer == nil || o.NotAfter.After(issuer.NotAfter)) {
			issuer = o
		}
	}
	return issuer
}

// Warning returns a warning if the pair has expired, is not valid yet, or expires
// within the given number of days, and "" otherwise.
func (p *Pair) Warning(now time.Time, days int) string {
	what, left := "the TLS certificate", p.NotAfter.Sub(now)
	if p.Intermediate != "" {
		what = fmt.Sprintf("the intermediate certificate %q in the TLS certificate's chain", p.Intermediate)
	}
	switch {
	case left <= 0:
		return fmt.Sprintf("%s expired on %s UTC: miners that check it cannot connect", what, p.NotAfter.UTC().Format(time.DateTime))
	case now.Before(p.NotBefore):
		return fmt.Sprintf("the TLS certificate is valid only from %s UTC: miners that check it cannot connect before", p.NotBefore.UTC().Format(time.DateTime))
	case left < time.Duration(days)*24*time.Hour:
		return fmt.Sprintf("%s expires on %s UTC, in %d days", what, p.NotAfter.UTC().Format(time.DateTime), int(left.Hours()/24))
	}
	return ""
}

// parsePair checks that a certificate and a key exist and belong together. It replaces
// messages of crypto/tls by ones that tell the operator what to do.
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

// tryPair does a handshake with the pair, because some keys can be read but not used,
// such as short RSA keys or keys for a curve that TLS does not have.
func tryPair(pair tls.Certificate) error {
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	limit := time.Now().Add(10 * time.Second)
	_ = server.SetDeadline(limit)
	_ = client.SetDeadline(limit)
	go func() {
		// Nothing is verified, because only the key's use is tested here.
		_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).Handshake()
		_ = client.Close()
	}()
	err := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}).Handshake()
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	return nil
}

// isEncrypted reports whether a PEM key needs a password. It knows both forms that
// openssl writes.
func isEncrypted(keyPEM []byte) bool {
	return bytes.Contains(keyPEM, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")) || bytes.Contains(keyPEM, []byte("\nProc-Type: 4,ENCRYPTED"))
}

// openFile opens a regular file. It refuses other files, because a pipe or a terminal
// would block.
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

func readBounded(f *os.File) ([]byte, error) { return readNamed(f, f.Name()) }

// readNamed reads at most maxPEM bytes of a file that the operator knows by another name.
func readNamed(f *os.File, name string) ([]byte, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, maxPEM)
	}
	return b, nil
}
