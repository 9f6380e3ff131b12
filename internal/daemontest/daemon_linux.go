package daemontest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/child"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// DaemonCover is set by "make cover". A process writes its coverage data only when it exits
// normally, so a program that is replaced by an upgrade writes none.
var DaemonCover = flag.String("daemon-cover", "", "have the daemon leave coverage data in this directory")

// DaemonRace says whether the daemon is built with the race detector. "make test" sets it
// for the tests of e2e. They are built without the detector themselves, because they
// simulate thousands of miners.
var DaemonRace = flag.Bool("daemon-race", raceDetector, "build the daemon with the race detector")

// Build builds the daemon once for each version and returns the path of the binary.
func Build(t testing.TB, version string) string {
	t.Helper()
	return testkit.SharedFile(t, "stratumSwitcher-"+version, func(dir string) (string, error) {
		path := filepath.Join(dir, "stratumSwitcher-"+version)
		// The binary is copied for each daemon, so it is better small.
		args := []string{"build", "-ldflags", "-s -w -X main.version=" + version, "-o", path}
		if *DaemonRace {
			args = append(args, "-race")
		}
		if *DaemonCover != "" {
			args = append(args, "-cover", "-covermode=atomic")
		}
		if out, err := exec.Command("go", append(args, Package)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	})
}

// Daemon is a process that runs the built daemon.
type Daemon struct {
	T      testing.TB
	Dir    string // working directory, which holds config.json and coins.json
	Binary string
	Env    []string            // in addition to the test's own
	User   *syscall.Credential // nil means the test's own
	// Inherit lists files that the daemon inherits as descriptor 3 and following.
	Inherit []*os.File
	Stderr  *os.File // if nil, its lines are read and WaitLog can wait for them
	Addr    string   // address on which it listens

	*child.Process // nil before it is started
}

// Start runs the daemon in a directory of its own.
func Start(t testing.TB, c *Config, coins map[string]string, args ...string) *Daemon {
	t.Helper()
	p := New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(coins)
	p.Start(append([]string{"-logtostderr", "-v=1"}, args...)...)
	return p
}

// New prepares a daemon that will run in dir.
func New(t testing.TB, dir string) *Daemon {
	t.Helper()
	p := Foreign(t, dir, filepath.Join(t.TempDir(), "stratumSwitcher"))
	p.Install(Build(t, "one"))
	return p
}

// Foreign is New for a program of the caller's choice. It runs binary in dir.
func Foreign(t testing.TB, dir, binary string) *Daemon {
	return &Daemon{T: t, Dir: dir, Binary: binary}
}

// Start runs p.Binary and waits until it listens.
func (p *Daemon) Start(args ...string) {
	p.T.Helper()
	p.StartQuietly(args...)
	p.Addr = p.WaitLog(`listening addr=(\S+)`)[1]
}

// StartQuietly is Start for a daemon that does not log to standard error.
func (p *Daemon) StartQuietly(args ...string) {
	t := p.T
	t.Helper()
	cmd := exec.Command(p.Binary, args...)
	cmd.Dir = p.Dir
	// The race detector makes a process sleep for a second before it exits, which would
	// delay each preflight.
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), p.Env...)
	if *DaemonCover != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+*DaemonCover)
	}
	cmd.ExtraFiles = p.Inherit
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: p.User}
	p.Run(cmd)
}

// Run starts a command that the caller has prepared, as the daemon.
func (p *Daemon) Run(cmd *exec.Cmd) {
	p.T.Helper()
	var err error
	if p.Stderr != nil {
		cmd.Stderr = p.Stderr
		p.Process, err = child.StartUnread(cmd)
	} else {
		p.Process, err = child.Start(cmd, 0)
	}
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(p.Kill)
}

// Kill ends the daemon, and logs its last lines if the test has failed. A data race
// that the daemon has reported fails the test.
func (p *Daemon) Kill() {
	if *DaemonCover != "" {
		p.Cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.Ended:
		case <-time.After(10 * time.Second):
		}
	}
	p.Cmd.Process.Kill()
	<-p.Ended
	if lines := p.Lines(0); slices.Contains(lines, "WARNING: DATA RACE") {
		p.T.Errorf("the race detector has found a data race:\n%s", strings.Join(lines[slices.Index(lines, "WARNING: DATA RACE"):], "\n"))
	}
	if p.T.Failed() {
		p.T.Logf("the daemon's last lines:\n%s", p.Tail(60))
	}
}

