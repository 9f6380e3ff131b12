//go:build linux && e2e

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// logScene is a daemon whose standard error is a pipe that the test holds, and
// whose log files are in a small file system of their own.
type logScene struct {
	*daemontest.Daemon
	t    *testing.T
	read *os.File // the pipe's end for reading
	logs string   // directory of the log files
	web  string   // its HTTP address
}

// newLogScene prepares the daemon; begin starts it.
func newLogScene(t *testing.T, c *daemontest.Config, coins map[string]string) *logScene {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &logScene{Daemon: daemontest.New(t, t.TempDir()), t: t, read: read, logs: mountSmall(t, 8)}
	s.Stderr = write
	t.Cleanup(func() { read.Close() })
	c.ListenAddr, c.HTTPDebugListenAddr, c.EnableHTTPDebug = testkit.UnusedAddr(t), testkit.UnusedAddr(t), true
	s.Addr, s.web = c.ListenAddr, "http://"+c.HTTPDebugListenAddr
	s.WriteConfig(c)
	s.SetCoins(coins)
	return s
}

// begin runs the daemon until it listens, whether or not it can log.
func (s *logScene) begin(args ...string) {
	s.T.Helper()
	s.StartQuietly(args...)
	s.Stderr.Close() // our copy
	testkit.WaitUntil(s.T, "listening", func() bool {
		select {
		case <-s.Ended:
			s.T.Fatalf("the daemon has ended: %v", s.Cmd.ProcessState)
		default:
		}
		nc, err := net.Dial("tcp", s.Addr)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	testkit.WaitUntil(s.T, "HTTP", func() bool { _, err := s.get("/healthz"); return err == nil })
}

func (s *logScene) get(path string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Get(s.web + path)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, reply.Status, text)
	}
	return string(text), err
}

// metric is one value of /metrics, -1 while there is none.
func (s *logScene) metric(name string) float64 {
	text, err := s.get("/metrics")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				s.T.Error(err)
			}
			return v
		}
	}
	return -1
}

// upgradeUnheard upgrades the daemon without using its log.
func (s *logScene) upgradeUnheard() {
	s.T.Helper()
	const count = "stratum_switcher_upgrades_total"
	before := s.metric(count)
	for end := time.Now().Add(testkit.LongWait); before < 0 && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		before = s.metric(count)
	}
	s.Signal(syscall.SIGUSR2)
	testkit.WaitUntil(s.T, "upgraded", func() bool { return s.metric(count) == before+1 })
}

// endsOnSignal wants the daemon to end with status 0 and in time.
func (s *logScene) endsOnSignal() {
	s.T.Helper()
	wantEnd(s.t, s.Daemon, syscall.SIGTERM, 5*time.Second)
}

// logged returns all that is in the files of a severity, in any order.
func (s *logScene) logged(severity string) string {
	s.T.Helper()
	files, err := filepath.Glob(filepath.Join(s.logs, "*.log."+severity+".*"))
	if err != nil {
		s.T.Fatal(err)
	}
	var all strings.Builder
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.T.Fatal(err)
		}
		all.Write(content)
	}
	return all.String()
}

// The daemon's loops say something on each of these coin changes. Without the
// limit of each kind of line there would be one for each.
func (s *logScene) sayMuch(miners []*stratumtest.Miner) {
	s.T.Helper()
	for i := range limitedFirst + 2 {
		s.SetCoins(map[string]string{"*": "nocoin" + strconv.Itoa(i)})
		before := float64(i + 1)
		testkit.WaitUntil(s.T, "the coin change", func() bool { return s.metric("stratum_switcher_switches_without_pool_total") >= before })
		for _, m := range miners {
			testkit.WantAccepted(s.T, m, 1)
		}
	}
}

// mendCoins ends what sayMuch began, and waits until new miners are served.
func (s *logScene) mendCoins() {
	s.T.Helper()
	s.SetCoins(map[string]string{"*": "btc"})
	testkit.WaitUntil(s.T, "a new miner is served", func() bool {
		l := testkit.LogIn(s.Addr, "bob.first", "raw/1.0")
		defer l.Close()
		return l.Accepted()
	})
}

