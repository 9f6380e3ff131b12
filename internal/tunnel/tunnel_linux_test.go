//go:build linux && e2e

package tunnel

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestServer(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	m := connect(t, tunnel, a, patience)
	// What the daemon writes before the handshake waits until it is done.
	if _, err := m.plain.Write([]byte("early\n")); err != nil {
		t.Fatal(err)
	}
	if err := m.tls.Handshake(); err != nil {
		t.Fatal(err)
	}
	if s := m.watcher.awaitReady(t); s.Version != tls.VersionTLS13 {
		t.Errorf("got version %x, want TLS 1.3", s.Version)
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(m.tls, b); err != nil || string(b) != "early\n" {
		t.Fatalf("got %q, %v", b, err)
	}
	exchange(t, m.tls, m.plain, "hello")

	// First the miner half-closes, then the daemon.
	if err := m.tls.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := m.plain.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	if _, err := m.plain.Write([]byte("after\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(m.tls, b); err != nil || string(b) != "after\n" {
		t.Fatalf("got %q, %v", b, err)
	}
	if err := m.plain.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := m.tls.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	if e := m.watcher.awaitEnd(t); e.Reason != Closed || !e.Ready {
		t.Errorf("got end %v, want Closed after the handshake", e)
	}
}

func TestServerHalfCloseByDaemon(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	m := connectSecured(t, tunnel, a)
	m.plain.Write([]byte("last\n"))
	m.plain.CloseWrite()
	got, err := io.ReadAll(m.tls)
	if err != nil || string(got) != "last\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := m.tls.Write([]byte("reply\n")); err != nil {
		t.Fatal(err)
	}
	m.tls.CloseWrite()
	if got, err := io.ReadAll(m.plain); err != nil || string(got) != "reply\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	if e := m.watcher.awaitEnd(t); e.Reason != Closed {
		t.Errorf("got end %v, want Closed", e)
	}
}

// TestServerEarly: the first bytes of the hello were read by the daemon.
func TestServerEarly(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	fd, c := tcpPair(t)
	secured := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "pool.test"})
	done := make(chan error, 1)
	go func() { done <- secured.Handshake() }()
	early := make([]byte, 100)
	if _, err := io.ReadFull(fdReader(fd), early); err != nil {
		t.Fatal(err)
	}
	w := newWatcher()
	pair, _, err := tunnel.Server(ServerRequest{FD: fd, Early: early}, w)
	if err != nil {
		t.Fatal(err)
	}
	plain := plainConn(t, pair)
	defer plain.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.awaitReady(t)
	exchange(t, secured, plain, "hello")
}

// fdReader reads from a non-blocking descriptor.
type fdReader int

func (r fdReader) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), b)
		if err == unix.EAGAIN {
			time.Sleep(time.Millisecond)
			continue
		}
		return n, err
	}
}