func (p *Daemon) Signal(sig syscall.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil {
		p.T.Fatal(err)
	}
}

// Install copies a binary and renames the copy into place, as a deployment does.
func (p *Daemon) Install(from string) {
	p.T.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		p.T.Fatal(err)
	}
	p.Replace(p.Binary, content, 0o755)
}

// Replace writes a file and renames it into place.
func (p *Daemon) Replace(path string, content []byte, mode os.FileMode) {
	p.T.Helper()
	// A process that another test starts meanwhile would have the file open for
	// writing until its exec. Running the binary would fail with "text file busy".
	syscall.ForkLock.RLock()
	err := os.WriteFile(path+".new", content, mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		p.T.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.T.Fatal(err)
	}
}

// WriteConfig writes config.json. c is a Config, or anything else that has the same JSON
// form.
func (p *Daemon) WriteConfig(c any) {
	p.T.Helper()
	content, err := json.Marshal(c)
	if err != nil {
		p.T.Fatal(err)
	}
	p.Replace(filepath.Join(p.Dir, "config.json"), content, 0o644)
}

func (p *Daemon) SetCoins(coins map[string]string) {
	p.T.Helper()
	content, err := json.Marshal(coins)
	if err != nil {
		p.T.Fatal(err)
	}
	p.Replace(filepath.Join(p.Dir, "coins.json"), content, 0o644)
}

// Log returns all lines logged so far.
func (p *Daemon) Log() []string { return p.Lines(0) }

// WaitLog waits for a line that matches, anywhere in the log.
func (p *Daemon) WaitLog(pattern string) []string {
	p.T.Helper()
	return p.WaitLogFrom(0, pattern)
}

// WaitLogFrom is WaitLog for lines after the first n.
func (p *Daemon) WaitLogFrom(n int, pattern string) []string {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m, err := p.WaitLine(ctx, n, regexp.MustCompile(pattern))
	if err != nil {
		p.T.Fatalf("the log has no line like %q: %v", pattern, err)
	}
	return m
}

// LogLines returns the first group of pattern for each line logged so far that matches.
func (p *Daemon) LogLines(pattern string) []string {
	re := regexp.MustCompile(pattern)
	var found []string
	for _, line := range p.Lines(0) {
		if m := re.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
	}
	return found
}

// Upgrade sends SIGUSR2 and returns the figures of the log line that sums up the upgrade.
func (p *Daemon) Upgrade() (sessions, lost, pause string) {
	p.T.Helper()
	n := p.Logged()
	p.Signal(syscall.SIGUSR2)
	m := p.WaitLogFrom(n, `upgraded version=\S+ sessions=(\d+) lost=(\d+).* pause_ms=(\S+)|upgrade (?:refused|undone)(.*)`)
	if m[1] == "" {
		p.T.Fatalf("the upgrade was refused: %s", m[0])
	}
	return m[1], m[2], m[3]
}

// Descriptors counts the daemon's open files.
func (p *Daemon) Descriptors() int {
	p.T.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	return len(entries)
}

// WatchDescriptors counts the daemon's open files as often as it can. The returned
// function stops that. It returns the highest count and how often the files were counted.
func (p *Daemon) WatchDescriptors() func() (most, looks int) {
	stop, ended := make(chan struct{}), make(chan struct{})
	most, looks := 0, 0
	path := fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid)
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			// Since Linux 6.2 the size of the directory is the number of its
			// entries. Reading them all takes too long to see a peak.
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

// Comm returns the daemon's name as ps and killall see it.
func (p *Daemon) Comm() string {
	p.T.Helper()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// CheckNoTemporary fails the test if an unfinished state file is left behind.
func (p *Daemon) CheckNoTemporary() {
	p.T.Helper()
	left, err := filepath.Glob(filepath.Join(p.Dir, "runtime.json.*"))
	if err != nil || len(left) > 0 {
		p.T.Errorf("files are left behind: %q, %v", left, err)
	}
}
