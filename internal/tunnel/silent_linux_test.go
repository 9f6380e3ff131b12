//go:build linux && e2e

package tunnel

import (
	"crypto/tls"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tunnel process that hangs is killed. Until then, what waits for it does not
// pile up: neither descriptors, nor owners that get no report.
func TestChildHangs(t *testing.T) {
	tunnel, a := newTunnel(t, func(o *Options) { o.Patience = 3 * time.Second })
	connected := connectSecured(t, tunnel, a)
	former := tunnel.Processes()[0].PID
	before := openDescriptors(t)
	if err := unix.Kill(former, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var all []*miner
	for range maxInFlight/2 + 100 { // more than is sent
		all = append(all, connect(t, tunnel, a, time.Second))
	}
	for _, m := range all {
		m.tcp.Close()
		m.plain.Close()
	}
	for _, m := range all {
		// On a busy machine, the next process gets the last ones before they are closed.
		if e := m.watcher.awaitEnd(t); e.Reason != Died && e.Reason != Closed && e.Reason != Reset && e.Reason != Timeout {
			t.Errorf("unexpected end %v", e)
		}
	}
	if e := connected.watcher.awaitEnd(t); e.Reason != Died {
		t.Errorf("got end %v, want Died", e)
	}
	m := connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
	all2 := tunnel.Processes()
	if len(all2) != 1 || all2[0].PID == former {
		t.Errorf("there are processes %v, and %d former ones", all2, former)
	}
	m.tcp.Close()
	m.plain.Close()
	eventually(t, "descriptors are few again", func() bool { return openDescriptors(t) <= before })
}

// What waits for a process that accepts nothing only waits until its time is over,
// even if the process is not given up yet.
func TestConnectionsWaitForHangingChild(t *testing.T) {
	tunnel, a := newTunnel(t, func(o *Options) { o.Patience = time.Hour })
	connectSecured(t, tunnel, a)
	pid := tunnel.Processes()[0].PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGCONT)
	var all []*miner
	for range maxInFlight/2 + 100 {
		all = append(all, connect(t, tunnel, a, time.Second))
	}
	for _, m := range all[maxInFlight/2+2:] {
		if e := m.watcher.awaitEnd(t); e.Reason != Died || e.Ready {
			t.Errorf("got end %v, want Died before the handshake", e)
		}
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m := connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
}

// A process that had no free descriptor for the trusted certificates gets them
// again when it has one.
func TestTrustSentAgain(t *testing.T) {
	tunnel, miners := newTunnel(t, nil)
	connectSecured(t, tunnel, miners)
	a := newAuthority(t)
	trust, err := LoadTrust(a.file)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := a.good(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() *watcher {
		fd, tcp := tcpPair(t)
		t.Cleanup(func() { tcp.Close() })
		go tls.Server(tcp, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
		w := newWatcher()
		end, _, err := tunnel.Client(ClientRequest{FD: fd, ServerName: "pool.test", Trust: trust}, w)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(end) })
		return w
	}
	pid := tunnel.Processes()[0].PID
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: lookUpLimit(t, pid)}, &limit); err != nil {
		t.Fatal(err)
	}
	if e := ask().awaitEnd(t); e.Reason != Limit {
		t.Errorf("got end %v, want Limit", e)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	ask().awaitReady(t)
}

func lookUpLimit(t *testing.T, pid int) uint64 {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal("process "+strconv.Itoa(pid), os.NewSyscallError("prlimit", err))
	}
	return limit.Max
}
