//go:build linux && e2e

package tunnel

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestChildKilled: each connection gets its end reported, and nothing is left
// behind.
func TestChildKilled(t *testing.T) {
	tunnel, a := newTunnel(t, func(o *Options) { o.Logf = func(string, ...any) {} })
	round := func() {
		tunnel.mu.Lock()
		tunnel.pause, tunnel.next = 0, time.Time{} // the pause is not tested here
		tunnel.mu.Unlock()
		var all []*miner
		for range 5 {
			m := connect(t, tunnel, a, patience)
			all = append(all, m)
		}
		if err := all[0].tls.Handshake(); err != nil {
			t.Fatal(err)
		}
		all[0].watcher.awaitReady(t)
		if err := unix.Kill(tunnel.Processes()[0].PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			// A connection that had not been handed over yet goes to the next
			// process.
			m.tcp.Close()
			m.plain.Close()
			if e := m.watcher.awaitEnd(t); e.Reason != Died && e.Reason != Closed && e.Reason != Reset {
				t.Errorf("unexpected end %v", e)
			}
		}
	}
	round()
	settle := func() (int, int) {
		eventually(t, "end of the processes", func() bool { return len(tunnel.Processes()) <= 1 })
		runtime.GC()
		return openDescriptors(t), runtime.NumGoroutine()
	}
	fds, goroutines := settle()
	for range 100 {
		round()
	}
	var nowFDs, nowGoroutines int
	eventually(t, "descriptors and goroutines are few again", func() bool {
		nowFDs, nowGoroutines = settle()
		return nowFDs <= fds+4 && nowGoroutines <= goroutines+4 && len(children(t, os.Getpid())) <= 1
	})
	t.Logf("descriptors %d, then %d; goroutines %d, then %d", fds, nowFDs, goroutines, nowGoroutines)
}

// TestChildCannotStart: connections are given up in time, and the pause grows.
func TestChildCannotStart(t *testing.T) {
	tunnel, err := New(Options{Program: "test", Args: []string{"-test.list=^$"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	fd, c := tcpPair(t)
	defer c.Close()
	w := newWatcher()
	end, _, err := tunnel.Server(ServerRequest{FD: fd, Timeout: time.Second}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(end)
	if e := w.awaitEnd(t); e.Reason != Died {
		t.Errorf("got end %v, want Died", e)
	}
	eventually(t, "a longer pause", func() bool {
		if fd, c := tcpPair(t); true {
			c.Close()
			if end, _, err := tunnel.Server(ServerRequest{FD: fd, Timeout: time.Second}, newWatcher()); err == nil {
				unix.Close(end)
			}
		}
		tunnel.mu.Lock()
		defer tunnel.mu.Unlock()
		return tunnel.pause > firstPause
	})
}

// TestHandshakeStorm: of 2,000 simultaneous hellos, every second one is never
// finished. The others are served, and an established connection continues.
func TestHandshakeStorm(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	established := connectSecured(t, tunnel, a)
	const n = 2000
	hello := firstRecord(t)
	var served sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		fd, c := tcpPair(t)
		t.Cleanup(func() { c.Close() })
		// They come from several addresses, because half-open handshakes are
		// limited for each.
		pair, _, err := tunnel.Server(ServerRequest{FD: fd, Address: fmt.Sprint("192.0.2.", i%16), Timeout: 2 * patience}, newWatcher())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(pair) })
		if i%2 == 0 {
			c.Write(hello[:len(hello)/2])
			continue
		}
		served.Go(func() {
			c.SetDeadline(time.Now().Add(2 * patience))
			secured := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "pool.test"})
			if err := secured.Handshake(); err != nil {
				errs <- err
			}
		})
	}
	began, slowest := time.Now(), time.Duration(0)
	done := make(chan struct{})
	go func() { served.Wait(); close(done) }()
	r := bufio.NewReader(established.plain)
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		at := time.Now()
		// The time for the connection as a whole may be over on a busy machine.
		established.tcp.SetDeadline(at.Add(patience))
		established.plain.SetDeadline(at.Add(patience))
		fmt.Fprintln(established.tls, "share")
		if line, err := r.ReadString('\n'); err != nil || line != "share\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		slowest = max(slowest, time.Since(at))
	}
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	eventually(t, "a report", func() bool { return tunnel.Processes()[0].Report.Handshaking == n/2 })
	report := tunnel.Processes()[0].Report
	t.Logf("%d handshakes in %v, slowest share of an established miner %v; with %d half-open handshakes: %d MB private, %d goroutines",
		n/2, time.Since(began), slowest, report.Handshaking, report.Private>>20, report.Goroutines)
	if report.Private > 300<<20 {
		t.Errorf("the process has %d MB, which is too much", report.Private>>20)
	}
}

