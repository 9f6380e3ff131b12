//go:build linux && e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// tmpfs mounts a small file system for a daemon's working directory.
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

// TestUpgradeRefused: whatever is wrong, nothing changes for anybody, and when it
// is corrected, the upgrade works.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	pools := daemontest.FileConfig(btc, bcc)
	pools.ListenAddr = testkit.UnusedAddr(t)

	// This daemon's preflight takes its ten seconds while the other cases are
	// tried.
	two := daemontest.FileConfig(btc, bcc)
	two.ServerID = 2
	hanging := daemontest.Start(t, two, map[string]string{"*": "btc"})
	hangingMiners := testkit.StartMiners(t, hanging.Addr, "hanging", 2)
	hanging.InstallOther("hang")
	hanging.Signal(syscall.SIGUSR2)

	p := daemontest.New(t, tmpfs(t, "1m"))
	p.WriteConfig(pools)
	p.SetCoins(map[string]string{"*": "btc"})
	p.Start("-logtostderr", "-v=1")
	miners := testkit.StartMiners(t, p.Addr, "alice", 10)
	good, err := os.ReadFile(daemontest.Build(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	config := func(change func(*daemontest.Config)) func() {
		return func() {
			c := *pools
			change(&c)
			p.WriteConfig(&c)
		}
	}
	goodConfig := func() { p.WriteConfig(pools) }
	binary := func(content []byte, mode os.FileMode) func() {
		return func() { p.Replace(p.Binary, content, mode) }
	}
	goodBinary := binary(good, 0o755)
	for _, c := range []struct {
		name     string
		spoil    func()
		want     string
		putRight func() // nil restores the good binary and configuration
	}{
		{name: "binary missing", spoil: func() { os.Remove(p.Binary) }, want: "no such file"},
		{name: "not executable", spoil: binary(good, 0o644), want: "not an executable file"},
		{name: "a directory", spoil: func() { os.Remove(p.Binary); os.Mkdir(p.Binary, 0o755) }, want: "not an executable file",
			putRight: func() { os.Remove(p.Binary); goodBinary() }},
		{name: "a text", spoil: binary([]byte("this is not a program\n"), 0o755), want: "exec format error"},
		{name: "a script", spoil: binary([]byte("#!/bin/sh\nexit 0\n"), 0o755), want: "preflight"},
		{name: "empty", spoil: binary(nil, 0o755), want: "exec format error"},
		{name: "half of it", spoil: binary(good[:len(good)/2], 0o755), want: "preflight"},
		{name: "its header", spoil: binary(good[:64], 0o755), want: "preflight"},
		{name: "zeros in it", spoil: binary(append(bytes.Clone(good[:8192]), make([]byte, len(good)-8192)...), 0o755), want: "preflight"},
		{name: "exits with 3", spoil: func() { p.InstallOther("exit") }, want: "exit status 3: this one is broken"},
		{name: "killed", spoil: func() { p.InstallOther("kill") }, want: "signal: killed"},
		{name: "another program", spoil: func() { p.Install("/bin/true") }, want: "did not answer"},
		{name: "a script that does nothing", spoil: func() { p.Script("exit 0") }, want: "did not answer"},
		{name: "a script that says much", spoil: func() { p.Script(`echo '{"Name":"stratumSwitcher","Version":"1","StateVersion":1}'`) }, want: "did not answer"},
		{name: "an answer by another", spoil: func() { p.Script(`echo '{"Name":"other","Version":"1","StateVersion":9}' >&4`) }, want: `it is "other"`},
		{name: "too old for the state", spoil: func() { p.Script(`echo '{"Name":"stratumSwitcher","Version":"1"}' >&4`) }, want: "reads state files up to version 0"},
		{name: "a script that runs it as a child", spoil: func() { p.Script(daemontest.Build(t, "two") + ` "$@"; exit $?`) }, want: "has to run the program by exec"},
		{name: "a script that closes descriptors", spoil: func() { p.Script("exec " + daemontest.Build(t, "two") + ` "$@" 4>&-`) }, want: "preflight answer"},
		{name: "a build that cannot answer", spoil: func() {
			p.Script("unset " + upgradeContextVariable + "; exec " + daemontest.Build(t, "two") + ` "$@"`)
		}, want: "stop this one and start that"},
		{name: "a script without its interpreter", spoil: func() { p.Replace(p.Binary, []byte("#!/no/such/shell\n"), 0o755) }, want: "preflight"},
		{name: "knows no -check", spoil: func() { p.Install("/usr/bin/sort") }, want: "preflight"},

		{name: "no configuration", spoil: func() { os.Remove(p.Path("config.json")) }, want: "no such file"},
		{name: "not JSON", spoil: func() { p.Replace(p.Path("config.json"), []byte(`{"ServerID": 1`), 0o644) }, want: "preflight"},
		{name: "empty configuration", spoil: func() { p.Replace(p.Path("config.json"), nil, 0o644) }, want: "preflight"},
		{name: "unknown chain", spoil: config(func(c *daemontest.Config) { c.ChainType = "dogecoin" }), want: "ChainType"},
		{name: "another chain", spoil: config(func(c *daemontest.Config) { c.ChainType = "ethereum" }), want: "cannot change it"},
		{name: "no pools", spoil: config(func(c *daemontest.Config) { c.StratumServerMap = map[string]daemontest.PoolConfig{} }), want: "StratumServerMap"},
		{name: "port in use", spoil: config(func(c *daemontest.Config) { c.ListenAddr = busy.Addr().String() }), want: "address already in use"},
		{name: "foreign address", spoil: config(func(c *daemontest.Config) { c.ListenAddr = "192.0.2.1:18080" }), want: "ListenAddr"},
		{name: "HTTP port in use", spoil: config(func(c *daemontest.Config) { c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, busy.Addr().String() }), want: "HTTPDebugListenAddr"},
		{name: "no coin file", spoil: func() { os.Remove(p.Path("coins.json")) }, want: "coin file",
			putRight: func() { p.SetCoins(map[string]string{"*": "btc"}) }},
		{name: "read-only directory", spoil: func() {
			if err := unix.Mount("", p.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}, want: "read-only file system", putRight: func() {
			if err := unix.Mount("", p.Dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "full disk", spoil: func() { fill(t, p.Path("filler"), 0) }, want: "no space left",
			putRight: func() { os.Remove(p.Path("filler")) }},
		{name: "no room for the state", spoil: func() { fill(t, p.Path("filler"), 4096) }, want: "undone: write state",
			putRight: func() { os.Remove(p.Path("filler")) }},
		{name: "a directory in the way", spoil: func() { os.MkdirAll(p.Path("runtime.json/x"), 0o755) }, want: "undone: write state",
			putRight: func() { os.RemoveAll(p.Path("runtime.json")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.T = t
			fds := p.Descriptors()
			c.spoil()
			p.WantNoUpgrade(c.want)
			p.WantNoUpgrade(c.want) // and it is the same the second time
			for _, m := range miners {
				testkit.WantAccepted(t, m, 1)
				testkit.CheckMiner(t, m)
			}
			testkit.WantNewMiner(t, p.Addr, "alice")
			testkit.WaitUntil(t, "no more descriptors", func() bool { return p.Descriptors() <= fds+1 })
			if c.putRight != nil {
				c.putRight()
			} else {
				goodBinary()
				goodConfig()
			}
			p.GoodUpgrade()
			testkit.WantNewMiner(t, p.Addr, "alice")
		})
	}
	p.T = t
	testkit.WantMining(t, miners, "btc")
	p.SetCoins(map[string]string{"*": "bcc"})
	testkit.WantMining(t, miners, "bcc")

	hanging.WaitLog(`upgrade refused: .*not done within 10s: hanging`)
	testkit.WantMining(t, hangingMiners, "btc")
	hanging.Install(daemontest.Build(t, "two"))
	hanging.GoodUpgrade()
	testkit.WantMining(t, hangingMiners, "btc")
	testkit.WantNewMiner(t, hanging.Addr, "hanging")
	testkit.CheckPool(t, btc)
	testkit.CheckPool(t, bcc)
}

// fill fills up the disk and then frees some bytes.
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

// TestUpgradeHardLimit: if the hard limit is too low for the new process, the old
// one continues.
func TestUpgradeHardLimit(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc)
	c.MaxPoolDials = 350
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 10)
	limit := func(n uint64) {
		rl := unix.Rlimit{Cur: n, Max: n}
		if err := unix.Prlimit(p.Cmd.Process.Pid, unix.RLIMIT_NOFILE, &rl, nil); err != nil {
			t.Fatal(err)
		}
	}
	// There is room for the miners, but not for the pool handshakes that the
	// configuration allows.
	limit(400)
	p.WantNoUpgrade("limit of 400 file descriptors")
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, p.Addr, "alice")
	c.MaxPoolDials = 10
	p.WriteConfig(c)
	p.GoodUpgrade()
	testkit.WantMining(t, miners, "btc")
	testkit.WantNewMiner(t, p.Addr, "alice")

	limit(20) // this cannot be undone
	p.WantNoUpgrade("upgrade refused")
	testkit.WantMining(t, miners, "btc")
}

// TestUpgradeSoftLimit: a soft limit that was lowered meanwhile is raised again.
func TestUpgradeSoftLimit(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	get := func() (rl unix.Rlimit) {
		if err := unix.Prlimit(p.Cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &rl); err != nil {
			t.Fatal(err)
		}
		return rl
	}
	before := get()
	if before.Cur != before.Max {
		t.Errorf("the soft limit is %d, want the hard limit %d", before.Cur, before.Max)
	}
	for range 3 {
		low := unix.Rlimit{Cur: 16, Max: before.Max}
		if err := unix.Prlimit(p.Cmd.Process.Pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
			t.Fatal(err)
		}
		p.GoodUpgrade()
		if now := get(); now != before {
			t.Errorf("the limit is %v, want %v as before", now, before)
		}
		testkit.WantMining(t, miners, "btc")
		testkit.WantNewMiner(t, p.Addr, "alice")
	}
}

// TestUpgradeSignalledTwice: a second signal does no harm at any moment.
func TestUpgradeSignalledTwice(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 5)
	for i, pause := range []time.Duration{0, 1, 2, 4, 6, 8, 10, 15, 20, 30, 50} {
		p.Signal(syscall.SIGUSR2)
		time.Sleep(pause * time.Millisecond)
		p.Signal(syscall.SIGUSR2)
		// The two signals may have caused one upgrade or two.
		n := p.Logged()
		p.WaitLogFrom(0, fmt.Sprintf(`upgraded version=one sessions=%d lost=0`, len(miners)))
		testkit.WantMining(t, miners[i%len(miners):][:1], "btc")
		n = max(n, p.Logged())
		testkit.WaitUntil(t, "another upgrade", func() bool {
			p.Signal(syscall.SIGUSR2)
			time.Sleep(20 * time.Millisecond)
			return p.Logged() > n
		})
	}
	testkit.WantMining(t, miners, "btc")
	p.WaitIdle()
	p.GoodUpgrade()
	testkit.WantNewMiner(t, p.Addr, "alice")
}

// TestUpgradeTerminated: if it is asked to stop at any moment of an upgrade, the
// process ends and leaves nothing behind.
func TestUpgradeTerminated(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	ends := func(p *daemontest.Daemon, m *stratumtest.Miner) {
		t.Helper()
		began := time.Now()
		select {
		case <-p.Ended:
		case <-time.After(testkit.LongWait):
			t.Fatal("the process does not end")
		}
		wantSoon(t, "the process's end", time.Since(began), 5*time.Second)
		status := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Exited() && status.Signal() != syscall.SIGTERM || status.Exited() && status.ExitStatus() != 0 {
			t.Errorf("the process ended with %v, want status 0 or SIGTERM", p.Cmd.ProcessState)
		}
		p.CheckNoTemporary()
		select {
		case <-m.Done():
		case <-time.After(testkit.LongWait):
			t.Error("the miner is still connected")
		}
	}
	for _, pause := range []time.Duration{0, 2, 5, 8, 10, 12, 15, 20, 30, 45, 60, 100} {
		p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
		m := testkit.StartMiners(t, p.Addr, "alice", 1)[0]
		p.Signal(syscall.SIGUSR2)
		time.Sleep(pause * time.Millisecond)
		p.Signal(syscall.SIGTERM)
		ends(p, m)
	}
	// This is the moment of exec, where the signal's handler and the new program
	// meet.
	atExec := 5
	if *upgradesFlag > 0 {
		atExec = *upgradesFlag
	}
	for range atExec {
		p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
		m := testkit.StartMiners(t, p.Addr, "alice", 1)[0]
		p.Signal(syscall.SIGUSR2)
		p.WaitLog("upgrade exec")
		time.Sleep(rand.N(time.Millisecond))
		p.Signal(syscall.SIGTERM)
		ends(p, m)
	}
	// A preflight that hangs does not delay the end.
	p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	m := testkit.StartMiners(t, p.Addr, "alice", 1)[0]
	p.InstallOther("hang")
	p.Signal(syscall.SIGUSR2)
	p.WaitLog("upgrade begins")
	p.Signal(syscall.SIGTERM)
	ends(p, m)
}
