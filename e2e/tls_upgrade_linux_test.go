//go:build linux && e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// tlsLongFlag asks for the long form of TestTLSUpgradeUnderLoad.
var tlsLongFlag = flag.Bool("tls-long", false, "1,000 miners with TLS, 2,000 shares a second, ten upgrades and twenty switches")

// TestTLSUpgradeUnderLoad: miners with TLS at pools with TLS lose neither a
// connection nor a share when the program is replaced by others and coins are
// switched.
func TestTLSUpgradeUnderLoad(t *testing.T) {
	miners, rate, upgrades, switches := 100, 200.0, 3, 6
	if *tlsLongFlag {
		miners, rate, upgrades, switches = 1000, 2000, 10, 20
	}
	w := newTLSWorld(t)
	opts := stratumtest.PoolOptions{SkipWork: true, ShareBits: 4, VersionMask: 0x1fffe000, JobInterval: time.Second, CleanEvery: 1 << 30}
	opts.Name = "btc"
	btc := w.pool(opts)
	opts.Name = "bcc"
	bcc := w.pool(opts)
	d := daemontest.Start(t, w.config(nil, btc, bcc), map[string]string{"*": "btc"})
	d.WaitLog(`version=one`)
	fleet := testkit.FleetOf(t, d.Addr, "alice", miners, rate, stratumtest.MinerOptions{TLS: w.miner(), CheatHash: true, Configure: 0x1fffe000})
	former := tunnelOf(t, d)
	coin := "btc"
	for i := range max(upgrades, switches) {
		before := fleet.Stats().Accepted
		if i < switches {
			coin = map[string]string{"btc": "bcc", "bcc": "btc"}[coin]
			d.SetCoins(map[string]string{"*": coin})
			if i%2 == 0 {
				if _, err := fleet.WaitPool(testkit.LongWaitContext(t), coin); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i < upgrades {
			d.Install(daemontest.Build(t, []string{"two", "one"}[i%2]))
			sessions, lost, pause := d.Upgrade()
			t.Logf("upgrade %d: sessions=%s lost=%s pause_ms=%s", i+1, sessions, lost, pause)
			if sessions != fmt.Sprint(miners) || lost != "0" {
				t.Errorf("%s sessions were kept and %s lost, want all and none", sessions, lost)
			}
		}
		if _, err := fleet.WaitPool(testkit.LongWaitContext(t), coin); err != nil {
			t.Fatal(err)
		}
		err := fleet.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Accepted > before+uint64(rate/2) })
		if err != nil {
			t.Fatal(err)
		}
	}
	st := testkit.SettleFleet(t, fleet)
	t.Logf("%d shares submitted, %d accepted, %d rejected, %d out of order; latency mean %v, 99%% %v",
		st.Submitted, st.Accepted, st.Rejected, st.OutOfOrder, fleet.Latency.Mean(), fleet.Latency.Quantile(0.99))
	if st.Rejected > 0 || st.Submitted != st.Accepted {
		t.Errorf("of %d shares %d were accepted and %d rejected %v, want all accepted", st.Submitted, st.Accepted, st.Rejected, st.RejectedByCode)
	}
	if got := btc.Stats().Accepted + bcc.Stats().Accepted; got != st.Accepted {
		t.Errorf("the pools accepted %d shares, but the miners were told of %d", got, st.Accepted)
	}
	testkit.CheckPool(t, btc)
	testkit.CheckPool(t, bcc)
	// The miners' connections stay in the first tunnel process, which gets no new
	// ones.
	if _, _, ok := parentOf(former); !ok {
		t.Error("the first tunnel process has ended, with its connections")
	}
	fleet.Close()
	testkit.Eventually(t, "no more than the present tunnel process", func() bool {
		return len(tunnelProcesses(t, d.Cmd.Process.Pid)) <= 1
	})
	d.CheckNoTemporary()
}

