//go:build linux && e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// poolProcess is a simulated pool as a process of its own.
type poolProcess struct {
	t    *testing.T
	name string
	args []string
	in   string // network namespace; "" is the test's own
	addr string
	cmd  *exec.Cmd
	life io.WriteCloser // the process's standard input
	out  *bufio.Reader  // the process's standard output
}

func poolProcessBinary(t *testing.T) string {
	t.Helper()
	return testkit.SharedFile(t, "poolproc", func(dir string) (string, error) {
		path := filepath.Join(dir, "poolproc")
		if out, err := exec.Command("go", "build", "-o", path, "./internal/stratumtest/poolproc").CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	})
}

func startPoolProcess(t *testing.T, in, name, addr string, args ...string) *poolProcess {
	t.Helper()
	p := &poolProcess{t: t, name: name, in: in, addr: addr, args: args}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *poolProcess) start() {
	p.t.Helper()
	args := append([]string{poolProcessBinary(p.t), "-name", p.name, "-addr", p.addr}, p.args...)
	if p.in != "" {
		args = append([]string{"ip", "netns", "exec", p.in}, args...)
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.life, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("pool %s does not start: %v", p.name, err)
	}
	p.addr = strings.TrimSpace(line)
}

func (p *poolProcess) kill() {
	p.cmd.Process.Kill()
	p.life.Close()
	p.cmd.Wait()
}

func (p *poolProcess) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// outageConfig has one coin, btc, with these addresses.
func outageConfig(addrs ...string) *daemontest.Config {
	c := daemontest.FileConfig()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: addrs[0], UserSuffix: "btc", BackupURLs: addrs[1:]}
	c.PoolIdleSeconds = 2
	return c
}

// outageMiners are so few that all of them can be asked at any time.
func outageMiners(t *testing.T, addr, account string, n int) []*stratumtest.Miner {
	t.Helper()
	var miners []*stratumtest.Miner
	for i := range n {
		miners = append(miners, testkit.StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: fmt.Sprintf("%s.%d", account, i), Rate: 10}))
	}
	return miners
}

// allAt waits until all miners are at the pool and have had a share accepted since,
// and returns how long that took.
func allAt(t *testing.T, miners []*stratumtest.Miner, pool string) time.Duration {
	t.Helper()
	began := time.Now()
	for _, m := range miners {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		err := m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.Pool == pool || st.Disconnected })
		if err == nil {
			before := m.Stats().Accepted
			err = m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.Accepted > before || st.Disconnected })
		}
		cancel()
		if st := m.Stats(); err != nil || st.Disconnected {
			t.Fatalf("miner %s: %v; %+v", m.Worker(), err, st)
		}
	}
	return time.Since(began).Round(10 * time.Millisecond)
}

// checkKept wants no miner to have noticed anything but lost shares.
func checkKept(t *testing.T, miners []*stratumtest.Miner) {
	t.Helper()
	for _, m := range miners {
		st := m.Stats()
		if st.Disconnected || len(st.Violations) > 0 || st.Doubled > 0 || st.Unknown > 0 || st.Reconnects > 0 {
			t.Errorf("miner %s: %+v", m.Worker(), st)
		}
		for code, n := range st.RejectedByCode {
			if code != 20 && code != 21 {
				t.Errorf("miner %s: %d shares rejected with code %d, the last: %s", m.Worker(), n, code, st.LastReject)
			}
		}
	}
}

// outages are the ways in which a pool fails and recovers.
var outages = []struct {
	name       string
	begin, end func(t *testing.T, first *poolProcess)
}{
	{"killed", func(t *testing.T, p *poolProcess) { p.kill() }, func(t *testing.T, p *poolProcess) { p.start() }},
	{"frozen", func(t *testing.T, p *poolProcess) { p.signal(syscall.SIGSTOP) }, func(t *testing.T, p *poolProcess) { p.signal(syscall.SIGCONT) }},
	{"cut off", cutOff, func(t *testing.T, p *poolProcess) {
		daemontest.IP(t, "-n", p.in, "route", "del", "blackhole", daemontest.SwitcherIP)
	}},
}

// cutOff makes the pool's packets get lost on their way to the switcher.
func cutOff(t *testing.T, p *poolProcess) {
	t.Helper()
	daemontest.IP(t, "-n", p.in, "route", "add", "blackhole", daemontest.SwitcherIP)
}

