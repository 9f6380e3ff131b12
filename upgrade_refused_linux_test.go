//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// caughtSignals are those for which the process has handlers: bit n-1 is signal n's
// (proc(5), SigCgt).
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

// TestUpgradeStepFails: each step that can fail after the freeze leaves the process
// as it was.
func TestUpgradeStepFails(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0") // for the preflight
	btc, bcc := testkit.TwoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	miners := testkit.StartMiners(t, sw.addr, "alice", 5)
	silent := stratumtest.DialRaw(t, sw.addr)
	silent.Send(`{"id":1,"method":"mining.sub`)
	testkit.WaitUntil(t, "all sessions", func() bool { return sw.sessionCount() == 6 })

	dir := t.TempDir()
	c := *sw.config
	c.ZKBroker, c.CoinFile = []string{}, filepath.Join(dir, "coins.json")
	config, err := json.Marshal(&c)
	testkit.Must(t, err)
	testkit.WriteFile(t, filepath.Join(dir, "config.json"), string(config))
	testkit.WriteFile(t, c.CoinFile, `{"*":"btc"}`)
	binary, err := os.Executable() // TestMain makes it answer the preflight
	testkit.Must(t, err)
	fds := []int{sw.listener.FD()}
	sw.eachSession(func(s *Session) {
		fds = append(fds, s.miner.FD())
		if s.link.open() {
			fds = append(fds, s.link.socket.FD())
		}
	})
	if len(fds) != 1+6+5 {
		t.Fatalf("there are %d descriptors to hand over", len(fds))
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
				t.Errorf("unexpected arguments %q", args)
			}
			info, err := os.Stat(filepath.Join(dir, "runtime.json"))
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("the state file has mode %v, %v", info.Mode(), err)
			}
			if now := caughtSignals(t); now&stops != 0 {
				t.Errorf("signals caught at exec: %#x; one to stop would be lost with its handler's thread", now)
			}
			coins.set("alice", "bcc") // while everything is frozen
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
				manager: sw.sessionManager, config: sw.config, binary: binary,
				args:  []string{"-config", filepath.Join(dir, "config.json"), "--runtime", "old.json", "-runtime=older.json"},
				state: filepath.Join(dir, "runtime.json"), system: c.system,
				stop: make(chan os.Signal, 4), upgradeRequests: make(chan os.Signal, 1), coins: sw.coins,
			}
			if err := u.upgrade(); !errors.Is(err, failure) || !strings.HasPrefix(err.Error(), "undone") {
				t.Fatalf("got error %v", err)
			}
			defer signal.Stop(u.stop)
			defer signal.Stop(u.upgradeRequests)
			if now := caughtSignals(t); now&stops != caught&stops {
				t.Errorf("signals caught afterwards: %#x, before: %#x", now, caught)
			}
			for _, fd := range fds {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
					t.Errorf("descriptor %d has flags %d, %v", fd, flags, err)
				}
			}
			testkit.WantMining(t, miners, map[string]string{"write": "btc", "exec": "bcc", "exec again": "btc"}[c.name])
			testkit.WantNewMiner(t, sw.addr, "alice")
			if left, _ := filepath.Glob(filepath.Join(dir, "runtime.json*")); len(left) > 0 {
				t.Errorf("files are left behind: %q", left)
			}
			fds = []int{sw.listener.FD()} // links to pools have changed
		})
	}
	silent.Send(`scribe","params":[]}` + "\n")
	if line := silent.Line(testkit.LongWait); !strings.Contains(line, "mining.notify") {
		t.Errorf("unexpected answer %q", line)
	}
}
