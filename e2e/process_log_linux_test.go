//go:build linux && e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
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

var logFaultSeconds = flag.Int("log-fault-seconds", 12, "how long the test with faults of the log runs")

// logScene is a daemon whose standard error is a pipe that the test holds, and
// whose log files are in a small file system of their own.
type logScene struct {
	*daemontest.Daemon
	read *os.File // end of the pipe
	logs string   // directory
	web  string   // its HTTP address
}

// newLogScene prepares the daemon; begin starts it.
func newLogScene(t *testing.T, c *daemontest.Config, coins map[string]string) *logScene {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &logScene{Daemon: daemontest.New(t, t.TempDir()), read: read, logs: mountSmall(t, 8)}
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
	s.Stderr.Close() // ours
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

// upgradeUnheard upgrades the daemon without its log.
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

// endsOnSignal wants the daemon to end in good order and time.
func (s *logScene) endsOnSignal() {
	s.T.Helper()
	s.Signal(syscall.SIGTERM)
	select {
	case <-s.Ended:
		if code := s.Cmd.ProcessState.ExitCode(); code != 0 {
			s.T.Errorf("it ended with %v", s.Cmd.ProcessState)
		}
	case <-time.After(5 * time.Second):
		s.T.Error("it does not end on SIGTERM")
	}
}

// logged is all that is in the files of a severity, in any order.
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

// Standard error whose reader is gone, or does not read, costs no miner and no
// share, whatever is logged there; health, upgrades and signals work as ever.
func TestStandardErrorNobodyReads(t *testing.T) {
	for _, c := range []struct {
		name string
		gone bool // the reader, else it does not read
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
			// Handshakes at -v 3 are more than the queue holds.
			for range 20 {
				chatty(t, s.Addr)
			}
			s.upgradeUnheard()
			s.SetCoins(map[string]string{"*": "btc"})
			testkit.WantMining(t, miners, "btc")
			testkit.WantNewMiner(t, s.Addr, "bob")
			for _, path := range []string{"/healthz", "/readyz"} {
				if _, err := s.get(path); err != nil {
					t.Error(err)
				}
			}
			if c.args[0] == "-logtostderr" && s.metric(`stratum_switcher_log_lines_dropped_total{output="stderr"}`) <= 0 {
				t.Error("no line is said to have been left out")
			}
			s.endsOnSignal()
			if files := s.logged("INFO"); c.args[0] != "-logtostderr" && (!strings.Contains(files, "listening addr=") || !strings.Contains(files, "upgraded version=") || !strings.Contains(files, "stopping on ")) {
				t.Errorf("the files lack lines: %.2000s", files)
			}
		})
	}
}

// fillPipe leaves no room in a pipe. The daemon's end of it blocks, so only a
// copy of ours is used.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	fd := int(w.Fd()) // blocking from now on, as an inherited one is
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

// chatty is a connection that has one line logged for each of its requests at
// -v 3, and one for its end at -v 2.
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
	_, _ = nc.Write(b.Bytes()) // it may be closed already
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.CopyN(io.Discard, nc, 190*20)
}

// With the disk of the log full the daemon starts, serves, is upgraded and ends;
// when there is room again the log goes on, and what is missing is told.
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
	s.SetCoins(map[string]string{"*": "btc"})
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, s.Addr, "bob")
	testkit.Eventually(t, "standard error tells of it", func() bool { return strings.Contains(stderr.Text(), "log: INFO file: ") })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the log says how many lines are missing", func() bool {
		text := s.logged("INFO")
		return testkit.MissingOf.MatchString(text) && strings.Contains(text, "upgraded version=")
	})
	if s.metric(`stratum_switcher_log_lines_dropped_total{output="INFO"}`) <= 0 {
		t.Error("no line is said to have been left out")
	}
	s.endsOnSignal()
	if !strings.Contains(s.logged("INFO"), "stopping on terminated") {
		t.Error("the last line is missing")
	}
}

// A failing start says why on standard error, and ends although nobody reads it.
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
		case <-time.After(10 * time.Second):
			t.Fatal("it does not end")
		}
		if code := s.Cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("it ended with %v", s.Cmd.ProcessState)
		}
		said, err := io.ReadAll(s.read)
		if told := bytes.HasPrefix(said, []byte("stratumSwitcher: ")) && bytes.Contains(said, []byte("ServerID")); err != nil || told == blocked {
			t.Errorf("blocked: %v: it said %.300q, %v", blocked, said, err)
		}
	}
}

