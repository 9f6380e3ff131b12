//go:build linux && e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// upgradesFlag asks for the long form of the upgrade tests: the given number of
// upgrades in a row with 2,000 miners, and upgrades with 9,000 sessions.
var upgradesFlag = flag.Int("upgrades", 0, "upgrades in a row, for the long form of the upgrade tests")

// newcomers connect and do the whole handshake, one after the other, until stop is
// called. Each mines a share.
type newcomers struct {
	wg      sync.WaitGroup
	stopped chan struct{}
	done    atomic.Int64
	shares  atomic.Int64

	mu     sync.Mutex
	failed []string
}

func startNewcomers(addr string, n int) *newcomers {
	c := &newcomers{stopped: make(chan struct{})}
	for i := range n {
		c.wg.Go(func() { c.run(addr, i) })
	}
	return c
}

func (c *newcomers) run(addr string, i int) {
	for round := 0; ; round++ {
		select {
		case <-c.stopped:
			return
		default:
		}
		if err := c.one(addr, i, round); err != nil {
			c.mu.Lock()
			c.failed = append(c.failed, err.Error())
			c.mu.Unlock()
			return
		}
		c.done.Add(1)
	}
}

func (c *newcomers) one(addr string, i, round int) error {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.LongWait)
	defer cancel()
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{
		Addr: addr, Worker: fmt.Sprintf("alice.new%d", i), Manual: true, CheatHash: true,
		Pipelined: round%2 == 0, Configure: 0x1fffe000, SuggestDifficulty: 1, ExtranonceSubscribe: true,
	})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.WaitAuthorized(ctx); err != nil {
		return err
	}
	if err := m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.LastJobID != "" }); err != nil {
		return err
	}
	if code, err := m.Submit(ctx, nil); err != nil || code != 0 {
		return fmt.Errorf("share of %s: code %d, %v", m.Worker(), code, err)
	}
	c.shares.Add(1)
	if st := m.Stats(); len(st.Violations) > 0 {
		return fmt.Errorf("%q", st.Violations)
	}
	return nil
}

// stop waits for the handshakes that have begun.
func (c *newcomers) stop(t *testing.T) {
	t.Helper()
	close(c.stopped)
	c.wg.Wait()
	for _, err := range c.failed {
		t.Errorf("a new miner failed: %s", err)
	}
	t.Logf("%d new miners", c.done.Load())
}

// prober connects every millisecond.
type prober struct {
	wg      sync.WaitGroup
	stopped chan struct{}
	dials   atomic.Int64

	mu      sync.Mutex
	refused []string
	longest time.Duration
}

func startProber(addr string) *prober {
	p := &prober{stopped: make(chan struct{})}
	p.wg.Go(func() { p.run(addr) })
	return p
}

func (p *prober) run(addr string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stopped:
			return
		case <-tick.C:
		}
		p.wg.Go(func() { p.dial(addr) })
	}
}

func (p *prober) dial(addr string) {
	began := time.Now()
	c, err := net.DialTimeout("tcp", addr, testkit.LongWait)
	took := time.Since(began)
	p.dials.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = max(p.longest, took)
	if err != nil {
		p.refused = append(p.refused, err.Error())
		return
	}
	c.(*net.TCPConn).SetLinger(0) // so that no port stays in TIME_WAIT
	c.Close()
}

func (p *prober) stop(t *testing.T) {
	t.Helper()
	close(p.stopped)
	p.wg.Wait()
	if len(p.refused) > 0 {
		t.Errorf("%d of %d dials failed, want none; the first: %s", len(p.refused), p.dials.Load(), p.refused[0])
	}
	t.Logf("%d dials, the longest took %v", p.dials.Load(), p.longest)
}

