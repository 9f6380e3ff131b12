package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs the certificates of a test.
type Authority struct {
	File string // path of its own certificate, in PEM

	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority creates an authority whose files are removed at the end of the test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, File: filepath.Join(t.TempDir(), "ca.pem"), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	Must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	Must(t, err)
	a.writePEM(a.File, "CERTIFICATE", der)
	return a
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(t, err)
	return key
}

// writePEM writes a PEM file and renames it into place, as programs that renew
// certificates should.
func (a *Authority) writePEM(path, kind string, der []byte) {
	a.t.Helper()
	Must(a.t, os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	Must(a.t, os.Rename(path+".new", path))
}

// Issue writes a certificate and its key into dir. The certificate is for these host
// names and IP addresses, and expires at until.
func (a *Authority) Issue(dir string, until time.Time, names ...string) (certFile, keyFile string) {
	a.t.Helper()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, key := a.sign(until, names)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	Must(a.t, err)
	a.writePEM(certFile, "CERTIFICATE", der)
	a.writePEM(keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func (a *Authority) sign(until time.Time, names []string) ([]byte, crypto.Signer) {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	Must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	Must(a.t, err)
	return der, key
}

// Server returns the TLS configuration of a server that has these names.
func (a *Authority) Server(names ...string) *tls.Config {
	a.t.Helper()
	return a.ServerUntil(time.Now().Add(90*24*time.Hour), names...)
}

// ServerUntil is Server with a certificate that expires at until.
func (a *Authority) ServerUntil(until time.Time, names ...string) *tls.Config {
	a.t.Helper()
	der, key := a.sign(until, names)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// Client returns the TLS configuration of a client that trusts the authority and requires
// the server to have this name.
func (a *Authority) Client(name string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, ServerName: name}
}
