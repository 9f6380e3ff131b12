//go:build linux && !portable_relay

package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// daemonCover: see "make cover". A process writes what it has run when it ends
// in good order, so not before an upgrade.
var daemonCover = flag.String("daemon-cover", "", "have the daemon leave coverage data in this directory")

// buildVersion builds the daemon once for each version text and returns the
// path of the binary.
func buildVersion(t testing.TB, version string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if path := builds.paths[version]; path != "" {
		return path
	}
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "stratumSwitcher-test")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir = dir
		testCleanups = append(testCleanups, func() { os.RemoveAll(dir) })
	}
	path := filepath.Join(builds.dir, "stratumSwitcher-"+version)
	args := []string{"build", "-ldflags", "-X main.version=" + version, "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	if *daemonCover != "" {
		args = append(args, "-cover", "-covermode=atomic")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	builds.paths[version] = path
	return path
}

var builds = struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string
}{paths: make(map[string]string)}

// process is the built daemon, running.
type process struct {
	t      testing.TB
	dir    string // working directory: config.json, coins.json
	binary string
	env    []string            // beside the test's own
	user   *syscall.Credential // nil: the test's own
	// inherit are files that it has open from the beginning, from 3 up.
	inherit []*os.File
	stderr  *os.File // nil: its lines are read, see waitLog
	addr    string   // it listens at
	cmd     *exec.Cmd
	ended   chan struct{}

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed at each new line
}

// fileConfig is a configuration with pools and a coin file.
func fileConfig(pools ...*stratumtest.Pool) *Config {
	c := defaultConfig()
	c.ServerID = 1
	c.ListenAddr = "127.0.0.1:0"
	c.ZKBroker = []string{}
	c.CoinFile = "coins.json"
	c.StratumServerMap = make(map[string]StratumServerInfo)
	for _, p := range pools {
		c.StratumServerMap[p.Name()] = StratumServerInfo{URL: p.Addr(), UserSuffix: p.Name()}
	}
	return c
}

// startProcess runs the daemon in a directory of its own.
func startProcess(t testing.TB, c *Config, coins map[string]string, args ...string) *process {
	t.Helper()
	p := newProcess(t, t.TempDir())
	p.writeConfig(c)
	p.setCoins(coins)
	p.start(append([]string{"-logtostderr", "-v=1"}, args...)...)
	return p
}

// newProcess prepares a daemon that will run in dir.
func newProcess(t testing.TB, dir string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, ended: make(chan struct{}), more: make(chan struct{})}
	p.binary = filepath.Join(t.TempDir(), "stratumSwitcher")
	p.install(buildVersion(t, "one"))
	return p
}

// start runs p.binary and waits until it listens.
func (p *process) start(args ...string) {
	p.t.Helper()
	p.startQuietly(args...)
	p.addr = p.waitLog(`listening addr=(\S+)`)[1]
}

// startQuietly is start for a daemon that does not log to standard error.
func (p *process) startQuietly(args ...string) {
	t := p.t
	t.Helper()
	p.cmd = exec.Command(p.binary, args...)
	p.cmd.Dir = p.dir
	// With the race detector a process sleeps for a second at its end, so each
	// preflight would.
	p.cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), p.env...)
	if *daemonCover != "" {
		p.cmd.Env = append(p.cmd.Env, "GOCOVERDIR="+*daemonCover)
	}
	p.cmd.ExtraFiles = p.inherit
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: p.user}
	read := make(chan struct{})
	if p.stderr != nil {
		p.cmd.Stderr = p.stderr
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		close(read)
		p.reap(read)
		return
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(read)
		sc := bufio.NewScanner(stderr)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, sc.Text())
			close(p.more)
			p.more = make(chan struct{})
			p.mu.Unlock()
		}
	}()
	p.reap(read)
}

// reap waits for the daemon's end, after all that it says has been read.
func (p *process) reap(read <-chan struct{}) {
	go func() {
		<-read
		p.cmd.Wait()
		close(p.ended)
	}()
	p.t.Cleanup(p.kill)
}

