//go:build linux && e2e

package tunnel

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A key that can be read but with which no handshake is possible is refused before
// miners find out, and so is one that needs a password.
func TestCheckPairKeys(t *testing.T) {
	ec := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		key  crypto.Signer
		want string
	}{
		{"P-224", ec(elliptic.P224()), "no handshake can be done with it"},
		{"P-521", ec(elliptic.P521()), ""},
		{"Ed25519", ed, ""},
	} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		writePEM(t, cert, "CERTIFICATE", der)
		writePEM(t, key, "PRIVATE KEY", keyDER)
		if _, err := CheckPair(cert, key); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.want)
		}
	}
	cert, _ := newAuthority(t).good(t)
	for _, begin := range []string{"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"} {
		end := strings.Replace(strings.SplitAfter(begin, "\n")[0], "BEGIN", "END", 1)
		key := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(key, []byte(begin+"AAAA\n"+end), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := CheckPair(cert, key); err == nil || !strings.Contains(err.Error(), "holds an encrypted key") {
			t.Errorf("got error %v, want one about an encrypted key", err)
		}
	}
}