// If the reader of standard error is gone or does not read, this costs no miner and
// no share, whatever is logged there. Health, upgrades and signals work as usual.
func TestStandardErrorNobodyReads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		gone bool // whether the reader is gone; otherwise it does not read
		args []string
	}{
		{"gone, all lines", true, []string{"-logtostderr", "-v=3"}},
		{"gone, errors", true, []string{"-v=1", "-logbuflevel=-1"}},
		{"blocked, all lines", false, []string{"-logtostderr", "-v=3"}},
		{"blocked, also files", false, []string{"-alsologtostderr", "-v=3", "-logbuflevel=-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			btc, _ := testkit.TwoPools(t)
			s := newLogScene(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
			if c.gone {
				s.read.Close()
			} else {
				fillPipe(t, s.Stderr)
			}
			s.begin(append(c.args, "-log_dir="+s.logs)...)
			miners := testkit.StartMiners(t, s.Addr, "alice", 5)
			s.sayMuch(miners)
			// Handshakes at -v 3 cause more lines than the queue holds.
			for range 20 {
				chatty(t, s.Addr)
			}
			s.upgradeUnheard()
			s.mendCoins()
			testkit.WantMining(t, miners, "btc")
			testkit.WantNewMiner(t, s.Addr, "bob")
			for _, path := range []string{"/healthz", "/readyz"} {
				if _, err := s.get(path); err != nil {
					t.Error(err)
				}
			}
			if c.args[0] == "-logtostderr" && s.metric(`stratum_switcher_log_lines_dropped_total{output="stderr"}`) <= 0 {
				t.Error("no line is reported as left out")
			}
			s.endsOnSignal()
			if files := s.logged("INFO"); c.args[0] != "-logtostderr" && (!strings.Contains(files, "listening addr=") || !strings.Contains(files, "upgraded version=") || !strings.Contains(files, "stopping on ")) {
				t.Errorf("lines are missing in the files: %.2000s", files)
			}
		})
	}
}

