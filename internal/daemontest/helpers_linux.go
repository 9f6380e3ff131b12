package daemontest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
	"golang.org/x/sys/unix"
)

var Long = flag.Bool("long", false, "run the load of docs/reliability.md in full")

// LinesFrom skips the first n lines of the log and returns the others that match.
func (p *Daemon) LinesFrom(n int, pattern string) (lines []string) {
	re := regexp.MustCompile(pattern)
	for _, line := range p.Lines(n) {
		if re.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// PipeAt replaces a file with a named pipe to which no program writes.
func (p *Daemon) PipeAt(name string) {
	p.T.Helper()
	path := filepath.Join(p.Dir, name)
	testkit.Must(p.T, unix.Mkfifo(path+".pipe", 0o644))
	testkit.Must(p.T, os.Rename(path+".pipe", path))
}

// WantUser fails the test unless uid is each user ID and each group ID of the daemon, and
// the daemon has no capabilities.
func (p *Daemon) WantUser(uid int) {
	p.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid), fmt.Sprintf("Gid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid),
		"CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n"} {
		if !strings.Contains(string(status), want) {
			p.T.Errorf("there is no %q in %s", want, status)
		}
	}
}

// ZKConfig returns a configuration that uses the ZooKeeper server at addr, with
// directories that no other test uses.
func ZKConfig(addr string, pools ...*stratumtest.Pool) *Config {
	root := "/upgrade" + strconv.FormatInt(zktest.Roots.Add(1), 10)
	c := FileConfig(pools...)
	c.ServerID, c.CoinFile = 0, ""
	c.ZKBroker = []string{addr}
	c.ZKSwitcherWatchDir, c.ZKServerIDAssignDir, c.ZKAutoRegWatchDir = root+"/coins/", root+"/ids/", root+"/autoreg/"
	c.ZKUserCaseInsensitiveIndex = ""
	c.EnableUserAutoReg = false
	c.ZKSessionTimeoutSeconds = 10
	return c
}
