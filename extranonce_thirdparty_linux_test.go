//go:build e2e

package main

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

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// program is a Stratum program by others, from internal/thirdparty, running.
// It says what happens to it line by line.
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

// said are the lines that match.
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

// wait waits for n lines that match, and gives the last one.
func (p *program) wait(pattern string, n int) string {
	p.t.Helper()
	for end := time.Now().Add(4 * testWait); ; time.Sleep(5 * time.Millisecond) {
		if lines := p.said(pattern); len(lines) >= n {
			return lines[len(lines)-1]
		}
		if time.Now().After(end) {
			p.t.Fatalf("not %d lines like %q", n, pattern)
		}
	}
}

// more waits for n more accepted shares.
func (p *program) more(n int) {
	p.t.Helper()
	p.wait(`^accepted`, len(p.said(`^accepted`))+n)
}

// checkProgram wants nothing said of a refused share or worse.
func checkProgram(t *testing.T, p *program) {
	t.Helper()
	if lines := p.said(`^(rejected|refused|error|fault|closed)|Error`); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// A miner that was not written here, at pools of all kinds, ours and one that
// was not written here either.
func TestThirdPartyPrograms(t *testing.T) {
	t.Parallel()
	js := startProgram(t, "pool.js", "js", "8", "3")
	addr := "127.0.0.1:" + strings.Fields(js.wait(`^listening \d+$`, 1))[1]
	session := startPool(t, stratumtest.PoolOptions{Name: "session", ShareBits: 3, VersionMask: 0x1fffe000})
	own := ownPool(t, "own", 5, 8)
	coins := newMemoryCoins(map[string]string{"alice": "session", "bob": "js"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{session, own}, func(c *Config) {
		withKinds(own)(c)
		c.StratumServerMap["js"] = StratumServerInfo{URL: addr, UserSuffix: "js", ExtraNonce: extranonceOfPool}
	})
	host, port, err := net.SplitHostPort(sw.addr)
	if err != nil {
		t.Fatal(err)
	}
	alice := startProgram(t, "miner.js", host, port, "alice.js", "3")
	if line := alice.wait(`^subscribed`, 1); !strings.HasSuffix(line, " 4") {
		t.Errorf("miner: %s", line)
	}
	bob := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "bob.one", Configure: 0x1fffe000, Pipelined: true, Rate: 50})
	waitPool(t, bob, "js")
	for i, coin := range []string{"session", "js", "own", "session", "own", "js"} {
		coins.set("alice", coin)
		if i%2 == 1 {
			coins.set("bob", coin)
			waitPool(t, bob, coin)
		}
		eventually(t, fmt.Sprintf("alice at %s", coin), func() bool {
			sw.accounts.mu.Lock()
			defer sw.accounts.mu.Unlock()
			return sw.accounts.accounts["alice"].mining[coin] == 1
		})
		alice.more(3)
		waitAccepted(t, bob, 2)
	}
	js.more(2)
	checkMiner(t, bob)
	for _, p := range []*program{alice, js} {
		checkProgram(t, p)
	}
	checkPool(t, session)
	checkPool(t, own)
}
