//go:build linux && e2e

package tunnel

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchServer is the plain server of the comparison: one loop on epoll that sends
// back what it gets. With a certificate, its connections are behind a tunnel.
func benchServer(args []string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench server:", err)
			os.Exit(1)
		}
	}
	portFile, certFile, keyFile := args[0], args[1], args[2]
	var tunnel *Tunnel
	var err error
	if certFile != "" {
		tunnel, err = New(Options{Program: "test", CertFile: certFile, KeyFile: keyFile, ReportEvery: time.Second})
		fail(err)
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	fail(err)
	fail(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	fail(unix.Listen(listener, 4096))
	addr, err := unix.Getsockname(listener)
	fail(err)
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	fail(err)
	watch := func(fd int) {
		fail(unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	}
	watch(listener)
	fail(os.WriteFile(portFile+".new", []byte(strconv.Itoa(addr.(*unix.SockaddrInet4).Port)), 0o600))
	fail(os.Rename(portFile+".new", portFile))
	events, b := make([]unix.EpollEvent, 256), make([]byte, 64<<10)
	for {
		n, err := unix.EpollWait(epfd, events, -1)
		if err == unix.EINTR {
			continue
		}
		fail(err)
		for _, ev := range events[:n] {
			if int(ev.Fd) != listener {
				if n, errno := receive(ev.Fd, b); n > 0 && errno == 0 {
					send(ev.Fd, b[:n])
				} else if errno != unix.EAGAIN {
					unix.Close(int(ev.Fd))
				}
				continue
			}
			for {
				fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if err != nil {
					break
				}
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
				if tunnel != nil {
					fd, _, err = tunnel.Server(ServerRequest{FD: fd}, &heldConn{})
					fail(err)
				}
				watch(fd)
			}
		}
	}
}

// benchSide is one way to serve TLS: its address and the processes that count.
type benchSide struct {
	name string
	addr string
	pids func() []int
}

func startBenchServer(b *testing.B, certFile, keyFile string) (string, *exec.Cmd) {
	b.Helper()
	portFile := filepath.Join(b.TempDir(), "port")
	cmd := exec.Command("/proc/self/exe", "-test-bench-server", portFile, certFile, keyFile)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var port []byte
	eventually(b, "bench server", func() (ok bool) {
		var err error
		port, err = os.ReadFile(portFile)
		return err == nil
	})
	return "127.0.0.1:" + string(port), cmd
}

func tunnelSide(b *testing.B, certFile, keyFile string) benchSide {
	addr, cmd := startBenchServer(b, certFile, keyFile)
	return benchSide{"tunnel", addr, func() []int {
		return append(allChildren(cmd.Process.Pid), cmd.Process.Pid)
	}}
}

func haproxySide(b *testing.B, certFile, keyFile string) benchSide {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy"
	}
	plain, server := startBenchServer(b, "", "")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	dir := b.TempDir()
	cert, _ := os.ReadFile(certFile)
	key, _ := os.ReadFile(keyFile)
	os.WriteFile(filepath.Join(dir, "pair.pem"), append(cert, key...), 0o600)
	config := fmt.Sprintf(`global
	maxconn 4000
	ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
	mode tcp
	timeout connect 10s
	timeout client 1h
	timeout server 1h
frontend tls
	bind %s ssl crt %s/pair.pem
	default_backend plain
backend plain
	server plain %s
`, addr, dir, plain)
	file := filepath.Join(dir, "haproxy.cfg")
	os.WriteFile(file, []byte(config), 0o600)
	cmd := exec.Command(path, "-db", "-f", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatalf("haproxy is needed, scripts/install-bench-tools.sh installs it: %v", err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(b, "haproxy", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return benchSide{"haproxy", addr, func() []int { return []int{cmd.Process.Pid, server.Process.Pid} }}
}

func allChildren(pid int) []int {
	var pids []int
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// cpu returns what the processes have used.
func (s benchSide) cpu() time.Duration {
	var sum time.Duration
	for _, pid := range s.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) > 13 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			sum += time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return sum
}

// private returns the memory that the processes share with no other.
func (s benchSide) private() int {
	sum := 0
	for _, pid := range s.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "Private_") {
				kb, _ := strconv.Atoi(f[1])
				sum += kb << 10
			}
		}
	}
	return sum
}

func (s benchSide) dial(b *testing.B, a *authority) *tls.Conn {
	b.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		b.Fatal(err)
	}
	secured := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "pool.test"})
	if err := secured.Handshake(); err != nil {
		b.Fatal(err)
	}
	return secured
}

