//go:build linux && e2e

package e2e

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// tlsKillsFlag is how often TestTLSTunnelKilled kills the tunnel process.
var tlsKillsFlag = flag.Int("tls-kills", 5, "how often the tunnel process is killed")

// TestTLSTunnelKilled: when the tunnel process dies, miners and pools without TLS
// notice nothing, miners with TLS are disconnected and served again, and pool links
// with TLS are replaced while their miners stay. The failure is held against no
// pool, and nothing is left behind.
func TestTLSTunnelKilled(t *testing.T) {
	t.Parallel()
	const n = 10
	w := newTLSWorld(t)
	plainPool := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true, JobInterval: 20 * time.Second, CleanEvery: 1 << 30})
	// The links to this pool are made anew with each kill. Another job in between would
	// make shares stale that wait for the next link.
	securedPool := w.pool(stratumtest.PoolOptions{Name: "bcc", ShareBits: 4, SkipWork: true})
	c := w.config([]*stratumtest.Pool{plainPool}, securedPool)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	d := daemontest.Start(t, c, map[string]string{"bob": "bcc", "*": "btc"})
	plain := testkit.FleetOf(t, d.Addr, "alice", n, 200, stratumtest.MinerOptions{CheatHash: true})
	linked := testkit.FleetOf(t, d.Addr, "bob", n, 200, stratumtest.MinerOptions{CheatHash: true})
	secured := startSecured(t, w, d, n)
	before := d.Usage(c.HTTPDebugListenAddr)
	former := 0
	for range *tlsKillsFlag {
		pid := tunnelOf(t, d)
		if pid == former {
			t.Fatalf("tunnel process %d still runs", pid)
		}
		former = pid
		testkit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
		for _, m := range secured {
			<-m.Done()
		}
		secured = startSecured(t, w, d, n)
		testkit.WantMiningAfterLoss(t, linked.Miners(), "bcc")
		testkit.WantMining(t, plain.Miners(), "btc")
	}
	testkit.SettleFleet(t, plain)
	testkit.SettleFleet(t, linked)
	for _, p := range []*stratumtest.Pool{plainPool, securedPool} {
		testkit.CheckPool(t, p)
	}
	if lines := d.LogLines(`(pool taken out.*|machine short.*)`); len(lines) > 0 {
		t.Errorf("the failure was held against somebody: %q", lines)
	}
	daemontest.AwaitSettled(t, func() string {
		after := d.Usage(c.HTTPDebugListenAddr)
		if after.Descriptors > before.Descriptors+2 || after.Goroutines > before.Goroutines+2 {
			return fmt.Sprintf("%v, was %v", after, before)
		}
		if pids := tunnelProcesses(t, d.Cmd.Process.Pid); len(pids) != 1 {
			return fmt.Sprintf("tunnel processes %v", pids)
		}
		return ""
	})
	t.Logf("before %v, after %v", before, d.Usage(c.HTTPDebugListenAddr))
}

// startSecured starts miners with TLS. Each is dialled until it is served, because
// the tunnel process may have just died.
func startSecured(t *testing.T, w *tlsWorld, d *daemontest.Daemon, n int) (miners []*stratumtest.Miner) {
	t.Helper()
	return startSecuredAs(t, d, w.miner(), n)
}

func startSecuredAs(t *testing.T, d *daemontest.Daemon, config *tls.Config, n int) (miners []*stratumtest.Miner) {
	t.Helper()
	for i := range n {
		testkit.Eventually(t, "a miner with TLS is served", func() bool {
			m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: d.Addr, TLS: config, Worker: fmt.Sprintf("carol.%d", i), CheatHash: true, Rate: 20})
			if err != nil {
				return false
			}
			t.Cleanup(m.Close)
			miners = append(miners, m)
			return true
		})
	}
	for _, m := range miners {
		testkit.WantAccepted(t, m, 1)
	}
	return miners
}

// TestTLSDaemonGone: however the daemon ends, its tunnel processes end too,
// including those of former programs.
func TestTLSDaemonGone(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGABRT} {
		t.Run(sig.String(), func(t *testing.T) {
			w := newTLSWorld(t)
			btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
			d := daemontest.Start(t, w.config(nil, btc), map[string]string{"*": "btc"})
			startSecured(t, w, d, 3)
			d.Install(daemontest.Build(t, "two"))
			d.GoodUpgrade()
			startSecured(t, w, d, 3)
			var pids []int
			testkit.Eventually(t, "two tunnel processes", func() bool {
				pids = tunnelProcesses(t, d.Cmd.Process.Pid)
				return len(pids) == 2
			})
			d.Signal(sig)
			<-d.Ended
			for _, pid := range pids {
				testkit.Eventually(t, "a tunnel process is gone", func() bool { return !isTunnel(pid) })
			}
		})
	}
}

func isTunnel(pid int) bool {
	_, name, ok := parentOf(pid)
	return ok && name == "switcherTunnel"
}

// TestTLSGroupSignalled: a signal to the whole process group, as a shell sends it,
// only affects the daemon. Its miners with TLS survive an upgrade, and no process
// is left behind.
func TestTLSGroupSignalled(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	d := daemontest.New(t, t.TempDir())
	d.WriteConfig(w.config([]*stratumtest.Pool{btc}))
	d.SetCoins(map[string]string{"*": "btc"})
	cmd := exec.Command(d.Binary, "-logtostderr", "-v=1")
	cmd.Dir = d.Dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d.Run(cmd)
	d.Addr = d.WaitLog(`listening addr=(\S+)`)[1]
	miners := startSecured(t, w, d, 3)
	pid := tunnelOf(t, d)
	n := d.Logged()
	testkit.Must(t, syscall.Kill(-d.Cmd.Process.Pid, syscall.SIGUSR2))
	d.WaitLogFrom(n, `upgraded version=one sessions=3 lost=0`)
	for _, m := range miners {
		testkit.WantAccepted(t, m, 1)
	}
	testkit.Must(t, syscall.Kill(-d.Cmd.Process.Pid, syscall.SIGTERM))
	select {
	case <-d.Ended:
	case <-time.After(e2eWait):
		t.Fatal("the daemon does not end")
	}
	testkit.Eventually(t, "the tunnel process is gone", func() bool { return !isTunnel(pid) })
}

// TestTLSStateUnreadable: a state file that cannot be read costs the connections,
// but leaves no process behind and nobody waiting.
func TestTLSStateUnreadable(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	d := daemontest.Start(t, w.config(nil, btc).At(testkit.UnusedAddr(t)), map[string]string{"*": "btc"})
	miners := startSecured(t, w, d, 3)
	pid := tunnelOf(t, d)
	d.InstallOther("wait")
	n := d.Logged()
	d.Signal(syscall.SIGUSR2)
	d.WaitLogFrom(n, "between two programs")
	testkit.WriteFile(t, d.Path("runtime.json"), "{")
	testkit.WriteFile(t, d.Path("go"), "")
	d.WaitLogFrom(n, `starting anew`)
	for _, m := range miners {
		<-m.Done()
	}
	testkit.Eventually(t, "the former tunnel process is gone", func() bool { _, _, ok := parentOf(pid); return !ok })
	startSecured(t, w, d, 3)
	tunnelOf(t, d)
}
