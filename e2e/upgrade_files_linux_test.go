//go:build linux && e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// deadMount mounts a file system that never answers over dir. The returned function
// removes it.
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
		unix.Close(fd) // those that wait for it get an error
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
		dir  func(p *daemontest.Daemon) string
	}{
		{"program", func(p *daemontest.Daemon) string { return filepath.Dir(p.Binary) }},
		{"state file", func(p *daemontest.Daemon) string { return p.Dir }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			btc, bcc := testkit.TwoPools(t)
			p := daemontest.Start(t, daemontest.FileConfig(btc, bcc), map[string]string{"*": "btc"})
			miners := testkit.StartMiners(t, p.Addr, "alice", 5)
			free := deadMount(t, c.dir(p))

			n := p.Logged()
			p.Signal(syscall.SIGUSR2)
			p.WaitLogFrom(n, `upgrade refused: \S+: takes too long`)
			n = p.Logged()
			p.Signal(syscall.SIGUSR2)
			p.WaitLogFrom(n, `upgrade refused: a file system that did not answer`)
			testkit.WantNewMiner(t, p.Addr, "bob")

			free()
			testkit.WaitUntil(t, "an upgrade", func() bool {
				n := p.Logged()
				p.Signal(syscall.SIGUSR2)
				return p.WaitLogFrom(n, `upgraded version|upgrade (?:refused|undone).*`)[0] == "upgraded version"
			})
			testkit.WantMining(t, miners, "btc")

			deadMount(t, c.dir(p))
			n = p.Logged()
			p.Signal(syscall.SIGUSR2)
			p.WaitLogFrom(n, `upgrade begins`)
			p.Signal(syscall.SIGTERM)
			select {
			case <-p.Ended:
				if lines := p.LinesFrom(n, `upgrade refused: .*takes too long`); len(lines) > 0 {
					t.Errorf("a signal to stop waits for the file system: %q", lines)
				}
			case <-time.After(testkit.LongWait):
				t.Error("a signal to stop waits for ever")
			}
		})
	}
}