// What the runtime says of a crash goes to standard error itself, wherever the
// log goes.
func TestCrashGoesToStandardError(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	s := newLogScene(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	s.begin("-log_dir="+s.logs, "-logbuflevel=-1")
	s.Signal(syscall.SIGQUIT)
	said, err := io.ReadAll(s.read)
	if err != nil || !bytes.Contains(said, []byte("SIGQUIT")) || !bytes.Contains(said, []byte("goroutine ")) {
		t.Errorf("it said %.300q, %v", said, err)
	}
	<-s.Ended
	if !strings.Contains(s.logged("INFO"), "listening addr=") {
		t.Error("the log has not what was before")
	}
}

// However many connections and names a stranger makes, the log grows by some
// lines only.
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
				_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
				for lines := bufio.NewScanner(nc); lines.Scan() && !strings.Contains(lines.Text(), `"id":2`); {
				}
				nc.Close()
			}
		})
	}
	all.Wait()
	if failed := s.metric("stratum_switcher_pool_links_failed_total"); failed < strangers*names {
		t.Errorf("only %v links failed", failed)
	}
	if text := s.logged("INFO"); strings.Count(text, "\n") > 60 || strings.Count(text, "link failed:") != journal.LinesPerMinute {
		t.Errorf("%d lines: %.3000s", strings.Count(text, "\n"), text)
	}
	s.endsOnSignal()
	summary := regexp.MustCompile(`log: \d+ more lines of the kind "link failed"`)
	if text := s.logged("INFO"); len(summary.FindAllString(text, -1)) != 1 {
		t.Errorf("no summary of the lines left out: %.3000s", text)
	}
}

// shareTimer submits one share after another and notes how long answers take.
type shareTimer struct {
	miner *stratumtest.Miner
	stop  func()

	mu      sync.Mutex
	shares  int
	longest time.Duration
	ignore  bool // an upgrade is under way
}

func startShareTimer(t *testing.T, addr string) *shareTimer {
	p := &shareTimer{miner: testkit.StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: "timed.1", Manual: true})}
	if err := p.miner.WaitPool(testkit.WaitContext(t), "btc"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			before := p.ignored()
			began := time.Now()
			if _, err := p.miner.Submit(ctx, nil); err != nil {
				if ctx.Err() == nil {
					t.Errorf("the timed share: %v", err)
				}
				return
			}
			took := time.Since(began)
			p.mu.Lock()
			p.shares++
			if !before && !p.ignore {
				p.longest = max(p.longest, took)
			}
			p.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	}()
	p.stop = func() { cancel(); <-done }
	t.Cleanup(p.stop)
	return p
}

func (p *shareTimer) ignored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ignore
}

// slowest is how long the slowest share took since the last call.
func (p *shareTimer) slowest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := p.longest
	p.longest = 0
	return longest
}

func (p *shareTimer) setIgnore(ignore bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ignore = ignore
}

func (p *shareTimer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shares
}