func TestServerLargeWrites(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	m := connectSecured(t, tunnel, a)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	for name, way := range map[string][2]net.Conn{"in": {m.tls, m.plain}, "out": {m.plain, m.tls}} {
		go way[0].Write(sent)
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestResets(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	t.Run("by the peer", func(t *testing.T) {
		m := connectSecured(t, tunnel, a)
		m.tcp.SetLinger(0)
		m.tcp.Close()
		if e := m.watcher.awaitEnd(t); e.Reason != Reset {
			t.Errorf("got end %v, want Reset", e)
		}
		if n, err := m.plain.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
	t.Run("by the daemon", func(t *testing.T) {
		m := connectSecured(t, tunnel, a)
		m.conn.Reset()
		if _, err := m.tcp.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
			t.Errorf("got error %v, want a reset", err)
		}
		if e := m.watcher.awaitEnd(t); e.Reason != ResetByDaemon {
			t.Errorf("got end %v, want ResetByDaemon", e)
		}
	})
	t.Run("during the handshake", func(t *testing.T) {
		m := connect(t, tunnel, a, patience)
		eventually(t, "handover", func() bool { return tunnel.Processes()[0].Report.Handshaking > 0 })
		m.conn.Reset()
		if e := m.watcher.awaitEnd(t); e.Reason != ResetByDaemon || e.Ready {
			t.Errorf("got end %v, want ResetByDaemon before the handshake", e)
		}
	})
	t.Run("close during the handshake", func(t *testing.T) {
		m := connect(t, tunnel, a, patience)
		m.plain.Close()
		if e := m.watcher.awaitEnd(t); e.Reason != Closed || e.Ready {
			t.Errorf("got end %v, want Closed before the handshake", e)
		}
	})
}

// TestClient is about which certificates of pools are accepted, and what is
// reported for the others.
func TestClient(t *testing.T) {
	tunnel, _ := newTunnel(t, nil)
	a, other := newAuthority(t), newAuthority(t)
	now := time.Now()
	trust, err := LoadTrust(a.file)
	if err != nil {
		t.Fatal(err)
	}
	otherTrust, err := LoadTrust(other.file)
	if err != nil {
		t.Fatal(err)
	}
	good, goodKey := a.good(t)
	old, oldKey := a.issue(t, "pool.test", now.Add(-2*time.Hour), now.Add(-time.Hour), false)
	future, futureKey := a.issue(t, "pool.test", now.Add(time.Hour), now.Add(2*time.Hour), false)
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	pin := sha256.Sum256(block.Bytes)
	for _, c := range []struct {
		name      string
		cert, key string
		request   ClientRequest
		most      uint16
		want      Reason // Closed means that the handshake succeeds
	}{
		{"good", good, goodKey, ClientRequest{ServerName: "pool.test", Trust: trust}, 0, Closed},
		{"TLS 1.2", good, goodKey, ClientRequest{ServerName: "pool.test", Trust: trust}, tls.VersionTLS12, Closed},
		{"TLS 1.1", good, goodKey, ClientRequest{ServerName: "pool.test", Trust: trust}, tls.VersionTLS11, OldVersion},
		{"wrong name", good, goodKey, ClientRequest{ServerName: "other.test", Trust: trust}, 0, WrongName},
		{"address as name", good, goodKey, ClientRequest{ServerName: "127.0.0.1", Trust: trust}, 0, WrongName},
		{"expired", old, oldKey, ClientRequest{ServerName: "pool.test", Trust: trust}, 0, Expired},
		{"not yet valid", future, futureKey, ClientRequest{ServerName: "pool.test", Trust: trust}, 0, NotYetValid},
		{"unknown authority", good, goodKey, ClientRequest{ServerName: "pool.test", Trust: otherTrust}, 0, UnknownAuthority},
		{"the system's authorities", good, goodKey, ClientRequest{ServerName: "pool.test"}, 0, UnknownAuthority},
		{"not verified", old, oldKey, ClientRequest{ServerName: "other.test", NoVerify: true}, 0, Closed},
		{"no name, not verified", good, goodKey, ClientRequest{NoVerify: true}, 0, Closed},
		{"no name", good, goodKey, ClientRequest{}, 0, Internal},
		{"pinned", good, goodKey, ClientRequest{ServerName: "other.test", Pins: []Fingerprint{{1}, pin}}, 0, Closed},
		{"wrong pin", good, goodKey, ClientRequest{ServerName: "pool.test", Trust: trust, Pins: []Fingerprint{{1}}}, 0, WrongFingerprint},
	} {
		t.Run(c.name, func(t *testing.T) {
			pair, err := tls.LoadX509KeyPair(c.cert, c.key)
			if err != nil {
				t.Fatal(err)
			}
			fd, tcp := tcpPair(t)
			defer tcp.Close()
			pool := tls.Server(tcp, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: c.most, MinVersion: tls.VersionTLS10})
			go pool.Handshake()
			c.request.FD = fd
			w := newWatcher()
			end, _, err := tunnel.Client(c.request, w)
			if err != nil {
				t.Fatal(err)
			}
			plain := plainConn(t, end)
			defer plain.Close()
			if c.want == Closed {
				s := w.awaitReady(t)
				if s.NotAfter.IsZero() {
					t.Error("the end of the pool's certificate is not reported")
				}
				exchange(t, plain, pool, "hello")
				return
			}
			e := w.awaitEnd(t)
			if e.Reason != c.want || e.Ready {
				t.Errorf("got end %v, want %v", e, c.want)
			}
			if n, err := plain.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("read %d bytes, %v", n, err)
			}
			t.Log(e)
		})
	}
}

func TestClientPeersWithoutTLS(t *testing.T) {
	tunnel, _ := newTunnel(t, nil)
	for _, c := range []struct {
		name   string
		answer string
		want   Reason
	}{
		{"Stratum", `{"id":null,"method":"mining.notify"}` + "\n", NotTLS},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", NotTLS},
		{"silent", "", Timeout},
		{"half an answer", "\x16\x03\x03\x00", Timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fd, tcp := tcpPair(t)
			defer tcp.Close()
			tcp.Write([]byte(c.answer))
			w := newWatcher()
			end, _, err := tunnel.Client(ClientRequest{FD: fd, ServerName: "pool.test", Timeout: 500 * time.Millisecond}, w)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(end)
			if e := w.awaitEnd(t); e.Reason != c.want {
				t.Errorf("got end %v, want %v", e, c.want)
			}
		})
	}
}

// TestManyAtOnce sends more descriptors than may be in flight.
func TestManyAtOnce(t *testing.T) {
	tunnel, _ := newTunnel(t, nil)
	const n = 1500
	watchers := make([]*watcher, n)
	for i := range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		watchers[i] = newWatcher()
		end, _, err := tunnel.Server(ServerRequest{FD: fds[0]}, watchers[i])
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fds[1]) // the peer is gone already
		defer unix.Close(end)
	}
	for _, w := range watchers {
		if e := w.awaitEnd(t); e.Reason != Closed && e.Reason != Busy {
			t.Fatalf("unexpected end %v", e)
		}
	}
}

