//go:build linux && e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// program is a running Stratum program by others, from internal/thirdparty. It
// reports line by line what happens to it.
type program struct {
	t     *testing.T
	mu    sync.Mutex
	lines []string
}

// startProgram needs what scripts/install-test-tools.sh installs.
func startProgram(t *testing.T, script string, args ...string) *program {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(cache, "stratumSwitcher", "test-programs")
	if _, err := os.Stat(filepath.Join(packages, "node_modules")); err != nil {
		t.Fatalf("run scripts/install-test-tools.sh: %v", err)
	}
	cmd := exec.Command("node", append([]string{filepath.Join("internal", "thirdparty", script)}, args...)...)
	cmd.Env = append(os.Environ(), "TEST_PROGRAMS="+packages)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatalf("run scripts/install-test-tools.sh: %v", err)
	}
	p := &program{t: t}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, sc.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said %q", script, p.said(".*"))
		}
	})
	return p
}

// said returns the lines that match.
func (p *program) said(pattern string) (lines []string) {
	re := regexp.MustCompile(pattern)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if re.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// wait waits for n lines that match, and returns the last one.
func (p *program) wait(pattern string, n int) string {
	p.t.Helper()
	for end := time.Now().Add(4 * testkit.Wait); ; time.Sleep(5 * time.Millisecond) {
		if lines := p.said(pattern); len(lines) >= n {
			return lines[len(lines)-1]
		}
		if time.Now().After(end) {
			p.t.Fatalf("there are fewer than %d lines like %q", n, pattern)
		}
	}
}

// more waits until n more shares are accepted.
func (p *program) more(n int) {
	p.t.Helper()
	p.wait(`^accepted`, len(p.said(`^accepted`))+n)
}

// checkProgram wants no line about a refused share or anything worse.
func checkProgram(t *testing.T, p *program) {
	t.Helper()
	if lines := p.said(`^(rejected|refused|error|fault|closed)|Error`); len(lines) > 0 {
		t.Errorf("the program reports problems: %q", lines)
	}
}

// A miner by others mines at pools of all kinds, the simulated ones and one by
// others.
func TestThirdPartyPrograms(t *testing.T) {
	t.Parallel()
	js := startProgram(t, "pool.js", "js", "8", "3")
	addr := "127.0.0.1:" + strings.Fields(js.wait(`^listening \d+$`, 1))[1]
	session := testkit.StartPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000})
	own := testkit.PickingPool(t, "own", 5, 8)
	c := daemontest.FileConfig(session, own)
	c.PoolsPick(own)
	c.StratumServerMap["js"] = daemontest.PoolConfig{URL: addr, UserSuffix: "js", ExtraNonce: "pool"}
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	coins := map[string]string{"alice": "session", "bob": "js"}
	p := daemontest.Start(t, c, coins)
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	alice := startProgram(t, "miner.js", host, port, "alice.js", "3")
	if line := alice.wait(`^subscribed`, 1); !strings.HasSuffix(line, " 4") {
		t.Errorf("the miner reports %s", line)
	}
	bob := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "bob.one", Configure: 0x1fffe000, Pipelined: true, Rate: 50})
	testkit.WaitPool(t, bob, "js")
	for i, coin := range []string{"session", "js", "own", "session", "own", "js"} {
		coins["alice"] = coin
		if i%2 == 1 {
			coins["bob"] = coin
		}
		p.SetCoins(coins)
		testkit.WaitPool(t, bob, coins["bob"])
		testkit.WaitUntil(t, fmt.Sprintf("alice at %s", coin), func() bool {
			var page pageAccounts
			getJSON(t, "http://"+c.HTTPDebugListenAddr+"/api/accounts?filter=alice", &page)
			return len(page.Accounts) == 1 && page.Accounts[0].Mining[coin] == 1
		})
		alice.more(3)
		testkit.WaitAccepted(t, bob, 2)
	}
	js.more(2)
	testkit.CheckMiner(t, bob)
	checkProgram(t, alice)
	checkProgram(t, js)
	testkit.CheckPool(t, session)
	testkit.CheckPool(t, own)
}