func (p *process) kill() {
	if *daemonCover != "" {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
		}
	}
	p.cmd.Process.Kill()
	<-p.ended
	if p.t.Failed() {
		p.mu.Lock()
		defer p.mu.Unlock()
		from := max(0, len(p.lines)-60)
		p.t.Logf("the daemon's last lines:\n%s", strings.Join(p.lines[from:], "\n"))
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// install puts a binary in place as a deploy does, by rename.
func (p *process) install(from string) {
	p.t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		p.t.Fatal(err)
	}
	p.replace(p.binary, content, 0o755)
}

func (p *process) replace(path string, content []byte, mode os.FileMode) {
	p.t.Helper()
	// A process started by another test meanwhile would have the file open for
	// writing until its exec, and a binary could not be run: "text file busy".
	syscall.ForkLock.RLock()
	err := os.WriteFile(path+".new", content, mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) writeConfig(c *Config) {
	p.t.Helper()
	content, err := json.Marshal(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.replace(filepath.Join(p.dir, "config.json"), content, 0o644)
}

func (p *process) setCoins(coins map[string]string) {
	p.t.Helper()
	content, err := json.Marshal(coins)
	if err != nil {
		p.t.Fatal(err)
	}
	p.replace(filepath.Join(p.dir, "coins.json"), content, 0o644)
}

// logged is how many lines the log has.
func (p *process) logged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// waitLog waits for a line that matches, anywhere in the log.
func (p *process) waitLog(pattern string) []string {
	p.t.Helper()
	return p.waitLogFrom(0, pattern)
}

// waitLogFrom is waitLog for lines after the first n.
func (p *process) waitLogFrom(n int, pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		for ; n < len(p.lines); n++ {
			if m := re.FindStringSubmatch(p.lines[n]); m != nil {
				p.mu.Unlock()
				return m
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
		case <-timeout:
			p.t.Fatalf("no line in the log like %q", pattern)
		case <-p.ended:
			p.t.Fatalf("the daemon has ended, no line in its log like %q", pattern)
		}
	}
}

// logLines is the first group of all lines so far that match.
func (p *process) logLines(pattern string) []string {
	re := regexp.MustCompile(pattern)
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []string
	for _, line := range p.lines {
		if m := re.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
	}
	return found
}

// upgrade sends SIGUSR2 and returns the summary line's figures.
func (p *process) upgrade() (sessions, lost, pause string) {
	p.t.Helper()
	n := p.logged()
	p.signal(syscall.SIGUSR2)
	m := p.waitLogFrom(n, `upgraded version=\S+ sessions=(\d+) lost=(\d+).* pause_ms=(\S+)|upgrade (?:refused|undone)(.*)`)
	if m[1] == "" {
		p.t.Fatalf("upgrade refused: %s", m[0])
	}
	return m[1], m[2], m[3]
}

// descriptors counts the daemon's open files.
func (p *process) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

// watchDescriptors counts the daemon's open files as fast as it can. The
// function returned ends that and gives the most there were.
func (p *process) watchDescriptors() func() (most, looks int) {
	stop, ended := make(chan struct{}), make(chan struct{})
	most, looks := 0, 0
	path := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			// The size of the directory is the number of its entries, since
			// Linux 6.2; counting takes too long to see a peak.
			if info, err := os.Stat(path); err == nil {
				n := int(info.Size())
				if n == 0 {
					entries, _ := os.ReadDir(path)
					n = len(entries)
				}
				most = max(most, n)
				looks++
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	return func() (int, int) {
		close(stop)
		<-ended
		return most, looks
	}
}

// comm is the daemon's name as ps and killall see it.
func (p *process) comm() string {
	p.t.Helper()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// checkNoTemporary wants no unfinished state file left.
func (p *process) checkNoTemporary() {
	p.t.Helper()
	left, err := filepath.Glob(filepath.Join(p.dir, "runtime.json.*"))
	if err != nil || len(left) > 0 {
		p.t.Errorf("left behind: %q, %v", left, err)
	}
}
