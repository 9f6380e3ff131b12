//go:build linux && e2e

package tunnel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// The end of a certificate is that of the first in its chain. Certificates that are
// not in the chain, roots, and one of which a later copy is there, do not matter.
func TestChainEnds(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(name, issuer string, from, days int) []byte {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: now.AddDate(0, 0, from), NotAfter: now.AddDate(0, 0, days),
		}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	leaf, root := certificate("leaf.test", "R1", -2, 60), certificate("root", "root", -9, -1)
	for _, c := range []struct {
		name  string
		chain [][]byte
		days  int // until the end
		want  string
	}{
		{"alone", [][]byte{leaf}, 60, ""},
		{"longer", [][]byte{leaf, certificate("R1", "root", -9, 90), root}, 60, ""},
		{"expired", [][]byte{leaf, certificate("R1", "root", -9, -3)}, -3, `the intermediate certificate "CN=R1" in the TLS certificate's chain expired on`},
		{"soon", [][]byte{leaf, certificate("R1", "X", -9, 90), certificate("X", "root", -9, 5)}, 5, `the intermediate certificate "CN=X" in the TLS certificate's chain expires on`},
		{"not valid yet", [][]byte{leaf, certificate("R1", "root", 3, 90)}, 60, "the TLS certificate is valid only from"},
		{"strange", [][]byte{leaf, certificate("R2", "root", -9, -3)}, 60, ""},
		{"two ways", [][]byte{leaf, certificate("R1", "old root", -9, -3), certificate("R1", "root", -9, 90)}, 60, ""},
		{"a circle", [][]byte{leaf, certificate("R1", "X", -9, 90), certificate("X", "R1", -9, 90)}, 60, ""},
	} {
		var text []byte
		for _, part := range c.chain {
			text = append(text, part...)
		}
		p, err := describe(text)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		warning := p.Warning(now, 14)
		if !p.NotAfter.Equal(now.AddDate(0, 0, c.days)) || !strings.HasPrefix(warning, c.want) || (warning == "") != (c.want == "") || p.Names[0] != "leaf.test" {
			t.Errorf("%s: %+v, warning %q", c.name, p, warning)
		}
	}
}
