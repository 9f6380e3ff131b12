//go:build linux && !portable_relay

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"golang.org/x/sys/unix"
)

// deadMount puts a file system over dir that never answers. The function
// returned takes it away.
func deadMount(t *testing.T, dir string) (free func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("/dev/fuse: %v", err)
	}
	if err := unix.Mount("dead", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)); err != nil {
		unix.Close(fd)
		t.Fatalf("no mount: %v", err)
	}
	freed := false
	free = func() {
		if freed {
			return
		}
		freed = true
		unix.Close(fd) // who waits for it is told that it is gone
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
	t.Cleanup(free)
	return free
}

// TestUpgradeFileSystemHangs: neither the miners nor a signal wait for the file
// system of the program or of the state file.
func TestUpgradeFileSystemHangs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		dir  func(p *process) string
	}{
		{"program", func(p *process) string { return filepath.Dir(p.binary) }},
		{"state file", func(p *process) string { return p.dir }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			btc, bcc := twoPools(t)
			p := startProcess(t, fileConfig(btc, bcc), map[string]string{"*": "btc"})
			miners := startMiners(t, p.addr, "alice", 5)
			free := deadMount(t, c.dir(p))

			n := p.logged()
			p.signal(syscall.SIGUSR2)
			p.waitLogFrom(n, `upgrade refused: \S+: takes too long`)
			n = p.logged()
			p.signal(syscall.SIGUSR2)
			p.waitLogFrom(n, `upgrade refused: a file system that did not answer`)
			wantNewMiner(t, p.addr, "bob")

			free()
			waitUntil(t, "an upgrade", func() bool {
				n := p.logged()
				p.signal(syscall.SIGUSR2)
				return p.waitLogFrom(n, `upgraded version|upgrade (?:refused|undone).*`)[0] == "upgraded version"
			})
			wantMining(t, miners, "btc")

			deadMount(t, c.dir(p))
			n = p.logged()
			p.signal(syscall.SIGUSR2)
			p.waitLogFrom(n, `upgrade begins`)
			p.signal(syscall.SIGTERM)
			select {
			case <-p.ended:
			case <-time.After(regularfile.Wait):
				t.Error("a signal to stop waits for the file system")
			}
		})
	}
}

// TestUpgradeStepGivenUp: what a step brings too late is given to whom it
// concerns, and there is no other upgrade before.
func TestUpgradeStepGivenUp(t *testing.T) {
	for _, c := range []struct {
		name string
		stop os.Signal
		want error
	}{
		{"too slow", nil, regularfile.ErrTooSlow},
		{"stopped", syscall.SIGTERM, errStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &upgrader{stop: make(chan os.Signal, 1), system: upgradeSystem{now: time.Now}}
			wait := time.Minute
			if c.stop != nil {
				u.stop <- c.stop
			} else {
				wait = time.Millisecond
			}
			hangs, late := make(chan struct{}), make(chan int, 1)
			_, err := inStep(u, "file", wait, func() (int, error) { <-hangs; return 7, nil }, func(n int) { late <- n })
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.stop != nil && len(u.stop) != 1 {
				t.Error("the signal is lost")
			}
			if err := u.upgrade(); err == nil || u.files.stuck.Load() != 1 {
				t.Errorf("another upgrade meanwhile: %v, %d steps", err, u.files.stuck.Load())
			}
			close(hangs)
			if n := <-late; n != 7 {
				t.Errorf("late came %d", n)
			}
			waitUntil(t, "the end of the step", func() bool { return u.files.stuck.Load() == 0 })
		})
	}
}
