//go:build linux && e2e

package tunnel

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the child, and the daemon of tests that kill or replace
// one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "-tunnel":
			for len(os.Args) > 3 { // until the test deletes this file
				if _, err := os.Stat(os.Args[3]); err != nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := Serve(ControlFD, testProgram(os.Args[2:])); err != nil {
				fmt.Fprintln(os.Stderr, "child:", err)
				os.Exit(1)
			}
			os.Exit(0)
		case "-test-bench-server":
			benchServer(os.Args[2:])
			os.Exit(0)
		case "-test-daemon":
			testDaemon(os.Args[2:])
			os.Exit(0)
		}
	}
	// With the race detector a process sleeps for a second at its end, and so would
	// each child that a test waits for.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// testProgram is the version that a child was given.
func testProgram(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return "test"
}

const patience = 30 * time.Second

// watcher is an owner that keeps what is reported to it.
type watcher struct {
	ready chan Secured
	ended chan Ending
}

func newWatcher() *watcher { return &watcher{make(chan Secured, 1), make(chan Ending, 1)} }

func (w *watcher) TunnelReady(c *Conn, s Secured) { w.ready <- s }
func (w *watcher) TunnelEnded(c *Conn, e Ending)  { w.ended <- e }

func (w *watcher) awaitReady(t *testing.T) Secured {
	t.Helper()
	select {
	case s := <-w.ready:
		return s
	case e := <-w.ended:
		t.Fatalf("ended instead: %v", e)
	case <-time.After(patience):
		t.Fatal("the handshake does not end")
	}
	return Secured{}
}

func (w *watcher) awaitEnd(t *testing.T) Ending {
	t.Helper()
	select {
	case e := <-w.ended:
		return e
	case <-time.After(patience):
		t.Fatal("no end is reported")
	}
	return Ending{}
}

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	file string
}

var serial = struct {
	sync.Mutex
	n int64
}{n: 1}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert, key, filepath.Join(t.TempDir(), "ca.pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	// Files are replaced by rename, as programs that renew certificates should do.
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate for a name and its key.
func (a *authority) issue(t testing.TB, name string, from, to time.Time, useRSA bool) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a.issueTo(t, certFile, keyFile, name, from, to, useRSA)
	return certFile, keyFile
}

func (a *authority) issueTo(t testing.TB, certFile, keyFile, name string, from, to time.Time, useRSA bool) {
	t.Helper()
	var key crypto.Signer
	var err error
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	serial.Lock()
	serial.n++
	n := serial.n
	serial.Unlock()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
}

func (a *authority) good(t testing.TB) (certFile, keyFile string) {
	return a.issue(t, "pool.test", time.Now().Add(-time.Hour), time.Now().Add(time.Hour), false)
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// newTunnel returns a tunnel for servers with a good certificate.
func newTunnel(t testing.TB, change func(*Options)) (*Tunnel, *authority) {
	t.Helper()
	a := newAuthority(t)
	cert, key := a.good(t)
	o := Options{Program: "test", CertFile: cert, KeyFile: key, ReportEvery: 50 * time.Millisecond, Logf: t.Logf}
	if change != nil {
		change(&o)
	}
	tunnel, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tunnel.Close)
	return tunnel, a
}

// descriptorOf takes the descriptor out of a connection.
func descriptorOf(t testing.TB, c net.Conn) int {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	return fd
}

// plainConn makes a connection of the daemon's end of a pair.
func plainConn(t testing.TB, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "pair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.UnixConn)
}

// tcpPair makes a TCP connection and returns the descriptor of one end, and the
// other end.
func tcpPair(t testing.TB) (int, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	return descriptorOf(t, accepted), c.(*net.TCPConn)
}

// miner is a TLS client of a tunnel's server.
type miner struct {
	tls     *tls.Conn
	tcp     *net.TCPConn
	plain   *net.UnixConn // the daemon's end
	conn    *Conn
	watcher *watcher
}

// connect hands a new connection to the tunnel, before any handshake.
func connect(t testing.TB, tunnel *Tunnel, a *authority, timeout time.Duration) *miner {
	t.Helper()
	fd, c := tcpPair(t)
	w := newWatcher()
	pair, conn, err := tunnel.Server(ServerRequest{FD: fd, Address: "192.0.2.1", Timeout: timeout}, w)
	if err != nil {
		t.Fatal(err)
	}
	m := &miner{tls: tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "pool.test"}), tcp: c, plain: plainConn(t, pair), conn: conn, watcher: w}
	t.Cleanup(func() { m.tcp.Close(); m.plain.Close() })
	return m
}

func connectSecured(t *testing.T, tunnel *Tunnel, a *authority) *miner {
	t.Helper()
	m := connect(t, tunnel, a, patience)
	if err := m.tls.Handshake(); err != nil {
		t.Fatal(err)
	}
	m.watcher.awaitReady(t)
	return m
}

// exchange sends a line each way.
func exchange(t *testing.T, a, b net.Conn, line string) {
	t.Helper()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := way[0].Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		got, err := bufio.NewReader(way[1]).ReadString('\n')
		if err != nil || got != line+"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
