//go:build linux && e2e

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Log files of upgrades within one second would get the same names. None of them
// may end the process, or lose what the previous process has logged.
func TestUpgradesWithinASecondKeepTheirLogs(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	logs := t.TempDir()
	p := daemontest.New(t, t.TempDir())
	p.WriteConfig(daemontest.FileConfig(btc, bcc))
	p.SetCoins(map[string]string{"alice": "btc"})
	p.StartQuietly("-log_dir="+logs, "-logbuflevel=-1", "-v=1")
	count := func(what string) (n int) {
		files, err := filepath.Glob(filepath.Join(logs, "stratumSwitcher.*.log.INFO.*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			content, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				return -1 // it is being renamed at this moment
			}
			if err != nil {
				t.Fatal(err)
			}
			n += strings.Count(string(content), what)
		}
		return n
	}
	testkit.WaitUntil(t, "listening", func() bool { return count("listening addr=") == 1 })
	const upgrades = 12
	for i := 1; i <= upgrades; i++ {
		p.Signal(syscall.SIGUSR2)
		testkit.WaitUntil(t, "upgraded", func() bool {
			select {
			case <-p.Ended:
				t.Fatalf("the daemon has ended after %d upgrades: %q", i-1, p.Log())
			default:
			}
			return count("upgraded version=") == i
		})
	}
	testkit.WaitUntil(t, "all starts in the logs", func() bool { return count(" pid=") == upgrades+1 })
	if n := count("upgrade exec sessions="); n != upgrades {
		t.Errorf("the logs have %d last lines before an upgrade, want %d", n, upgrades)
	}
	if n := count("lines are missing"); n != 0 {
		t.Errorf("%d lines say that lines are missing, want none", n)
	}
}
