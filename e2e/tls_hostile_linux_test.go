//go:build linux && e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TestTLSStrangers: anything may come after a first byte of TLS. None of it harms
// others, and each connection is counted.
func TestTLSStrangers(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	c := w.config([]*stratumtest.Pool{btc})
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	fleet := testkit.FleetOf(t, d.Addr, "alice", 10, 100, stratumtest.MinerOptions{CheatHash: true})
	good := startSecured(t, w, d, 3)

	old := w.miner()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: d.Addr, TLS: old})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.0: got error %v, want a refused protocol version", err)
	}
	d.WaitLog(`W\d+ .*TLS handshake failed: old version miner=127\.0\.0\.1:\d+: tls: `)

	noise := rand.NewChaCha8([32]byte{1})
	for range 50 {
		raw := stratumtest.DialRaw(t, d.Addr)
		b := make([]byte, 1+noise.Uint64()%2000)
		noise.Read(b)
		b[0] = 0x16
		raw.Conn().Write(b)
		raw.Conn().(*net.TCPConn).CloseWrite()
		raw.Conn().SetReadDeadline(time.Now().Add(e2eWait))
		if _, err := io.Copy(io.Discard, raw.Conn()); testkit.IsTimeout(err) {
			t.Fatal("a connection with noise stays open")
		}
		raw.Close()
	}

	// A hello that comes one byte at a time is slow, but allowed.
	nc, err := net.Dial("tcp", d.Addr)
	testkit.Must(t, err)
	login := testkit.DialLogin(func() (net.Conn, error) { return tls.Client(&piecemeal{nc}, w.miner()), nil }, "alice.slow", "slow/1.0")
	if !login.Accepted() {
		t.Errorf("a miner that sends a byte at a time is not served: %+v", login)
	}
	login.Close()

	// TLS within TLS, and a PROXY header within TLS, are not Stratum.
	for _, inner := range []string{"\x16\x03\x01\x02\x00", "PROXY TCP4 192.0.2.7 127.0.0.1 40000 3333\r\n"} {
		tc, err := tls.Dial("tcp", d.Addr, w.miner())
		testkit.Must(t, err)
		_, err = io.WriteString(tc, inner)
		testkit.Must(t, err)
		tc.SetReadDeadline(time.Now().Add(e2eWait))
		if _, err := io.Copy(io.Discard, tc); testkit.IsTimeout(err) {
			t.Errorf("a connection that sends %q inside TLS stays open", inner)
		}
		tc.Close()
	}
	for _, m := range good {
		testkit.WantAccepted(t, m, 1)
	}
	testkit.WantMining(t, fleet.Miners(), "btc")
	testkit.SettleFleet(t, fleet)
	// There are few lines about the many: the first of each reason, and their number.
	d.Signal(syscall.SIGTERM)
	<-d.Ended
	if lines := d.LogLines(`(TLS handshake failed: not TLS.*)`); len(lines) != 2 || !strings.Contains(lines[1], "more within a minute, such as miner=") {
		t.Errorf("logged: %q", lines)
	}
}

// piecemeal writes one byte at a time.
type piecemeal struct{ net.Conn }

func (p *piecemeal) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := p.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(100 * time.Microsecond)
	}
	return len(b), nil
}

// TestTLSHelloStorm: many hellos at once, half of which never finish, delay nobody
// for long, and end in time.
func TestTLSHelloStorm(t *testing.T) {
	t.Parallel()
	n := 200
	if *tlsLongFlag {
		n = 5000
	}
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	d := daemontest.Start(t, w.config([]*stratumtest.Pool{btc}), map[string]string{"*": "btc"})
	fleet := testkit.FleetOf(t, d.Addr, "alice", 20, 200, stratumtest.MinerOptions{CheatHash: true})
	good := startSecured(t, w, d, 3)
	fleet.Latency.Reset()
	time.Sleep(2 * time.Second) // shares without the storm, for comparison
	quiet := fleet.Latency.Quantile(0.99)
	fleet.Latency.Reset()

	began := time.Now()
	var all sync.WaitGroup
	var served, refused atomic.Int64
	var lastEnd atomic.Int64
	for i := range n {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%100))}}
		nc, err := dialer.Dial("tcp", d.Addr)
		testkit.Must(t, err)
		all.Go(func() {
			defer nc.Close()
			if i%2 == 1 {
				ctx, cancel := context.WithTimeout(context.Background(), testkit.LongWait)
				defer cancel()
				if tls.Client(nc, w.miner()).HandshakeContext(ctx) == nil {
					served.Add(1)
				} else {
					refused.Add(1)
				}
				return
			}
			nc.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			nc.SetReadDeadline(time.Now().Add(testkit.LongWait))
			if _, err := io.Copy(io.Discard, nc); testkit.IsTimeout(err) {
				t.Error("the connection of a half hello stays open")
			}
			lastEnd.Store(max(lastEnd.Load(), int64(time.Since(began))))
		})
	}
	all.Wait()
	loud := fleet.Latency.Quantile(0.99)
	t.Logf("%d hellos: %d served, %d refused, half hellos ended after %v; latency of shares 99%%: %v, before %v",
		n, served.Load(), refused.Load(), time.Duration(lastEnd.Load()).Round(time.Second), loud, quiet)
	if int(served.Load()) != n/2 {
		t.Errorf("%d of %d complete handshakes were served", served.Load(), n/2)
	}
	for _, m := range good {
		testkit.WantAccepted(t, m, 1)
	}
	testkit.WantMining(t, fleet.Miners(), "btc")
	testkit.SettleFleet(t, fleet)
}

// TestTLSMinerDoesNotRead: what is kept for a miner that does not read is bounded,
// and others are served meanwhile.
func TestTLSMinerDoesNotRead(t *testing.T) {
	jobs := 1000
	if *tlsLongFlag {
		jobs = 6500 // 100 MB
	}
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true, JobSize: 16000})
	d := daemontest.Start(t, w.config([]*stratumtest.Pool{btc}), map[string]string{"*": "btc"})
	good := startSecured(t, w, d, 3)
	tc, err := tls.Dial("tcp", d.Addr, w.miner())
	testkit.Must(t, err)
	login := testkit.DialLogin(func() (net.Conn, error) { return tc, nil }, "alice.deaf", "deaf/1.0")
	if !login.Accepted() {
		t.Fatalf("the miner is not served: %+v", login)
	}
	defer login.Close()
	tunnel := tunnelOf(t, d)
	before, daemonBefore := residentKB(t, tunnel), residentKB(t, d.Cmd.Process.Pid)
	for i := range jobs {
		btc.NewJob(false)
		if i%100 == 99 {
			for _, m := range good {
				testkit.WantAccepted(t, m, 1)
			}
		}
	}
	after, daemonAfter := residentKB(t, tunnel), residentKB(t, d.Cmd.Process.Pid)
	t.Logf("%d MB of jobs: tunnel process %d KB, was %d; daemon %d KB, was %d", jobs*16/1000, after, before, daemonAfter, daemonBefore)
	// This is the formula of internal/tunnel's doc.go: about 100 KB for each
	// connection that does not read, and the garbage of the others.
	if limit := before + 24<<10; after > limit && !*daemontest.DaemonRace {
		t.Errorf("the tunnel process has %d KB, which is too much more than the %d KB of before", after, before)
	}
	for _, m := range good {
		testkit.WantAccepted(t, m, 1)
	}
}

// residentKB returns the memory of a process that it shares with no other.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	testkit.Must(t, err)
	return daemontest.Figure(t, string(text), `RssAnon:\s+(\d+) kB`)
}