// The disk of the log fills up and is free again, standard error is blocked and
// read again, log files and their directory are moved away, with upgrades in
// between. No miner is lost, and no share takes longer than with a daemon beside
// it that has none of this.
func TestLogFaults(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	coins := map[string]string{"*": "btc"}
	args := []string{"-alsologtostderr", "-v=3", "-logbuflevel=-1"}
	config := daemontest.FileConfig(btc, bcc)
	config.DrainSeconds = 1
	s := newLogScene(t, config, coins)
	control := newLogScene(t, config, coins)
	go func() { _, _ = io.Copy(io.Discard, control.read) }()
	control.begin(append(args, "-log_dir="+control.logs)...)
	s.begin(append(args, "-log_dir="+filepath.Join(s.logs, "."))...)
	miners, others := testkit.StartMiners(t, s.Addr, "alice", 10), testkit.StartMiners(t, control.Addr, "alice", 10)
	probe, other := startShareTimer(t, s.Addr), startShareTimer(t, control.Addr)
	pair := &sharePair{
		t: t, faulted: probe.slowest, control: other.slowest,
		limit: func(control time.Duration) time.Duration { return control + max(control, 100*time.Millisecond) },
	}
	pair.begin()

	var stderr stallReader
	go stderr.run(s.read)
	filler := filepath.Join(s.logs, "filler")
	faults := []struct {
		name       string
		begin, end func() error
	}{
		{"disk full", func() error { return fillDisk(filler) }, func() error { return os.Remove(filler) }},
		{"standard error blocked", func() error { stderr.gate.Lock(); return nil }, func() error { stderr.gate.Unlock(); return nil }},
		{"files moved", func() error { return moveLogs(s.logs, ".moved") }, func() error { return removeLogs(s.logs) }},
		{"all at once", func() error { stderr.gate.Lock(); return fillDisk(filler) }, func() error { stderr.gate.Unlock(); return removeLogs(s.logs) }},
	}
	at, rounds, pause := "btc", 0, 0.0
	for end := time.Now().Add(time.Duration(*logFaultSeconds) * time.Second); rounds < len(faults) || time.Now().Before(end); rounds++ {
		fault := faults[rounds%len(faults)]
		if err := fault.begin(); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		for range 8 {
			chatty(t, s.Addr)
			chatty(t, control.Addr)
		}
		at = map[string]string{"btc": "bcc", "bcc": "btc"}[at]
		for _, p := range []*logScene{s, control} {
			p.SetCoins(map[string]string{"*": at})
		}
		testkit.WantMining(t, miners, at)
		repeat := pair.end(fault.name)
		probe.setIgnore(true) // the upgrade's pause is not the faults'
		other.setIgnore(true)
		s.upgradeUnheard()
		probe.setIgnore(false)
		other.setIgnore(false)
		pause = max(pause, s.metric("stratum_switcher_last_upgrade_pause_seconds"))
		testkit.WantMining(t, miners, at)
		testkit.WantMining(t, others, at)
		if err := fault.end(); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		chatty(t, s.Addr)
		chatty(t, control.Addr)
		if pair.end(fault.name) || repeat {
			rounds-- // the same fault again
		}
	}
	testkit.Eventually(t, "the log goes on", func() bool {
		chatty(t, s.Addr)
		return strings.Contains(s.logged("INFO"), "request method=")
	})
	probe.stop()
	other.stop()
	pair.end("the end")
	t.Logf("%d rounds, %d shares; the longest pause of an upgrade %.0f ms; lines left out: files %.0f, standard error %.0f",
		rounds, probe.count(), 1000*pause,
		s.metric(`stratum_switcher_log_lines_dropped_total{output="INFO"}`), s.metric(`stratum_switcher_log_lines_dropped_total{output="stderr"}`))
	testkit.WaitUntil(t, "no links wait for late shares", func() bool {
		return s.metric("stratum_switcher_draining_links") == 0 && control.metric("stratum_switcher_draining_links") == 0
	})
	used, unharmed := s.Usage(strings.TrimPrefix(s.web, "http://")), control.Usage(strings.TrimPrefix(control.web, "http://"))
	t.Logf("%v; without the faults %v", used, unharmed)
	room := 48 << 10 // KB: all queues full and being written, and as much garbage
	if daemontest.RaceDetector {
		room *= 4
	}
	if used.Private > unharmed.Private+room || used.Descriptors > unharmed.Descriptors+2 || used.Goroutines > unharmed.Goroutines+4 {
		t.Errorf("%v, without the faults %v", used, unharmed)
	}
	// What delays both may by chance delay one more.
	pair.check()
	for _, m := range append(miners, probe.miner) {
		testkit.CheckMiner(t, m)
	}
	s.endsOnSignal()
}

// stallReader reads unless it is told not to.
type stallReader struct{ gate sync.Mutex }

func (r *stallReader) run(from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		r.gate.Lock()
		//lint:ignore SA2001 it is only waited for
		r.gate.Unlock()
		if _, err := from.Read(buf); err != nil {
			return
		}
	}
}

// moveLogs renames all log files.
func moveLogs(dir, suffix string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.log.*"))
	for _, path := range files {
		if renameErr := os.Rename(path, path+suffix); renameErr != nil {
			err = renameErr
		}
	}
	return err
}

// removeLogs removes whatever is in the directory.
func removeLogs(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range files {
		if removeErr := os.RemoveAll(path); removeErr != nil {
			err = removeErr
		}
	}
	return err
}

// TestLogToTerminalThatStops: a terminal with the setting tostop stops who writes
// to it from the background, in an upgraded process too.
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
