//go:build linux && e2e

package tunnel

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// handedOver is what one test daemon leaves to the next, as runtime.json does.
type handedOver struct {
	Listener int
	State    *State
	Conns    []handedConn
}

type handedConn struct {
	FD  int
	Ref Ref
}

// heldConn is a connection of a test daemon. It answers each line with the daemon's
// generation before it.
type heldConn struct {
	fd   int
	conn *Conn
	stop chan struct{} // closed when it no longer reads
}

func (h *heldConn) TunnelReady(*Conn, Secured) {}
func (h *heldConn) TunnelEnded(*Conn, Ending)  {}

// testDaemon is the process of the tests that kill or replace a daemon. It takes
// TLS connections, and replaces itself on SIGUSR2. Its arguments are the program's
// version, the generation, the certificate's files, a directory and, after an exec,
// the state's file.
func testDaemon(args []string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "test daemon:", err)
			os.Exit(1)
		}
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, unix.SIGUSR2)
	program, generation, certFile, keyFile, dir := args[0], args[1], args[2], args[3], args[4]
	o := Options{
		Program: program, Args: []string{"-tunnel", program, filepath.Join(dir, "wait")}, CertFile: certFile, KeyFile: keyFile,
		Logf: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	var mu sync.Mutex
	var held []*heldConn
	frozen := make(chan struct{})
	// serve relays on a goroutine until the daemon is replaced. It polls, so that
	// it stops between two lines.
	serve := func(h *heldConn) {
		h.stop = make(chan struct{})
		mu.Lock()
		held = append(held, h)
		mu.Unlock()
		go func() {
			defer close(h.stop)
			b := make([]byte, 4096)
			for {
				select {
				case <-frozen:
					return
				default:
				}
				poll := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
				if n, err := unix.Poll(poll, 50); n == 0 || err != nil {
					continue
				}
				n, err := unix.Read(h.fd, b)
				if n <= 0 || err != nil {
					unix.Close(h.fd)
					h.fd = -1
					return
				}
				for line := range strings.Lines(string(b[:n])) {
					unix.Write(h.fd, []byte(generation+" "+line))
				}
			}
		}()
	}
	var tunnel *Tunnel
	var ln net.Listener
	var err error
	if len(args) > 5 {
		b, err := os.ReadFile(args[5])
		fail(err)
		var was handedOver
		fail(json.Unmarshal(b, &was))
		var errs []error
		tunnel, errs = Resume(o, was.State)
		for _, err := range errs {
			fail(err)
		}
		for _, c := range was.Conns {
			fail(InheritedPair(c.FD))
			unix.CloseOnExec(c.FD)
			h := &heldConn{fd: c.FD}
			if h.conn = tunnel.Adopt(c.Ref, h); h.conn == nil {
				fail(fmt.Errorf("no connection %v", c.Ref))
			}
			serve(h)
		}
		unix.CloseOnExec(was.Listener)
		ln, err = net.FileListener(os.NewFile(uintptr(was.Listener), "listener"))
		fail(err)
		tunnel.Begin()
	} else {
		tunnel, err = New(o)
		fail(err)
		ln, err = net.Listen("tcp", "127.0.0.1:0")
		fail(err)
		fail(os.WriteFile(filepath.Join(dir, "port.new"), []byte(strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)), 0o600))
		fail(os.Rename(filepath.Join(dir, "port.new"), filepath.Join(dir, "port")))
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			raw, err := c.(*net.TCPConn).SyscallConn()
			fail(err)
			fd := -1
			raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
			fail(err)
			c.Close()
			h := &heldConn{}
			h.fd, h.conn, err = tunnel.Server(ServerRequest{FD: fd, Address: "192.0.2.1", Timeout: time.Minute}, h)
			fail(err)
			serve(h)
		}
	}()
	<-again
	signal.Ignore(unix.SIGUSR2)
	ln.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
	<-accepting
	tunnel.Freeze()
	close(frozen)
	next := handedOver{State: tunnel.State()}
	for _, h := range held {
		if <-h.stop; h.fd >= 0 {
			next.Conns = append(next.Conns, handedConn{h.fd, h.conn.Ref()})
		}
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	fail(err)
	raw.Control(func(fd uintptr) { next.Listener = int(fd) })
	keep := append(next.State.Descriptors(), next.Listener)
	for _, c := range next.Conns {
		keep = append(keep, c.FD)
	}
	for _, fd := range keep {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		fail(err)
	}
	b, err := json.Marshal(next)
	fail(err)
	file := filepath.Join(dir, "state")
	fail(os.WriteFile(file, b, 0o600))
	if v, err := os.ReadFile(filepath.Join(dir, "next-program")); err == nil {
		program = string(v)
	}
	n, _ := strconv.Atoi(generation)
	fail(syscall.Exec("/proc/self/exe", []string{os.Args[0], "-test-daemon", program, strconv.Itoa(n + 1), certFile, keyFile, dir, file}, os.Environ()))
	// The frozen tunnel has no goroutine. Without this, the garbage collector may
	// close its control sockets before exec.
	runtime.KeepAlive(tunnel)
	runtime.KeepAlive(ln)
}