// fillPipe leaves no room in a pipe. The daemon's end of it blocks, so only a copy
// of ours is used.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	fd := int(w.Fd()) // Fd makes it blocking, as an inherited descriptor is
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for size := 4096; size > 0; {
		if _, err := unix.Write(fd, bytes.Repeat([]byte("\n"), size)); err == unix.EAGAIN {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// chatty is a connection that causes one log line for each of its requests at -v 3,
// and one for its end at -v 2.
func chatty(t *testing.T, addr string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var b bytes.Buffer
	for i := range 190 {
		fmt.Fprintf(&b, `{"id":%d,"method":"mining.%s","params":[]}`+"\n", i, strings.Repeat("x", 600))
	}
	_, _ = nc.Write(b.Bytes()) // the connection may be closed already
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.CopyN(io.Discard, nc, 190*20)
}

// While the log's disk is full, the daemon starts, serves, is upgraded and ends.
// When there is room again the log continues, and says what is missing.
func TestLogDiskFull(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	s := newLogScene(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	filler := filepath.Join(s.logs, "filler")
	if err := fillDisk(filler); err != nil {
		t.Fatal(err)
	}
	var stderr testkit.LogTap
	stderr.Room = -1
	go func() { _, _ = io.Copy(&stderr, s.read) }()
	s.begin("-v=3", "-logbuflevel=-1", "-log_dir="+s.logs)
	miners := testkit.StartMiners(t, s.Addr, "alice", 5)
	s.sayMuch(miners)
	for range 20 {
		chatty(t, s.Addr)
	}
	s.upgradeUnheard()
	s.mendCoins()
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, s.Addr, "bob")
	testkit.WaitUntil(t, "standard error tells of it", func() bool { return strings.Contains(stderr.Text(), "log: INFO file: ") })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testkit.WaitUntil(t, "the log says how many lines are missing", func() bool {
		text := s.logged("INFO")
		return testkit.MissingOf.MatchString(text) && strings.Contains(text, "upgraded version=")
	})
	if s.metric(`stratum_switcher_log_lines_dropped_total{output="INFO"}`) <= 0 {
		t.Error("no line is reported as left out")
	}
	s.endsOnSignal()
	if !strings.Contains(s.logged("INFO"), "stopping on terminated") {
		t.Error("the log's last line is missing")
	}
}

// A failing start says why on standard error, and ends even if nobody reads that.
func TestFailingStartIsTold(t *testing.T) {
	t.Parallel()
	for _, blocked := range []bool{false, true} {
		btc, _ := testkit.TwoPools(t)
		s := newLogScene(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
		s.Replace(filepath.Join(s.Dir, "config.json"), []byte(`{"ServerID":"one"}`), 0o644)
		if blocked {
			fillPipe(t, s.Stderr)
		}
		s.StartQuietly("-log_dir=" + s.logs)
		s.Stderr.Close()
		select {
		case <-s.Ended:
		case <-time.After(testkit.LongWait):
			t.Fatal("the daemon does not end")
		}
		if code := s.Cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("the daemon ended with %v, want status 1", s.Cmd.ProcessState)
		}
		said, err := io.ReadAll(s.read)
		if told := bytes.HasPrefix(said, []byte("stratumSwitcher: ")) && bytes.Contains(said, []byte("ServerID")); err != nil || told == blocked {
			t.Errorf("blocked: %v: standard error has %.300q, %v; want the reason unless blocked", blocked, said, err)
		}
	}
}

// What the runtime says about a crash goes directly to standard error, wherever the
// log goes.
func TestCrashGoesToStandardError(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	s := newLogScene(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	s.begin("-log_dir="+s.logs, "-logbuflevel=-1")
	// Lines reach the file a moment after they are logged, and a crash waits for nothing.
	testkit.WaitUntil(t, "the log has its first lines", func() bool { return strings.Contains(s.logged("INFO"), "listening addr=") })
	s.Signal(syscall.SIGQUIT)
	said, err := io.ReadAll(s.read)
	if err != nil || !bytes.Contains(said, []byte("SIGQUIT")) || !bytes.Contains(said, []byte("goroutine ")) {
		t.Errorf("standard error has %.300q, %v; want the report of a crash", said, err)
	}
	<-s.Ended
	if !strings.Contains(s.logged("INFO"), "listening addr=") {
		t.Error("the log lacks what was logged before the crash")
	}
}

// However many connections and names a stranger makes, the log only grows by some
// lines.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	btc.SetModes(stratumtest.Modes{RefuseWorker: true})
	s := newLogScene(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	go func() { _, _ = io.Copy(io.Discard, s.read) }()
	s.begin("-logbuflevel=-1", "-log_dir="+s.logs)
	const strangers, names = 20, 15
	var all sync.WaitGroup
	for i := range strangers {
		all.Go(func() {
			for j := range names {
				nc, err := net.Dial("tcp", s.Addr)
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(nc, `{"id":1,"method":"mining.subscribe","params":[]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["zz%s%d.x","x"]}`+"\n",
					strings.Repeat("x", 100), i*names+j)
				_ = nc.SetReadDeadline(time.Now().Add(testkit.LongWait))
				for lines := bufio.NewScanner(nc); lines.Scan() && !strings.Contains(lines.Text(), `"id":2`); {
				}
				nc.Close()
			}
		})
	}
	all.Wait()
	testkit.WaitUntil(t, "all links have failed", func() bool { return s.metric("stratum_switcher_pool_links_failed_total") >= strangers*names })
	testkit.WaitUntil(t, "the log has its lines", func() bool { return strings.Count(s.logged("INFO"), "link failed:") >= journal.LinesPerMinute })
	if text := s.logged("INFO"); strings.Count(text, "\n") > 60 || strings.Count(text, "link failed:") != journal.LinesPerMinute {
		t.Errorf("the log has grown by %d lines, which is too many: %.3000s", strings.Count(text, "\n"), text)
	}
	s.endsOnSignal()
	summary := regexp.MustCompile(`log: \d+ more lines of the kind "link failed"`)
	if text := s.logged("INFO"); len(summary.FindAllString(text, -1)) != 1 {
		t.Errorf("no summary of the lines left out: %.3000s", text)
	}
}

// TestLogToTerminalThatStops: a terminal with the setting tostop stops processes
// that write to it from the background. An upgraded process must not be stopped
// either.
func TestLogToTerminalThatStops(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc, bcc), map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 2)
	p.Signal(syscall.SIGTTOU)
	testkit.WantNewMiner(t, p.Addr, "bob")
	p.Upgrade()
	p.Signal(syscall.SIGTTOU)
	testkit.WantNewMiner(t, p.Addr, "carol")
	testkit.WantMining(t, miners, "btc")
}