// A pool is killed, frozen or cut off. Its miners are kept, continue at the backup,
// and return. Without a backup they wait, and continue when the pool is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	const miners = 20
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			switcher, far := daemontest.MakeNamespaces(t)
			first := startPoolProcess(t, far, "first", daemontest.PoolIP+":3333")
			backup := startPoolProcess(t, switcher, "backup", daemontest.SwitcherIP+":3334")
			c := outageConfig(first.addr, backup.addr)
			c.StratumServerMap["bcc"] = daemontest.PoolConfig{URL: first.addr, UserSuffix: "bcc"}
			p := daemontest.StartIn(t, switcher, c, map[string]string{"alice": "btc", "bob": "bcc"})
			var crew, single, late []*stratumtest.Miner
			daemontest.InNamespace(t, switcher, func() {
				crew = outageMiners(t, p.Addr, "alice", miners)
				single = outageMiners(t, p.Addr, "bob", miners)
			})
			allAt(t, crew, "first")
			allAt(t, single, "first")
			logged := p.Logged()
			o.begin(t, first)
			t.Logf("%s: %d miners mined at the backup %v after the pool failed", o.name, miners, allAt(t, crew, "backup"))
			daemontest.InNamespace(t, switcher, func() { late = outageMiners(t, p.Addr, "alice", 3) })
			t.Logf("%s: new miners mined at the backup after %v", o.name, allAt(t, late, "backup"))
			p.WaitLogFrom(logged, `taken out`) // nobody may dial it for a while
			if *daemontest.Long {
				time.Sleep(15 * time.Second) // the switcher tries for about 30 s
			}
			before := make([]uint64, miners)
			for i, m := range single {
				before[i] = m.Stats().Accepted
			}
			o.end(t, first)
			back := time.Now()
			for i, m := range single {
				ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
				err := m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.Accepted > before[i] || st.Disconnected })
				cancel()
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%s: %d miners without a backup mined again %v after the pool was back", o.name, miners, time.Since(back).Round(10*time.Millisecond))
			crew = append(crew, late...)
			allAt(t, crew, "first")
			t.Logf("%s: all had left the backup %v after the pool was back", o.name, time.Since(back).Round(10*time.Millisecond))
			checkKept(t, append(crew, single...))
		})
	}
}

// A pool that sends one byte a second is useless. Miners that are there go to the
// backup when it has given no job in time, and new miners go there too.
func TestOutageTrickle(t *testing.T) {
	t.Parallel()
	slow := testkit.StartPool(t, stratumtest.PoolOptions{Name: "slow", ShareBits: 4, JobInterval: 300 * time.Millisecond})
	backup := testkit.StartPool(t, stratumtest.PoolOptions{Name: "backup", ShareBits: 4, JobInterval: 300 * time.Millisecond})
	p := daemontest.Start(t, outageConfig(slow.Addr(), backup.Addr()), map[string]string{"alice": "btc"})
	crew := outageMiners(t, p.Addr, "alice", 20)
	allAt(t, crew, "slow")
	slow.SetModes(stratumtest.Modes{Trickle: time.Second})
	t.Logf("trickle: 20 miners mined at the backup after %v", allAt(t, crew, "backup"))
	late := outageMiners(t, p.Addr, "alice", 3)
	t.Logf("trickle: new miners mined at the backup after %v", allAt(t, late, "backup"))
	crew = append(crew, late...)
	slow.SetModes(stratumtest.Modes{})
	slow.CloseConnections()
	t.Logf("trickle: all mined at the first pool %v after it was back", allAt(t, crew, "slow"))
	checkKept(t, crew)
}

// If a pool takes 100 connections only, the other miners mine at the backup.
func TestOutageConnectionLimit(t *testing.T) {
	t.Parallel()
	first := startPoolProcess(t, "", "first", testkit.UnusedAddr(t), "-max", "100", "-clean", "1000")
	backup := startPoolProcess(t, "", "backup", testkit.UnusedAddr(t), "-clean", "1000")
	p := daemontest.Start(t, outageConfig(first.addr, backup.addr), map[string]string{"alice": "btc"})
	began := time.Now()
	f := testkit.FleetOf(t, p.Addr, "alice", 150, 300, stratumtest.MinerOptions{})
	t.Logf("connection limit: 150 miners authorized in %v, at %v", time.Since(began).Round(10*time.Millisecond), f.Stats().ByPool)
	time.Sleep(3 * time.Second) // one or two sweeps
	inPlace := func(st stratumtest.FleetStats) bool {
		return st.ByPool["first"] >= 90 && st.ByPool["first"] <= 100 && st.ByPool["first"]+st.ByPool["backup"] == 150
	}
	if err := f.WaitFor(testkit.LongWaitContext(t), inPlace); err != nil {
		t.Error(err)
	}
	st := testkit.SettleFleet(t, f)
	t.Logf("connection limit: after 3 s at %v; %d shares, %d rejected %v", st.ByPool, st.Submitted, st.Rejected, st.RejectedByCode)
	if !inPlace(st) {
		t.Errorf("miners are at %v, want 100 at the first pool and the others at the backup", st.ByPool)
	}
	if st.Rejected > 0 {
		t.Errorf("%d shares were rejected, want none: %v", st.Rejected, st.RejectedByCode)
	}
}