// firstRecord returns a client's hello.
func firstRecord(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go tls.Client(a, &tls.Config{ServerName: "pool.test"}).Handshake()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// slowWriter writes one byte at a time.
type slowWriter struct{ net.Conn }

func (w slowWriter) Write(b []byte) (int, error) {
	for i := range b {
		if n, err := w.Conn.Write(b[i : i+1]); err != nil {
			return i + n, err
		}
		if i%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return len(b), nil
}

func TestHelloByteByByte(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	m := connect(t, tunnel, a, patience)
	m.tcp.SetNoDelay(true)
	m.tls = tls.Client(slowWriter{m.tcp}, &tls.Config{RootCAs: a.pool(), ServerName: "pool.test"})
	if err := m.tls.Handshake(); err != nil {
		t.Fatal(err)
	}
	m.watcher.awaitReady(t)
	exchange(t, m.tls, m.plain, "hello") // the records come byte by byte too
}

func TestServerPeersThatFail(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	for _, c := range []struct {
		name string
		do   func(m *miner)
		want []Reason
	}{
		{"TLS 1.0", func(m *miner) {
			tls.Client(m.tcp, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}).Handshake()
		}, []Reason{OldVersion}},
		{"does not trust us", func(m *miner) { tls.Client(m.tcp, &tls.Config{ServerName: "pool.test"}).Handshake() }, []Reason{Refused, Reset}},
		{"silent", func(m *miner) {}, []Reason{Timeout}},
		{"half a hello", func(m *miner) { m.tcp.Write(firstRecord(t)[:50]) }, []Reason{Timeout}},
		{"closes", func(m *miner) { m.tcp.Close() }, []Reason{Closed}},
		{"resets", func(m *miner) { m.tcp.SetLinger(0); m.tcp.Close() }, []Reason{Reset, Closed}},
		{"Stratum", func(m *miner) { m.tcp.Write([]byte(`{"id":1,"method":"mining.subscribe","params":[]}` + "\n")) }, []Reason{NotTLS}},
		{"oversized record", func(m *miner) { m.tcp.Write([]byte("\x16\x03\x01\xff\xff")) }, []Reason{NotTLS}},
		{"no hello", func(m *miner) { m.tcp.Write([]byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00")) }, []Reason{Malformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			timeout := patience
			if c.want[0] == Timeout {
				timeout = time.Second
			}
			m := connect(t, tunnel, a, timeout)
			c.do(m)
			e := m.watcher.awaitEnd(t)
			for _, want := range c.want {
				if e.Reason == want {
					return
				}
			}
			t.Errorf("got end %v, want %v", e, c.want)
		})
	}
}

func TestRandomBytes(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	r := rand.New(rand.NewPCG(1, 2))
	var all []*miner
	for range 200 {
		m := connect(t, tunnel, a, time.Second)
		b := make([]byte, 1+r.IntN(600))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] = 0x16
		if r.IntN(2) == 0 && len(b) > 3 {
			b[1], b[2] = 3, 1 // so that more of it is examined
		}
		m.tcp.Write(b)
		all = append(all, m)
	}
	for _, m := range all {
		switch e := m.watcher.awaitEnd(t); e.Reason {
		case NotTLS, Malformed, Timeout, Closed, Reset, OldVersion, NoCommonCipher, Refused:
		default:
			t.Errorf("unexpected end %v", e)
		}
	}
	pid := tunnel.Processes()[0].PID
	exchangeWithNew(t, tunnel, a)
	if now := tunnel.Processes()[0].PID; now != pid {
		t.Error("the process has died")
	}
}

func exchangeWithNew(t *testing.T, tunnel *Tunnel, a *authority) {
	t.Helper()
	m := connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
}

// TestDamagedRecords: bytes that are changed after the handshake only end their own
// connection.
func TestDamagedRecords(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	m := connectSecured(t, tunnel, a)
	m.tcp.Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)))
	if e := m.watcher.awaitEnd(t); e.Reason != Malformed || !e.Ready {
		t.Errorf("got end %v, want Malformed after the handshake", e)
	}
	exchangeWithNew(t, tunnel, a)
}

// TestPeerDoesNotRead: 100 MB for a peer that reads nothing cost bounded memory in
// each direction, and the daemon's writes stop.
func TestPeerDoesNotRead(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	m := connectSecured(t, tunnel, a)
	// As much garbage as these bytes leave is there before, too: they are read.
	reader := connectSecured(t, tunnel, a)
	for _, way := range [][2]net.Conn{{reader.plain, reader.tls}, {reader.tls, reader.plain}} {
		written := make(chan error, 1)
		go func() {
			_, err := way[0].Write(make([]byte, 8<<20))
			written <- err
		}()
		if _, err := io.CopyN(io.Discard, way[1], 8<<20); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
	report := func() {
		t.Helper()
		at := time.Now()
		eventually(t, "a report", func() bool { return tunnel.Processes()[0].Reported.After(at) })
	}
	report()
	before := tunnel.Processes()[0].Report.Private
	much := bytes.Repeat([]byte("x"), 100<<20)
	for name, c := range map[string]net.Conn{"to the miner": m.plain, "to the daemon": m.tls} {
		c.SetWriteDeadline(time.Now().Add(3 * time.Second))
		n, err := c.Write(much)
		if err == nil || n > 20<<20 {
			t.Errorf("%s: %d bytes were accepted, %v", name, n, err)
		}
		report()
		after := tunnel.Processes()[0].Report.Private
		t.Logf("%s: %d KB taken, private memory %d KB, then %d KB", name, n>>10, before>>10, after>>10)
		if after > before+8<<20 {
			t.Errorf("%s: the process has %d bytes more, which is too much", name, after-before)
		}
	}
	exchangeWithNew(t, tunnel, a)
}

// TestBusy: half-open handshakes are limited for each address.
func TestBusy(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	var busy int
	for range maxAddressHandshakes + 5 {
		connect(t, tunnel, a, patience)
	}
	eventually(t, "refusals", func() bool {
		busy = int(tunnel.Processes()[0].Report.Failed[Busy])
		return busy == 5
	})
	fd, c := tcpPair(t)
	defer c.Close()
	w := newWatcher()
	end, _, err := tunnel.Server(ServerRequest{FD: fd, Address: "192.0.2.2"}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(end)
	if err := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "pool.test"}).Handshake(); err != nil {
		t.Error(err)
	}
}

