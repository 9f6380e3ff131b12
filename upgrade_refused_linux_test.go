//go:build linux && !portable_relay

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// tmpfs is a small disk of its own for a daemon's working directory.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("no mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func (p *process) path(name string) string { return filepath.Join(p.dir, name) }

// wantNoUpgrade asks for an upgrade and wants it refused or undone for a
// reason.
func (p *process) wantNoUpgrade(reason string) {
	p.t.Helper()
	n := p.logged()
	p.signal(syscall.SIGUSR2)
	line := p.waitLogFrom(n, `upgraded version|upgrade (?:refused|undone).*`)[0]
	if !strings.Contains(line, reason) || strings.HasPrefix(line, "upgraded") {
		p.t.Errorf("the log says %q, want %q", line, reason)
	}
	p.checkNoTemporary()
	if info, err := os.Lstat(p.path("runtime.json")); err == nil && info.Mode().IsRegular() {
		p.t.Error("runtime.json is left")
	}
}

// TestUpgradeRefused: whatever is wrong, nothing changes for anybody, and when
// it is put right, the upgrade works.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	pools := fileConfig(btc, bcc)
	pools.ListenAddr = unusedAddr(t)

	// This one takes its ten seconds while the others are tried.
	two := fileConfig(btc, bcc)
	two.ServerID = 2
	hanging := startProcess(t, two, map[string]string{"*": "btc"})
	hangingMiners := startMiners(t, hanging.addr, "hanging", 2)
	hanging.installOther("hang")
	hanging.signal(syscall.SIGUSR2)

	p := newProcess(t, tmpfs(t, "1m"))
	p.writeConfig(pools)
	p.setCoins(map[string]string{"*": "btc"})
	p.start("-logtostderr", "-v=1")
	miners := startMiners(t, p.addr, "alice", 10)
	good, err := os.ReadFile(buildVersion(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	config := func(change func(*Config)) func() {
		return func() {
			c := *pools
			change(&c)
			p.writeConfig(&c)
		}
	}
	goodConfig := func() { p.writeConfig(pools) }
	binary := func(content []byte, mode os.FileMode) func() {
		return func() { p.replace(p.binary, content, mode) }
	}
	goodBinary := binary(good, 0o755)
	for _, c := range []struct {
		name     string
		spoil    func()
		want     string
		putRight func() // default: the good binary and configuration
	}{
		{name: "binary missing", spoil: func() { os.Remove(p.binary) }, want: "no such file"},
		{name: "not executable", spoil: binary(good, 0o644), want: "not an executable file"},
		{name: "a directory", spoil: func() { os.Remove(p.binary); os.Mkdir(p.binary, 0o755) }, want: "not an executable file",
			putRight: func() { os.Remove(p.binary); goodBinary() }},
		{name: "a text", spoil: binary([]byte("this is not a program\n"), 0o755), want: "exec format error"},
		{name: "a script", spoil: binary([]byte("#!/bin/sh\nexit 0\n"), 0o755), want: "preflight"},
		{name: "empty", spoil: binary(nil, 0o755), want: "exec format error"},
		{name: "half of it", spoil: binary(good[:len(good)/2], 0o755), want: "preflight"},
		{name: "its header", spoil: binary(good[:64], 0o755), want: "preflight"},
		{name: "zeros in it", spoil: binary(append(bytes.Clone(good[:8192]), make([]byte, len(good)-8192)...), 0o755), want: "preflight"},
		{name: "exits with 3", spoil: func() { p.installOther("exit") }, want: "exit status 3: this one is broken"},
		{name: "killed", spoil: func() { p.installOther("kill") }, want: "signal: killed"},
		{name: "another program", spoil: func() { p.install("/bin/true") }, want: "did not answer"},
		{name: "a script that does nothing", spoil: func() { p.script("exit 0") }, want: "did not answer"},
		{name: "a script that says much", spoil: func() { p.script(`echo '{"Name":"stratumSwitcher","Version":"1","StateVersion":1}'`) }, want: "did not answer"},
		{name: "an answer by another", spoil: func() { p.script(`echo '{"Name":"other","Version":"1","StateVersion":9}' >&4`) }, want: `it is "other"`},
		{name: "too old for the state", spoil: func() { p.script(`echo '{"Name":"stratumSwitcher","Version":"1"}' >&4`) }, want: "reads state files up to version 0"},
		{name: "a script that runs it as a child", spoil: func() { p.script(buildVersion(t, "two") + ` "$@"; exit $?`) }, want: "has to run the program by exec"},
		{name: "a script that closes descriptors", spoil: func() { p.script("exec " + buildVersion(t, "two") + ` "$@" 4>&-`) }, want: "preflight answer"},
		{name: "a build that can not answer", spoil: func() {
			p.script("unset " + upgradeContextVariable + "; exec " + buildVersion(t, "two") + ` "$@"`)
		}, want: "stop this one and start that"},
		{name: "a script without its interpreter", spoil: func() { p.replace(p.binary, []byte("#!/no/such/shell\n"), 0o755) }, want: "preflight"},
		{name: "knows no -check", spoil: func() { p.install("/usr/bin/sort") }, want: "preflight"},

		{name: "no configuration", spoil: func() { os.Remove(p.path("config.json")) }, want: "no such file"},
		{name: "not JSON", spoil: func() { p.replace(p.path("config.json"), []byte(`{"ServerID": 1`), 0o644) }, want: "preflight"},
		{name: "empty configuration", spoil: func() { p.replace(p.path("config.json"), nil, 0o644) }, want: "preflight"},
		{name: "unknown chain", spoil: config(func(c *Config) { c.ChainType = "dogecoin" }), want: "ChainType"},
		{name: "another chain", spoil: config(func(c *Config) { c.ChainType = "ethereum" }), want: "can not change it"},
		{name: "no pools", spoil: config(func(c *Config) { c.StratumServerMap = map[string]StratumServerInfo{} }), want: "StratumServerMap"},
		{name: "port in use", spoil: config(func(c *Config) { c.ListenAddr = busy.Addr().String() }), want: "address already in use"},
		{name: "foreign address", spoil: config(func(c *Config) { c.ListenAddr = "192.0.2.1:18080" }), want: "ListenAddr"},
		{name: "HTTP port in use", spoil: config(func(c *Config) { c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, busy.Addr().String() }), want: "HTTPDebugListenAddr"},
		{name: "no coin file", spoil: func() { os.Remove(p.path("coins.json")) }, want: "coin file",
			putRight: func() { p.setCoins(map[string]string{"*": "btc"}) }},
		{name: "read-only directory", spoil: func() {
			if err := unix.Mount("", p.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}, want: "read-only file system", putRight: func() {
			if err := unix.Mount("", p.dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "full disk", spoil: func() { fill(t, p.path("filler"), 0) }, want: "no space left",
			putRight: func() { os.Remove(p.path("filler")) }},
		{name: "no room for the state", spoil: func() { fill(t, p.path("filler"), 4096) }, want: "undone: write state",
			putRight: func() { os.Remove(p.path("filler")) }},
		{name: "a directory in the way", spoil: func() { os.MkdirAll(p.path("runtime.json/x"), 0o755) }, want: "undone: write state",
			putRight: func() { os.RemoveAll(p.path("runtime.json")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			fds := p.descriptors()
			c.spoil()
			p.wantNoUpgrade(c.want)
			p.wantNoUpgrade(c.want) // nor is anything different the second time
			for _, m := range miners {
				wantAccepted(t, m, 1)
				checkMiner(t, m)
			}
			wantNewMiner(t, p.addr, "alice")
			waitUntil(t, "no more descriptors", func() bool { return p.descriptors() <= fds+1 })
			if c.putRight != nil {
				c.putRight()
			} else {
				goodBinary()
				goodConfig()
			}
			p.goodUpgrade()
			wantNewMiner(t, p.addr, "alice")
		})
	}
	p.t = t
	wantMining(t, miners, "btc")
	p.setCoins(map[string]string{"*": "bcc"})
	wantMining(t, miners, "bcc")

	hanging.waitLog(`upgrade refused: .*not done within 10s: hanging`)
	wantMining(t, hangingMiners, "btc")
	hanging.install(buildVersion(t, "two"))
	hanging.goodUpgrade()
	wantMining(t, hangingMiners, "btc")
	wantNewMiner(t, hanging.addr, "hanging")
	checkPool(t, btc)
	checkPool(t, bcc)
}

// fill fills up the disk and then leaves some bytes.
func fill(t *testing.T, path string, leave int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for {
		n, err := f.Write(make([]byte, 4096))
		size += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size - leave); err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeHardLimit: with a limit too low for the new process the old one
// goes on.
func TestUpgradeHardLimit(t *testing.T) {
	btc, _ := twoPools(t)
	c := fileConfig(btc)
	c.MaxPoolDials = 350
	p := startProcess(t, c, map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 10)
	limit := func(n uint64) {
		rl := unix.Rlimit{Cur: n, Max: n}
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &rl, nil); err != nil {
			t.Fatal(err)
		}
	}
	// Miners fit in, but not the pool handshakes that the configuration allows.
	limit(400)
	p.wantNoUpgrade("limit of 400 file descriptors")
	wantMining(t, miners, "btc")
	wantNewMiner(t, p.addr, "alice")
	c.MaxPoolDials = 10
	p.writeConfig(c)
	p.goodUpgrade()
	wantMining(t, miners, "btc")
	wantNewMiner(t, p.addr, "alice")

	limit(20) // cannot be undone
	p.wantNoUpgrade("upgrade refused")
	wantMining(t, miners, "btc")
}

// TestUpgradeSoftLimit: a soft limit lowered meanwhile is raised again.
func TestUpgradeSoftLimit(t *testing.T) {
	btc, _ := twoPools(t)
	p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 3)
	get := func() (rl unix.Rlimit) {
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &rl); err != nil {
			t.Fatal(err)
		}
		return rl
	}
	before := get()
	if before.Cur != before.Max {
		t.Errorf("the limit is %d of %d", before.Cur, before.Max)
	}
	for range 3 {
		low := unix.Rlimit{Cur: 16, Max: before.Max}
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
			t.Fatal(err)
		}
		p.goodUpgrade()
		if now := get(); now != before {
			t.Errorf("the limit is %v now, was %v", now, before)
		}
		wantMining(t, miners, "btc")
		wantNewMiner(t, p.addr, "alice")
	}
}

// TestUpgradeSignalledTwice: the second signal does no harm at any moment.
func TestUpgradeSignalledTwice(t *testing.T) {
	btc, _ := twoPools(t)
	p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 5)
	for i, pause := range []time.Duration{0, 1, 2, 4, 6, 8, 10, 15, 20, 30, 50} {
		p.signal(syscall.SIGUSR2)
		time.Sleep(pause * time.Millisecond)
		p.signal(syscall.SIGUSR2)
		// The two may have been one, or two.
		n := p.logged()
		p.waitLogFrom(0, fmt.Sprintf(`upgraded version=one sessions=%d lost=0`, len(miners)))
		wantMining(t, miners[i%len(miners):][:1], "btc")
		n = max(n, p.logged())
		waitUntil(t, "another upgrade", func() bool {
			p.signal(syscall.SIGUSR2)
			time.Sleep(20 * time.Millisecond)
			return p.logged() > n
		})
	}
	wantMining(t, miners, "btc")
	p.waitIdle()
	p.goodUpgrade()
	wantNewMiner(t, p.addr, "alice")
}

// waitIdle waits until no upgrade is under way: nothing more is logged.
func (p *process) waitIdle() {
	for n := -1; n != p.logged(); {
		n = p.logged()
		time.Sleep(500 * time.Millisecond)
	}
}

// caughtSignals are those that the process has handlers for: bit n-1 is signal
// n's (proc(5), SigCgt).
func caughtSignals(t *testing.T) uint64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nSigCgt:")
	var caught uint64
	if _, err := fmt.Sscanf(after, "%x", &caught); err != nil {
		t.Fatal(err)
	}
	return caught
}