// runningDaemon is a test daemon as its test sees it.
type runningDaemon struct {
	cmd  *exec.Cmd
	addr string
	dir  string
	a    *authority
}

func startDaemon(t *testing.T, program string) *runningDaemon {
	t.Helper()
	a := newAuthority(t)
	cert, key := a.good(t)
	d := &runningDaemon{dir: t.TempDir(), a: a}
	d.cmd = exec.Command("/proc/self/exe", "-test-daemon", program, "1", cert, key, d.dir)
	d.cmd.Stderr = os.Stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill(); d.cmd.Wait() })
	eventually(t, "start of the daemon", func() bool {
		b, err := os.ReadFile(filepath.Join(d.dir, "port"))
		d.addr = "127.0.0.1:" + string(b)
		return err == nil
	})
	return d
}

// upgradeTo waits until the daemon has replaced itself by another program.
func (d *runningDaemon) upgradeTo(t *testing.T, program string) {
	t.Helper()
	testkit.WriteFile(t, filepath.Join(d.dir, "next-program"), program)
	tries := 0
	eventually(t, "exec", func() bool {
		if tries%20 == 0 { // a signal is lost if the daemon has only just begun
			d.cmd.Process.Signal(unix.SIGUSR2)
		}
		tries++
		return strings.Contains(cmdline(d.cmd.Process.Pid), "-test-daemon\x00"+program+"\x00")
	})
}

func (d *runningDaemon) dial(t *testing.T) *bufferedConn {
	t.Helper()
	tcp, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	tcp.SetDeadline(time.Now().Add(2 * patience))
	c := tls.Client(tcp, &tls.Config{RootCAs: d.a.pool(), ServerName: "pool.test"})
	return &bufferedConn{c, bufio.NewReader(c)}
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) ask(t *testing.T, line, want string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, line); err != nil {
		t.Fatal(err)
	}
	c.expect(t, want+" "+line)
}

