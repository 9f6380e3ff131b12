package tunnel

import (
	"crypto/tls"
	"os"
	"slices"
	"strings"
)

// What the daemon sends for use in handshakes: its certificate, and the certificates that
// it trusts in pools.

// takeCertificate reads a pair from opened files. If it is unusable, the last good
// pair stays in use.
func (s *server) takeCertificate(serial uint64, fds []int) {
	answer := &message{kind: kindCertificateTaken, id: serial}
	defer s.sendToDaemon(answer)
	certPEM, keyPEM, err := readPair(fds)
	var pair *tls.Certificate
	if err == nil {
		pair, err = parsePair(certPEM, keyPEM)
	}
	var described *Pair
	if err == nil {
		described, err = describe(certPEM)
	}
	if err != nil {
		answer.reason, answer.text = BadCertificate, plainText(err.Error())
		return
	}
	answer.notBefore, answer.notAfter = described.NotBefore.Unix(), described.NotAfter.Unix()
	answer.text = plainText(strings.Join(described.Names, " "))
	s.taking.Lock()
	defer s.taking.Unlock()
	// Several pairs may be read at the same time. The latest one stays in use, even if an
	// earlier one is read after it.
	if serial > s.taken || s.taken == 0 {
		s.taken = serial
		s.certificate.Store(pair)
	}
}

// readPair reads and closes the descriptors of a certificate file and a key file.
func readPair(fds []int) (certPEM, keyPEM []byte, err error) {
	cert, key := os.NewFile(uintptr(fds[0]), "the certificate file"), os.NewFile(uintptr(fds[1]), "the key file")
	defer cert.Close()
	defer key.Close()
	if certPEM, err = readBounded(cert); err == nil {
		keyPEM, err = readBounded(key)
	}
	return certPEM, keyPEM, err
}

func (s *server) takeTrust(key digest, fd int) {
	f := os.NewFile(uintptr(fd), "certificates to trust")
	defer f.Close()
	b, err := readBounded(f)
	if err != nil {
		return // connections that need these certificates are refused
	}
	pool, err := parseTrust(b)
	if err != nil {
		return
	}
	if i := slices.Index(s.ages, key); i >= 0 {
		s.ages = slices.Delete(s.ages, i, i+1)
	}
	s.ages = append(s.ages, key)
	s.trusts[key] = pool
	if len(s.ages) > maxTrusts {
		delete(s.trusts, s.ages[0])
		s.ages = slices.Delete(s.ages, 0, 1)
		clear(s.configs)
	}
}