// TestUpgradeTerminated: asked to stop at any moment of an upgrade, the
// process ends, and leaves nothing behind.
func TestUpgradeTerminated(t *testing.T) {
	btc, _ := twoPools(t)
	ends := func(p *process, m *stratumtest.Miner) {
		t.Helper()
		began := time.Now()
		select {
		case <-p.ended:
		case <-time.After(upgradeWait):
			t.Fatal("the process does not end")
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("ending took %v", took)
		}
		status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Exited() && status.Signal() != syscall.SIGTERM || status.Exited() && status.ExitStatus() != 0 {
			t.Errorf("the process ended with %v", p.cmd.ProcessState)
		}
		p.checkNoTemporary()
		select {
		case <-m.Done():
		case <-time.After(upgradeWait):
			t.Error("the miner is still connected")
		}
	}
	for _, pause := range []time.Duration{0, 2, 5, 8, 10, 12, 15, 20, 30, 45, 60, 100} {
		p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
		m := startMiners(t, p.addr, "alice", 1)[0]
		p.signal(syscall.SIGUSR2)
		time.Sleep(pause * time.Millisecond)
		p.signal(syscall.SIGTERM)
		ends(p, m)
	}
	// The moment of exec, where the signal's handler and the new program meet.
	atExec := 5
	if *upgradesFlag > 0 {
		atExec = *upgradesFlag
	}
	for range atExec {
		p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
		m := startMiners(t, p.addr, "alice", 1)[0]
		p.signal(syscall.SIGUSR2)
		p.waitLog("upgrade exec")
		time.Sleep(rand.N(time.Millisecond))
		p.signal(syscall.SIGTERM)
		ends(p, m)
	}
	// A preflight that hangs does not hold it up.
	p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
	m := startMiners(t, p.addr, "alice", 1)[0]
	p.installOther("hang")
	p.signal(syscall.SIGUSR2)
	p.waitLog("upgrade begins")
	p.signal(syscall.SIGTERM)
	ends(p, m)
}