func (c *bufferedConn) expect(t *testing.T, want string) {
	t.Helper()
	got, err := c.r.ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

// children returns the living processes whose parent is pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	// A child belongs to the thread that started it.
	all := string(b)
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		if task.Name() == strconv.Itoa(pid) {
			continue
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		all += " " + string(b)
	}
	var pids []int
	for _, f := range strings.Fields(all) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// TestUpgrade replaces the daemon by another program, and then by the same program
// again, under 500 connections and unfinished handshakes.
func TestUpgrade(t *testing.T) {
	d := startDaemon(t, "a")
	const n = 500
	conns := make([]*bufferedConn, n)
	var dialing sync.WaitGroup
	for i := range conns {
		conns[i] = d.dial(t)
		if i%50 == 0 {
			conns[i].ask(t, "hello", "1")
		}
	}
	for i, c := range conns {
		dialing.Go(func() { fmt.Fprintln(c, "line", i) })
	}
	dialing.Wait()
	for i, c := range conns {
		c.expect(t, fmt.Sprint("1 line ", i))
	}
	halfOpen := d.dial(t)
	eventually(t, "one child", func() bool { return len(children(t, d.cmd.Process.Pid)) == 1 })
	first := children(t, d.cmd.Process.Pid)[0]

	if err := os.WriteFile(filepath.Join(d.dir, "next-program"), []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	for generation := 2; generation <= 3; generation++ {
		d.cmd.Process.Signal(unix.SIGUSR2)
		var writing sync.WaitGroup
		for i, c := range conns { // in the middle of everything
			writing.Go(func() { fmt.Fprintln(c, "line", i) })
		}
		writing.Wait()
		for i, c := range conns {
			got, err := c.r.ReadString('\n')
			if _, rest, _ := strings.Cut(got, " "); err != nil || rest != fmt.Sprintln("line", i) {
				t.Fatalf("connection %d: got %q, %v", i, got, err)
			}
		}
		eventually(t, "exec", func() bool {
			return strings.Contains(cmdline(d.cmd.Process.Pid), fmt.Sprintf("\x00%d\x00", generation))
		})
		for _, c := range conns {
			c.ask(t, "after", strconv.Itoa(generation))
		}
		// Another program has its own child; the same program keeps it.
		eventually(t, "two children", func() bool { return len(children(t, d.cmd.Process.Pid)) == 2 })
	}
	halfOpen.ask(t, "late", "3")
	late := d.dial(t)
	late.ask(t, "hello", "3")
	late.Close()

	// The former child ends with its last connection, and is reaped.
	for _, c := range conns {
		c.Close()
	}
	halfOpen.Close()
	eventually(t, "end of the former child", func() bool {
		pids := children(t, d.cmd.Process.Pid)
		return len(pids) == 1 && pids[0] != first
	})
}

// TestUpgradesInQuickSuccession replaces the daemon by other programs before their tunnel
// processes are ready. None of those is left behind.
func TestUpgradesInQuickSuccession(t *testing.T) {
	d := startDaemon(t, "a")
	c := d.dial(t)
	c.ask(t, "hello", "1")
	for n := range 12 {
		d.upgradeTo(t, string(rune('b'+n)))
		if n%2 == 0 {
			// This daemon starts its process, but is replaced before that is ready.
			eventually(t, "another child", func() bool { return len(children(t, d.cmd.Process.Pid)) > 1 })
		}
	}
	late := d.dial(t)
	fmt.Fprintln(late, "hello")
	if got, err := late.r.ReadString('\n'); !strings.HasSuffix(got, " hello\n") {
		t.Fatalf("got %q, %v", got, err)
	}
	late.Close()
	eventually(t, "no more than the first child and the present one", func() bool {
		return len(children(t, d.cmd.Process.Pid)) <= 2
	})
	fmt.Fprintln(c, "still")
	if got, err := c.r.ReadString('\n'); !strings.HasSuffix(got, " still\n") {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestUpgradesBeforeProcessesStart replaces the daemon by other programs while their tunnel
// processes take very long to start. When these start at last, they end again, and the
// present program has a process.
func TestUpgradesBeforeProcessesStart(t *testing.T) {
	d := startDaemon(t, "a")
	c := d.dial(t)
	c.ask(t, "hello", "1")
	wait := filepath.Join(d.dir, "wait")
	testkit.WriteFile(t, wait, "")
	for n := range maxProcesses + 1 {
		d.upgradeTo(t, string(rune('b'+n)))
		eventually(t, "another child", func() bool { return len(children(t, d.cmd.Process.Pid)) == min(n+2, maxProcesses) })
	}
	if err := os.Remove(wait); err != nil {
		t.Fatal(err)
	}
	present := "-tunnel\x00" + string(rune('b'+maxProcesses)) + "\x00"
	eventually(t, "only the first child and the present one", func() bool {
		pids := children(t, d.cmd.Process.Pid)
		return len(pids) == 2 && (strings.Contains(cmdline(pids[0]), present) || strings.Contains(cmdline(pids[1]), present))
	})
	fmt.Fprintln(c, "still")
	if got, err := c.r.ReadString('\n'); !strings.HasSuffix(got, " still\n") {
		t.Fatalf("got %q, %v", got, err)
	}
}

func cmdline(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(b)
}

// TestDaemonKilled: no child outlives its daemon.
func TestDaemonKilled(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		d := startDaemon(t, "a")
		c := d.dial(t)
		c.ask(t, "hello", "1")
		pids := children(t, d.cmd.Process.Pid)
		if len(pids) != 1 {
			t.Fatalf("there are %d children", len(pids))
		}
		// Signals to the group are meant for the daemon.
		for _, s := range []unix.Signal{unix.SIGUSR2, unix.SIGHUP, unix.SIGTERM, unix.SIGINT} {
			unix.Kill(pids[0], s)
		}
		c.ask(t, "still here", "1")
		d.cmd.Process.Signal(sig)
		d.cmd.Wait()
		eventually(t, "end of the child", func() bool { return unix.Kill(pids[0], 0) == unix.ESRCH || isZombie(pids[0]) })
		if _, err := c.r.ReadString('\n'); err == nil {
			t.Error("the connection still works")
		}
	}
}

// isZombie: nobody may reap the orphans of a test in a container.
func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}