// TestCertificateRenewal: new files are used. Bad ones are reported and not used.
func TestCertificateRenewal(t *testing.T) {
	news := make(chan Certificate, 10)
	var certFile, keyFile string
	tunnel, a := newTunnel(t, func(o *Options) {
		o.CheckEvery = 20 * time.Millisecond
		o.Certificate = func(c Certificate) { news <- c }
		certFile, keyFile = o.CertFile, o.KeyFile
	})
	awaitNews := func() Certificate {
		t.Helper()
		select {
		case c := <-news:
			return c
		case <-time.After(patience):
			t.Fatal("nothing is reported about the certificate")
		}
		return Certificate{}
	}
	number := func() int64 {
		m := connectSecured(t, tunnel, a)
		return m.tls.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	first := number()
	if c := awaitNews(); c.Err != nil || c.Pair == nil || len(c.Pair.Names) != 1 || c.Pair.Names[0] != "pool.test" {
		t.Fatalf("unexpected certificate %+v", c)
	}
	kept := connectSecured(t, tunnel, a)

	otherCert, otherKey := a.good(t)
	if err := os.Rename(otherCert, certFile); err != nil { // the key is not there yet
		t.Fatal(err)
	}
	c := awaitNews()
	if c.Err == nil || !strings.Contains(c.Err.Error(), "does not belong") || c.Pair == nil {
		t.Fatalf("unexpected certificate %+v", c)
	}
	if n := number(); n != first {
		t.Errorf("got certificate %d, want the last good one, %d", n, first)
	}
	// A process that is started meanwhile has the last good one too.
	pid := tunnel.Processes()[0].PID
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := kept.watcher.awaitEnd(t); e.Reason != Died {
		t.Errorf("got end %v, want Died", e)
	}
	if n := number(); n != first {
		t.Errorf("after the end of the process: got certificate %d, want the last good one, %d", n, first)
	}
	if err := os.Rename(otherKey, keyFile); err != nil {
		t.Fatal(err)
	}
	if c := awaitNews(); c.Err != nil {
		t.Fatalf("unexpected certificate %+v", c)
	}
	if n := number(); n == first {
		t.Error("the former certificate is still in use")
	}
}

func TestCheckPair(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.good(t)
	_, otherKey := a.good(t)
	now := time.Now()
	empty := t.TempDir() + "/empty"
	os.WriteFile(empty, nil, 0o600)
	for _, c := range []struct{ cert, key, want string }{
		{cert, key, ""},
		{cert + "x", key, `TLSCertFile is "` + cert + `x" (open ` + cert + `x: no such file`},
		{cert, key + "x", `TLSKeyFile is "` + key + `x" (open`},
		{cert, otherKey, "the key does not belong to the certificate"},
		{key, key, "holds no PEM certificate"},
		{cert, cert, "holds no PEM private key"},
		{empty, key, "holds no PEM certificate"},
		{"/dev/zero", key, "/dev/zero is not a regular file"},
		{t.TempDir(), key, "is not a regular file"},
	} {
		_, err := CheckPair(c.cert, c.key)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: got error %v, want %q", c.cert, c.key, err, c.want)
		}
	}
	p, err := CheckPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if w := p.Warning(now, 0); w != "" {
		t.Errorf("unexpected warnings %q", w)
	}
	for _, c := range []struct {
		at   time.Time
		want string
	}{{now, "expires on"}, {now.Add(2 * time.Hour), "expired on"}, {now.Add(-2 * time.Hour), "valid only from"}} {
		if w := p.Warning(c.at, 14); !strings.Contains(w, c.want) {
			t.Errorf("got warnings %q, want %q", w, c.want)
		}
	}
}

func TestLoadTrust(t *testing.T) {
	a := newAuthority(t)
	_, key := a.good(t)
	if _, err := LoadTrust(a.file); err != nil {
		t.Error(err)
	}
	for _, path := range []string{key, "/dev/null", a.file + "x"} {
		if _, err := LoadTrust(path); err == nil {
			t.Errorf("%s is accepted", path)
		}
	}
}

func TestParseFingerprint(t *testing.T) {
	colons := strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	for s, good := range map[string]bool{strings.Repeat("ab", 32): true, colons: true, "": false, "ab": false, strings.Repeat("zz", 32): false} {
		if _, err := ParseFingerprint(s); (err == nil) != good {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestReasonOfUnknownErrors(t *testing.T) {
	if r := reasonOf(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}); r != BadCertificate {
		t.Errorf("unexpected reason %v", r)
	}
	if r := reasonOf(io.ErrClosedPipe); r != Malformed {
		t.Errorf("unexpected reason %v", r)
	}
	if s := plainText("a\nb\x1b" + strings.Repeat("x", 500)); len(s) > maxText || strings.ContainsAny(s, "\n\x1b") {
		t.Errorf("unexpected text %q", s)
	}
}
