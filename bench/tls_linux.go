package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// Targets for miners that use TLS: the switcher itself, and HAProxy in front of a switcher
// without TLS. The figures are sums over all processes of the target.

// handshakers is how many TLS handshakes are made at a time.
const handshakers = 8

// tlsCommand returns the command for the proxy with which miners use TLS. If that is
// HAProxy, it first starts the switcher behind it.
func (t *target) tlsCommand(ctx context.Context, name, dir string, b binaries, n, threads int, pools map[string]string) (*exec.Cmd, error) {
	cert, key, both, err := writeCertificate(dir)
	if err != nil {
		return nil, err
	}
	t.tls = &tls.Config{InsecureSkipVerify: true} // the bench made the certificate itself
	if name == targetSwitcherTLS {
		return switcherCommand(b.switcher, dir, t.addr, pools, map[string]string{"TLSCertFile": cert, "TLSKeyFile": key})
	}
	addr, err := testport.Addr()
	if err != nil {
		return nil, err
	}
	cmd, err := switcherCommand(b.switcher, dir, addr, pools, nil)
	if err != nil {
		return nil, err
	}
	if t.behind, err = startProcess("switcher", cmd); err != nil {
		return nil, err
	}
	_, err = t.behind.waitLog(ctx, 0, listening)
	if err == nil {
		cmd, err = haproxyCommand(b.haproxy, dir, t.addr, addr, n, threads, " ssl crt "+both)
	}
	if err != nil {
		t.behind.stop()
		return nil, err
	}
	return cmd, nil
}

// writeCertificate writes a new certificate, its key, and both together to three files.
func writeCertificate(dir string) (cert, key, both string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"bench.test"}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", "", err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	cert, key, both = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "both.pem")
	for path, content := range map[string][]byte{cert: certPEM, key: keyPEM, both: bytes.Join([][]byte{certPEM, keyPEM}, nil)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return "", "", "", err
		}
	}
	return cert, key, both, nil
}

// firstHandshake makes the target start what only TLS needs, such as a tunnel process,
// so that it does not count as the cost of a session.
func (l *life) firstHandshake() error {
	if l.target.tls == nil {
		return nil
	}
	return l.handshake()
}

func (l *life) handshake() error {
	conn, err := tls.Dial("tcp", l.target.addr, l.target.tls)
	if err != nil {
		return err
	}
	return conn.Close()
}

// request connects with TLS, and closes the connection after the answer to one request.
func (l *life) request() error {
	conn, err := tls.Dial("tcp", l.target.addr, l.target.tls)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(stepLimit)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(`{"id":1,"method":"mining.subscribe","params":["bench/1.0"]}` + "\n")); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).ReadSlice('\n')
	return err
}

// handshakes measures the cost of TLS handshakes. Its connections end after the
// handshake, while the miners' connections are idle. HAProxy sees that end before it
// has connected to the switcher behind it. So connections that the switcher answers are
// measured too.
func (l *life) handshakes(ctx context.Context) error {
	if err := l.connections(ctx, "cpu_handshake", l.handshake); err != nil {
		return err
	}
	return l.connections(ctx, "cpu_request", l.request)
}

// connections measures the cost of short connections, of which some are made at a time.
func (l *life) connections(ctx context.Context, figure string, do func() error) error {
	n := 4000
	if l.Quick {
		n = 1000
	}
	before, err := l.cpu()
	if err != nil {
		return err
	}
	turns, failed := make(chan struct{}), make(chan error, handshakers)
	var workers sync.WaitGroup
	for range handshakers {
		workers.Go(func() {
			for range turns {
				if err := do(); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := sleep(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	after, err := l.cpu()
	if err != nil {
		return err
	}
	l.record(figure, micros(after-before)/float64(n))
	return nil
}