// TestTLSCertificateIsLogged: the log names the certificate before the first TLS miner,
// at a start and after an upgrade that adds the keys for TLS.
func TestTLSCertificateIsLogged(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	c := w.config(nil, btc)
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	d.WaitLog(`TLS certificate in use names=`)

	added := *c
	c.TLSCertFile, c.TLSKeyFile = "", ""
	d = daemontest.Start(t, c, map[string]string{"*": "btc"})
	d.WriteConfig(&added)
	n := d.Logged()
	d.GoodUpgrade()
	d.WaitLogFrom(n, `TLS certificate in use names=`)
}

// TestTLSUpgradeKeepsTunnel: with the same program, the tunnel process is kept, and
// a change of the configuration starts no other. The certificate is read again.
func TestTLSUpgradeKeepsTunnel(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	c := w.config(nil, btc)
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: "alice.1"})
	testkit.WaitAccepted(t, m, 1)
	first := tunnelOf(t, d)
	for i := range 3 {
		name := fmt.Sprintf("renewed%d.test", i)
		c.TLSCertFile, c.TLSKeyFile = w.Issue(t.TempDir(), time.Now().Add(time.Hour), name)
		c.DrainSeconds = 5 + i
		d.WriteConfig(c)
		n := d.Logged()
		d.GoodUpgrade()
		d.WaitLogFrom(n, `TLS certificate in use names=`+name)
		again := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.Client(name), Worker: "alice.2"})
		testkit.WaitAccepted(t, again, 1)
		if pid := tunnelOf(t, d); pid != first {
			t.Fatalf("the tunnel process is %d, want %d as before", pid, first)
		}
	}
	testkit.WantAccepted(t, m, 1)
	testkit.CheckMiner(t, m)
}

// TestTLSUpgradeGenerations: each different program starts a tunnel process of its
// own. At most eight live, and each ends with its last connection.
func TestTLSUpgradeGenerations(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	c := w.config([]*stratumtest.Pool{btc})
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	var miners []*stratumtest.Miner
	for i := range 10 {
		if i > 0 {
			d.Install(daemontest.Build(t, []string{"one", "two"}[i%2]))
			d.GoodUpgrade()
		}
		if i > 0 && i < 8 {
			// Until the new process has its certificate, the former one takes the
			// miners' connections, and a process without any ends with the next upgrade.
			waitTunnelGenerations(t, c.HTTPDebugListenAddr, i+1)
		}
		m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: fmt.Sprintf("alice.%d", i)})
		testkit.WaitAccepted(t, m, 1)
		miners = append(miners, m)
	}
	d.WaitLog(`8 tunnel processes are running, no more are started`)
	if pids := tunnelProcesses(t, d.Cmd.Process.Pid); len(pids) != 8 {
		t.Errorf("got tunnel processes %v, want 8", pids)
	}
	for _, m := range miners {
		testkit.WantAccepted(t, m, 1)
		testkit.CheckMiner(t, m)
		m.Close()
	}
	testkit.Eventually(t, "only the present tunnel process is left", func() bool {
		return len(tunnelProcesses(t, d.Cmd.Process.Pid)) <= 1
	})
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: "alice.last"})
	testkit.WaitAccepted(t, m, 1)
}

// TestTLSUpgradeUndone: a failed upgrade changes nothing.
func TestTLSUpgradeUndone(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	d := daemontest.Start(t, w.config(nil, btc), map[string]string{"*": "btc"})
	fleet := testkit.FleetOf(t, d.Addr, "alice", 20, 400, stratumtest.MinerOptions{TLS: w.miner(), CheatHash: true})
	first := tunnelOf(t, d)
	// The state file cannot be put in its place, so the upgrade is undone after the
	// freeze.
	testkit.Must(t, os.Mkdir(d.Path("runtime.json"), 0o755))
	for range 3 {
		d.WantNoUpgrade(`undone`)
		testkit.WantMining(t, fleet.Miners(), "btc")
	}
	testkit.Must(t, os.Remove(d.Path("runtime.json")))
	d.GoodUpgrade()
	testkit.WantMining(t, fleet.Miners(), "btc")
	testkit.SettleFleet(t, fleet)
	if pid := tunnelOf(t, d); pid != first {
		t.Errorf("the tunnel process is %d, want %d as before", pid, first)
	}
}