// roundTrips sends lines on all connections at a rate for some time, and returns
// the CPU time per round trip and the 99th percentile of the latency.
func (s benchSide) roundTrips(b *testing.B, conns []*tls.Conn, rate int, lasting time.Duration) (time.Duration, time.Duration) {
	pause := time.Second * time.Duration(len(conns)) / time.Duration(rate)
	line := []byte(`{"id":4,"method":"mining.submit","params":["account.worker","5f1a","0000000000000001","5f5e1000","1a2b3c4d"]}` + "\n")
	before, end := s.cpu(), time.Now().Add(lasting)
	var mu sync.Mutex
	var all []time.Duration
	var going sync.WaitGroup
	for i, c := range conns {
		going.Go(func() {
			r := bufio.NewReaderSize(c, 256)
			var mine []time.Duration
			time.Sleep(pause * time.Duration(i) / time.Duration(len(conns)))
			for next := time.Now(); next.Before(end); next = next.Add(pause) {
				time.Sleep(time.Until(next))
				at := time.Now()
				c.Write(line)
				if _, err := r.ReadSlice('\n'); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	going.Wait()
	used := s.cpu() - before
	slices.Sort(all)
	return used / time.Duration(len(all)), all[len(all)*99/100]
}

// BenchmarkHandshakes compares the cost of handshakes with HAProxy in front of the
// same plain server, alternately. It is one run, whatever b.N is: use -benchtime
// 1x.
func BenchmarkHandshakes(b *testing.B) {
	a := newAuthority(b)
	for _, kind := range []string{"ecdsa", "rsa"} {
		b.Run(kind, func(b *testing.B) {
			cert, key := a.issue(b, "pool.test", time.Now().Add(-time.Hour), time.Now().Add(time.Hour), kind == "rsa")
			sides := []benchSide{tunnelSide(b, cert, key), haproxySide(b, cert, key)}
			for _, side := range sides {
				side.dial(b, a).Close() // so that the process has started
			}
			for round := range 3 {
				for _, side := range sides {
					const n = 1000
					before := side.cpu()
					for range n {
						side.dial(b, a).Close()
					}
					b.Logf("round %d %s: %v CPU per handshake", round, side.name, (side.cpu()-before)/n)
				}
			}
		})
	}
}

// BenchmarkRoundTrips compares the cost of lines, and the memory of connections.
func BenchmarkRoundTrips(b *testing.B) {
	a := newAuthority(b)
	cert, key := a.good(b)
	for _, n := range []int{500, 2000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			sides := []benchSide{tunnelSide(b, cert, key), haproxySide(b, cert, key)}
			conns := make([][]*tls.Conn, len(sides))
			for i, side := range sides {
				side.dial(b, a).Close()
				time.Sleep(time.Second)
				empty := side.private()
				for range n {
					conns[i] = append(conns[i], side.dial(b, a))
				}
				side.roundTrips(b, conns[i], 5000, 2*time.Second)
				time.Sleep(3 * time.Second)
				with := side.private()
				b.Logf("%s: private memory %d KB, with %d connections %d KB: %.1f KB each", side.name, empty>>10, n, with>>10, float64(with-empty)/1024/float64(n))
			}
			for round := range 2 {
				for i, side := range sides {
					cpu, late := side.roundTrips(b, conns[i], 5000, 5*time.Second)
					b.Logf("round %d %s: %v CPU per round trip, 99 of 100 within %v", round, side.name, cpu, late)
				}
			}
			for _, all := range conns {
				for _, c := range all {
					c.Close()
				}
			}
		})
	}
}