// TestUpgradeUnderLoad upgrades from the old version to the new one and back, again
// and again, with everything happening at the same time.
func TestUpgradeUnderLoad(t *testing.T) {
	miners, rate, upgrades := 500, 1000.0, 5
	if *daemontest.DaemonRace {
		rate = 400
	}
	if *upgradesFlag > 0 {
		miners, rate, upgrades = 2000, 5000, *upgradesFlag
	}
	pool := testkit.StartPool(t, stratumtest.PoolOptions{
		Name: "btc", SkipWork: true, ShareBits: 4, VersionMask: 0x1fffe000, JobInterval: time.Second, CleanEvery: 1 << 30,
	})
	p := daemontest.Start(t, daemontest.FileConfig(pool), map[string]string{"*": "btc"})
	p.WaitLog(`version=one`)
	fleet := testkit.FleetOf(t, p.Addr, "alice", miners, rate, stratumtest.MinerOptions{CheatHash: true})
	arrivals, prober := startNewcomers(p.Addr, 4), startProber(p.Addr)
	before := p.Descriptors()
	name := p.Comm()
	var phases []string
	for i := range upgrades {
		shares, dials, came := fleet.Stats().Accepted, prober.dials.Load(), arrivals.done.Load()
		version := []string{"two", "one"}[i%2]
		p.Install(daemontest.Build(t, version))
		n := p.Logged()
		sessions, lost, pause := p.Upgrade()
		if got := p.WaitLogFrom(n, `upgraded version=(\S+)`)[1]; got != version {
			t.Errorf("version %s is running, want %s", got, version)
		}
		phases = append(phases, p.WaitLogFrom(n, `upgraded version=\S+ (.*)`)[1])
		t.Logf("version=%s sessions=%s lost=%s pause_ms=%s", version, sessions, lost, pause)
		if lost != "0" {
			t.Errorf("%s sessions were lost, want none", lost)
		}
		// Everything continues after the upgrade.
		testkit.WaitUntil(t, "new dials", func() bool { return prober.dials.Load() > dials+100 })
		testkit.WaitUntil(t, "new miners", func() bool { return arrivals.done.Load() > came+4 })
		err := fleet.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Accepted > shares+uint64(rate/2) })
		if err != nil {
			t.Fatal(err)
		}
	}
	prober.stop(t)
	arrivals.stop(t)
	testkit.CheckFleet(t, fleet, miners)
	if got, want := pool.Stats().Accepted, fleet.Stats().Accepted+uint64(arrivals.shares.Load()); got != want {
		t.Errorf("the pool got %d shares, but the miners sent %d", got, want)
	}
	testkit.CheckPool(t, pool)
	testkit.WaitUntil(t, fmt.Sprintf("as few descriptors as before, %d", before), func() bool { return p.Descriptors() <= before+2 })
	if got := p.Comm(); got != name {
		t.Errorf("the process is named %q, want %q as before", got, name)
	}
	if _, err := os.Stat(p.Dir + "/runtime.json"); !os.IsNotExist(err) {
		t.Errorf("runtime.json still exists: %v", err)
	}
	p.CheckNoTemporary()
	for _, ph := range phases {
		t.Log(ph)
	}
}

// TestUpgradeManySessions: all sessions are kept, and at the peak there are hardly
// more descriptors than before.
func TestUpgradeManySessions(t *testing.T) {
	sessions := 1000
	if *upgradesFlag > 0 {
		sessions = 9000
	}
	pool := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, ShareBits: 4})
	c := daemontest.FileConfig(pool)
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	fleet := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: sessions, Addr: p.Addr, WorkerName: testkit.WorkerNames("alice"), Miner: stratumtest.MinerOptions{CheatHash: true},
	})
	defer fleet.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := fleet.WaitAuthorized(ctx); err != nil {
		t.Fatal(err)
	}
	before := p.Descriptors()
	peak := p.WatchDescriptors()
	for range 2 {
		kept, lost, pause := p.Upgrade()
		t.Logf("sessions=%s lost=%s pause_ms=%s", kept, lost, pause)
		if kept != fmt.Sprint(sessions) || lost != "0" {
			t.Errorf("%s sessions were kept and %s lost, want all and none", kept, lost)
		}
	}
	most, looks := peak()
	t.Logf("descriptors: %d before, %d at the peak (%d looks)", before, most, looks)
	if most > before+16 {
		t.Errorf("%d descriptors before and %d at the peak, which is too many", before, most)
	}
	for _, m := range fleet.Miners() {
		if err := m.SubmitOne(); err != nil {
			t.Error(err)
		}
	}
	testkit.CheckFleet(t, fleet, sessions)
	if got := fleet.Stats().Accepted; got != uint64(sessions) {
		t.Errorf("%d of %d miners mine, want all", got, sessions)
	}
}

// Descriptors that the daemon was started with stay open, such as the file by which
// flock makes sure that only one daemon runs.
func TestUpgradeKeepsInheritedDescriptors(t *testing.T) {
	t.Parallel()
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c := daemontest.FileConfig(testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc"}))
	p := daemontest.New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(map[string]string{"*": "btc"})
	p.Inherit = []*os.File{lock}
	p.Start("-logtostderr", "-v=1")
	lock.Close()
	again, err := os.Open(lock.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for i := range 3 {
		p.GoodUpgrade()
		if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			t.Fatalf("after %d upgrades the lock is free: %v", i+1, err)
		}
	}
}