// TestUpgradeStepFails: each step that can fail after the freeze leaves the
// process as it was.
func TestUpgradeStepFails(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0") // for the preflight
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	miners := startMiners(t, sw.addr, "alice", 5)
	silent := stratumtest.DialRaw(t, sw.addr)
	silent.Send(`{"id":1,"method":"mining.sub`)
	waitUntil(t, "all sessions", func() bool { return sw.sessionCount() == 6 })

	dir := t.TempDir()
	p := newProcess(t, dir)
	p.writeConfig(sw.config)
	c := *sw.config
	c.ZKBroker, c.CoinFile = []string{}, filepath.Join(dir, "coins.json")
	p.writeConfig(&c)
	p.setCoins(map[string]string{"*": "btc"})
	fds := []int{sw.listener.FD()}
	for _, l := range sw.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				fds = append(fds, s.miner.FD())
				if s.link.open() {
					fds = append(fds, s.link.socket.FD())
				}
			}
		})
	}
	if len(fds) != 1+6+5 {
		t.Fatalf("%d descriptors", len(fds))
	}
	const stops = 1<<(syscall.SIGTERM-1) | 1<<(syscall.SIGINT-1)
	caught := caughtSignals(t)
	failure := errors.New("not today")
	for _, c := range []struct {
		name   string
		system upgradeSystem
	}{
		{"write", upgradeSystem{write: func(string, [][]byte) error { return failure }}},
		{"exec", upgradeSystem{exec: func(path string, args, env []string) error {
			for _, fd := range fds {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != 0 {
					t.Errorf("descriptor %d is not handed over: flags %d, %v", fd, flags, err)
				}
			}
			if args[len(args)-1] != "-runtime="+filepath.Join(dir, "runtime.json") {
				t.Errorf("arguments %q", args)
			}
			info, err := os.Stat(filepath.Join(dir, "runtime.json"))
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("state file: %v, %v", info.Mode(), err)
			}
			if now := caughtSignals(t); now&stops != 0 {
				t.Errorf("signals caught at exec: %#x; one to stop would be lost with its handler's thread", now)
			}
			coins.set("alice", "bcc") // while all is frozen
			return failure
		}}},
		{"exec again", upgradeSystem{exec: func(string, []string, []string) error { coins.set("alice", "btc"); return failure }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.system.exec == nil {
				c.system.exec = func(string, []string, []string) error { t.Error("exec"); return failure }
			}
			if c.system.write == nil {
				c.system.write = writeStateFile
			}
			c.system.now = time.Now
			u := &upgrader{
				manager: sw.sessionManager, config: sw.config, binary: p.binary,
				args:  []string{"-config", filepath.Join(dir, "config.json"), "--runtime", "old.json", "-runtime=older.json"},
				state: filepath.Join(dir, "runtime.json"), system: c.system,
				stop: make(chan os.Signal, 4), again: make(chan os.Signal, 1), serverIDOwner: func() int64 { return 0 },
			}
			if err := u.upgrade(); !errors.Is(err, failure) || !strings.HasPrefix(err.Error(), "undone") {
				t.Fatalf("got %v", err)
			}
			defer signal.Stop(u.stop)
			defer signal.Stop(u.again)
			if now := caughtSignals(t); now&stops != caught&stops || caught&stops != stops {
				t.Errorf("signals caught afterwards: %#x, before: %#x", now, caught)
			}
			for _, fd := range fds {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
					t.Errorf("descriptor %d: flags %d, %v", fd, flags, err)
				}
			}
			wantMining(t, miners, map[string]string{"write": "btc", "exec": "bcc", "exec again": "btc"}[c.name])
			wantNewMiner(t, sw.addr, "alice")
			if left, _ := filepath.Glob(filepath.Join(dir, "runtime.json*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			fds = []int{sw.listener.FD()} // links to pools have changed
		})
	}
	silent.Send(`scribe","params":[]}` + "\n")
	if line := silent.Line(upgradeWait); !strings.Contains(line, "mining.notify") {
		t.Errorf("answer %q", line)
	}
}