// TestTLSUpgradeToOlder: a build that knows nothing of TLS is refused while there
// are connections with TLS, unless the operator allows their loss. Connections
// without TLS are handed to it and back.
func TestTLSUpgradeToOlder(t *testing.T) {
	t.Parallel()
	older := buildWithoutTunnels(t)
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	secured := w.pool(stratumtest.PoolOptions{Name: "bcc", ShareBits: 4})
	c := w.config([]*stratumtest.Pool{btc}, secured)
	d := daemontest.Start(t, c, map[string]string{"bob": "bcc", "*": "btc"})
	plain := testkit.FleetOf(t, d.Addr, "alice", 10, 200, stratumtest.MinerOptions{CheatHash: true})
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: "carol.tls"})
	half := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: "bob.half"})
	testkit.WaitAccepted(t, m, 1)
	testkit.WaitAccepted(t, half, 1)
	// The older build can be configured with this.
	before := daemontest.FileConfig(btc)
	before.StratumServerMap["bcc"] = daemontest.PoolConfig{URL: btc.Addr()}
	d.WriteConfig(before)
	d.Install(older)
	d.WantNoUpgrade(`cannot take over connections with TLS, and there are 1 of miners and 1 of pools`)
	testkit.WantMining(t, plain.Miners(), "btc")
	testkit.WantAccepted(t, m, 1)
	testkit.WantAccepted(t, half, 1)

	testkit.Must(t, os.WriteFile(d.Path("runtime.json.drop-tls"), nil, 0o600))
	n := d.Logged()
	d.Signal(syscall.SIGUSR2)
	d.WaitLogFrom(n, `upgraded version=\S+ sessions=11 lost=0`)
	<-m.Done()
	testkit.WantMining(t, plain.Miners(), "btc")
	testkit.WantAccepted(t, half, 1) // at its coin's pool that has no TLS
	if pids := tunnelProcesses(t, d.Cmd.Process.Pid); len(pids) > 0 {
		t.Errorf("tunnel processes %v still run", pids)
	}

	// This upgrades to the newer build again.
	d.Install(daemontest.Build(t, "one"))
	d.WriteConfig(c)
	sessions, lost, _ := d.Upgrade()
	if sessions != "11" || lost != "0" {
		t.Errorf("%s sessions were kept and %s lost, want all and none", sessions, lost)
	}
	again := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: "carol.tls"})
	testkit.WaitAccepted(t, again, 1)
	testkit.WantMining(t, plain.Miners(), "btc")
	testkit.SettleFleet(t, plain)
	if strings.Contains(strings.Join(d.Log(), "\n"), "panic") {
		t.Error("the log contains a panic")
	}
}

// TestTLSFormerTunnelLogs: after an upgrade the former tunnel process still has a reader
// for what it reports, such as where it was when a signal ended it.
func TestTLSFormerTunnelLogs(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	d := daemontest.Start(t, w.config([]*stratumtest.Pool{btc}), map[string]string{"*": "btc"})
	m := startSecured(t, w, d, 1)[0]
	former := tunnelOf(t, d)
	d.Install(daemontest.Build(t, "two"))
	d.GoodUpgrade()
	testkit.WantAccepted(t, m, 1)
	n := d.Logged()
	testkit.Must(t, syscall.Kill(former, syscall.SIGQUIT))
	d.WaitLogFrom(n, `SIGQUIT: quit`)
	d.WaitLogFrom(n, fmt.Sprintf(`tunnel process pid=%d ended unexpectedly \(with status 2\), TLS connections lost=1`, former))
}
