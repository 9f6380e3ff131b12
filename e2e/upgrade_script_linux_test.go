//go:build linux && e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TestUpgradeByScript: a script that ends in the program may take its place, and
// the next upgrade comes from the same path again.
func TestUpgradeByScript(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	pid := p.Cmd.Process.Pid

	// Scripts look for the program beside them, and redirect its output.
	beside := filepath.Join(filepath.Dir(p.Binary), "real")
	if err := os.Symlink(daemontest.Build(t, "two"), beside); err != nil {
		t.Fatal(err)
	}
	p.Script(`exec "$(dirname "$0")/real" "$@" >/dev/null`)
	for range 2 {
		n := p.Logged()
		p.GoodUpgrade()
		p.WaitLogFrom(n, `stratumSwitcher version=two pid=`+fmt.Sprint(pid))
		testkit.WantMining(t, miners, "btc")
		testkit.WantNewMiner(t, p.Addr, "alice")
	}
	p.Install(daemontest.Build(t, "one"))
	n := p.Logged()
	p.GoodUpgrade()
	p.WaitLogFrom(n, `stratumSwitcher version=one`)
	testkit.WantMining(t, miners, "btc")

	p.Install(daemontest.Build(t, "two"))
	p.GoodUpgrade()
	testkit.WantMining(t, miners, "btc")
}

// TestSignalsNotUsed: signals that other daemons use do not end this one, at any
// moment of an upgrade.
func TestSignalsNotUsed(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	p.Signal(syscall.SIGHUP)
	p.WaitLog("signal hangup is not used")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				p.Cmd.Process.Signal(syscall.SIGHUP)
				p.Cmd.Process.Signal(syscall.SIGUSR1)
			}
		}
	}()
	for range 5 {
		p.GoodUpgrade()
	}
	close(stop)
	<-stopped
	testkit.WantMining(t, miners, "btc")
	n := p.Logged()
	p.Signal(syscall.SIGHUP)
	p.WaitLogFrom(n, "signal hangup is not used")
	p.Signal(syscall.SIGTERM)
	<-p.Ended
}

// TestUpgradeHandshakeLines: after an upgrade, a stranger may not send more lines
// than before.
func TestUpgradeHandshakeLines(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	p := daemontest.Start(t, daemontest.FileConfig(btc), map[string]string{"*": "btc"})
	raw := stratumtest.DialRaw(t, p.Addr)
	half := maxHandshakeLines - 10
	for i := range half {
		raw.SendLine(fmt.Sprintf(`{"id":%d,"method":"mining.capabilities","params":[]}`, i))
		raw.Line(testkit.LongWait)
	}
	p.GoodUpgrade()
	for i := range maxHandshakeLines - half {
		raw.SendLine(fmt.Sprintf(`{"id":%d,"method":"mining.capabilities","params":[]}`, half+i))
		raw.Line(testkit.LongWait)
	}
	raw.SendLine(`{"id":1001,"method":"mining.capabilities","params":[]}`)
	raw.ExpectClosed()
}