func needOpenssl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is needed: ", err)
	}
}

// TestOpensslClient has a client by others, which also asks for renegotiation.
func TestOpensslClient(t *testing.T) {
	needOpenssl(t)
	tunnel, a := newTunnel(t, nil)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			cmd := exec.Command("openssl", "s_client", "-connect", ln.Addr().String(), "-CAfile", a.file, "-servername", "pool.test", "-verify_return_error", version)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			accepted, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			w := newWatcher()
			end, _, err := tunnel.Server(ServerRequest{FD: descriptorOf(t, accepted)}, w)
			if err != nil {
				t.Fatal(err)
			}
			plain := plainConn(t, end)
			defer plain.Close()
			w.awaitReady(t)
			io.WriteString(in, "hello\n")
			line, err := bufio.NewReader(plain).ReadString('\n')
			if err != nil || line != "hello\n" {
				t.Fatalf("got %q, %v", line, err)
			}
			if version == "-tls1_2" {
				io.WriteString(in, "R\n") // this asks for renegotiation
				if e := w.awaitEnd(t); !e.Ready {
					t.Errorf("got end %v, want one after the handshake", e)
				}
			}
			plain.Write([]byte("from the daemon\n"))
			plain.Close()
			cmd.Wait()
			if version == "-tls1_3" && !strings.Contains(said.String(), "from the daemon") {
				t.Errorf("%s", said.String())
			}
		})
	}
	exchangeWithNew(t, tunnel, a)
}

// TestOpensslServer has a pool by others.
func TestOpensslServer(t *testing.T) {
	needOpenssl(t)
	tunnel, a := newTunnel(t, nil)
	cert, key := a.good(t)
	trust, err := LoadTrust(a.file)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	cmd := exec.Command("openssl", "s_server", "-accept", addr, "-cert", cert, "-key", key, "-rev", "-quiet")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	var c net.Conn
	eventually(t, "openssl s_server", func() bool {
		c, err = net.Dial("tcp", addr)
		return err == nil
	})
	w := newWatcher()
	end, _, err := tunnel.Client(ClientRequest{FD: descriptorOf(t, c), ServerName: "pool.test", Trust: trust}, w)
	if err != nil {
		t.Fatal(err)
	}
	plain := plainConn(t, end)
	defer plain.Close()
	w.awaitReady(t)
	fmt.Fprintln(plain, "abc")
	if line, err := bufio.NewReader(plain).ReadString('\n'); err != nil || line != "cba\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

// TestControlSocketGarbage: a child survives messages that make no sense, with
// descriptors or without, and leaks none of these descriptors.
func TestControlSocketGarbage(t *testing.T) {
	tunnel, a := newTunnel(t, nil)
	exchangeWithNew(t, tunnel, a)
	tunnel.mu.Lock()
	p := tunnel.current
	tunnel.lastID = 1 << 20 // the garbage contains small numbers
	tunnel.mu.Unlock()
	childDescriptors := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
		if err != nil {
			return -1 // the process is not dumpable, so only root may look
		}
		return len(entries)
	}
	r := rand.New(rand.NewPCG(3, 4))
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	before := childDescriptors()
	for i := range 3000 {
		b := sampleMessages[r.IntN(len(sampleMessages))].appendTo(nil)
		if kind(b[1]) == kindRetire {
			continue
		}
		switch i % 3 {
		case 0:
			b[r.IntN(len(b))] = byte(r.Uint32())
			if len(b) > 1 && kind(b[1]) == kindRetire {
				continue
			}
		case 1:
			b = b[:1+r.IntN(len(b)-1)]
		}
		var fds []int
		for range r.IntN(4) {
			fds = append(fds, int(null.Fd()))
		}
		if err := p.control.send(b, fds); err != nil {
			t.Fatal(err)
		}
	}
	exchangeWithNew(t, tunnel, a)
	tunnel.mu.Lock()
	same := tunnel.current == p
	tunnel.mu.Unlock()
	if !same {
		t.Error("the process has died")
	}
	eventually(t, "the descriptors are closed", func() bool { return childDescriptors() <= before+8 })
}
