//go:build linux && e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// tortureFault is something that fails for a while.
type tortureFault struct {
	name string
	// subject is what fails. Two faults at the same time have different subjects.
	subject     string
	least, most time.Duration
	// begin starts the fault. The returned function ends it.
	begin func(c *torture, lasts time.Duration) (end func())
}

// tortureFaults are shorter than the half minute for which a miner without any pool
// is kept.
var tortureFaults = []tortureFault{
	{"pool down", "pool", 500 * time.Millisecond, 5 * time.Second, (*torture).poolDown},
	{"pool frozen", "pool", 500 * time.Millisecond, 6 * time.Second, (*torture).poolFrozen},
	{"pool slow", "pool", time.Second, 3 * time.Second, (*torture).poolSlow},
	{"leader killed", "zookeeper", 0, 5 * time.Second, (*torture).leaderKilled},
	{"follower killed", "zookeeper", 0, 5 * time.Second, (*torture).followerKilled},
	{"server frozen for a moment", "zookeeper", 200 * time.Millisecond, tortureTimeout / 2, (*torture).serverFrozen},
	{"server frozen past the timeout", "zookeeper", tortureTimeout + time.Second, 3 * tortureTimeout, (*torture).serverFrozen},
	{"quorum lost", "zookeeper", time.Second, 3 * tortureTimeout, (*torture).quorumLost},
	{"cut off for a moment", "zookeeper", 200 * time.Millisecond, tortureTimeout / 2, (*torture).cutOff},
	{"cut off, session expired", "zookeeper", tortureTimeout + 2*time.Second, 3 * tortureTimeout, (*torture).expired},
	{"disk full", "zookeeper", 2 * time.Second, 5 * time.Second, (*torture).diskFull},
	{"upgrade", "daemon", 0, 500 * time.Millisecond, (*torture).upgraded},
	{"daemon frozen", "daemon", 500 * time.Millisecond, 2 * tortureTimeout, (*torture).daemonFrozen},
	{"few local ports", "daemon", 2 * time.Second, 8 * time.Second, (*torture).localPortsShort},
	{"dead IPs", "names", time.Second, 4 * time.Second, (*torture).deadIPs},
}

func (c *torture) faultNamed(name string) *tortureFault {
	for i := range tortureFaults {
		if tortureFaults[i].name == name {
			return &tortureFaults[i]
		}
	}
	c.t.Fatalf("no fault %q", name)
	return nil
}

// anyPool returns a pool that runs.
func (c *torture) anyPool() *farPool {
	c.restore(true)
	c.troubled = time.Now()
	return c.far[c.schedule.IntN(len(c.far))]
}

func (c *torture) poolDown(lasts time.Duration) func() {
	p := c.anyPool()
	p.Close()
	c.down[p] = time.Now().Add(lasts)
	return func() { c.restore(false) }
}

func (c *torture) poolFrozen(time.Duration) func() {
	p := c.anyPool()
	p.freeze(true)
	return func() { p.freeze(false); c.troubled = time.Now() }
}

func (c *torture) poolSlow(time.Duration) func() {
	p := c.anyPool()
	p.SetModes(stratumtest.Modes{AnswerDelay: time.Second, HandshakeDelay: time.Second})
	return func() { p.SetModes(stratumtest.Modes{}); c.troubled = time.Now() }
}

// check ends the test if something fails without which it cannot go on.
func (c *torture) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *torture) leader() *zktest.Server {
	c.t.Helper()
	leader, err := c.ensemble.Leader()
	c.check(err)
	return leader
}

func (c *torture) killed(servers ...*zktest.Server) func() {
	c.t.Helper()
	for _, s := range servers {
		c.check(s.Kill())
	}
	return func() { c.start(servers...) }
}

// start starts servers and waits until all servers of the ensemble serve.
func (c *torture) start(servers ...*zktest.Server) {
	c.t.Helper()
	for _, s := range servers {
		c.check(s.Launch())
	}
	c.awaitServing()
}

// whileStarting waits for servers, which may take as long as miners wait for a
// pool. Meanwhile the other fault, which does not concern ZooKeeper, ends, and
// pools recover on time.
func (c *torture) whileStarting(wait func() error) error {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- wait() }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Millisecond):
			if len(c.ends) > 0 && time.Since(c.began) >= c.ends[0].after {
				c.endFirst()
			}
			c.restore(false)
		}
	}
}

// awaitServing waits until all servers of the ensemble serve. If they do not form
// an ensemble again, they are restarted, as an operator would do. For the daemon
// that is a long outage.
func (c *torture) awaitServing() {
	c.t.Helper()
	err := c.whileStarting(c.ensemble.AwaitServing)
	if err == nil {
		return
	}
	var n int
	again := c.whileStarting(func() (err error) {
		n, err = c.ensemble.RestartSilent()
		return err
	})
	c.t.Logf("ZooKeeper: %d servers were restarted: %v", n, err)
	c.check(again)
	c.did["servers started anew"] += n
}

func (c *torture) leaderKilled(time.Duration) func() { return c.killed(c.leader()) }

func (c *torture) followerKilled(time.Duration) func() {
	followers, err := c.ensemble.Followers()
	c.check(err)
	return c.killed(followers[c.schedule.IntN(len(followers))])
}

func (c *torture) quorumLost(time.Duration) func() {
	i := c.schedule.IntN(3)
	c.coinNodes.away = true
	end := c.killed(c.ensemble.Servers[i], c.ensemble.Servers[(i+1)%3])
	return end
}

func (c *torture) serverFrozen(time.Duration) func() {
	s := c.ensemble.Servers[c.schedule.IntN(3)]
	c.check(s.Pause())
	return func() {
		c.check(s.Continue())
		c.awaitServing()
	}
}

// cutOff breaks and refuses connections, or lets nothing through any more.
func (c *torture) cutOff(time.Duration) func() {
	hard := c.schedule.IntN(2) == 0
	for _, p := range c.proxies {
		if hard {
			p.Cut()
		} else {
			p.Freeze()
		}
	}
	return func() {
		for _, p := range c.proxies {
			p.Restore()
			p.Thaw()
		}
	}
}

// expired is like cutOff, but lasts until ZooKeeper has given the daemon up.
func (c *torture) expired(lasts time.Duration) func() {
	end := c.cutOff(lasts)
	return func() {
		c.coinNodes.world.Await("the daemon's session is expired", func() bool { return len(c.coinNodes.world.Children(c.ids)) == 0 })
		end()
	}
}

func (c *torture) upgraded(time.Duration) func() {
	return func() {
		c.t.Helper()
		c.p.GoodUpgrade()
	}
}

// daemonFrozen looks like a jump of the clock to the daemon.
func (c *torture) daemonFrozen(time.Duration) func() {
	c.p.Signal(syscall.SIGSTOP)
	c.others.good.daemonStopped(true)
	return func() {
		c.p.Signal(syscall.SIGCONT)
		c.others.good.daemonStopped(false)
	}
}

// localPortsShort leaves the daemon fewer local ports than miners that have to go
// to one pool. They stay where they are until there are more.
func (c *torture) localPortsShort(lasts time.Duration) func() {
	c.fewLocalPorts(lasts)
	to := c.pools[c.schedule.IntN(len(c.pools))].Name()
	for i := range c.fleets {
		account := fmt.Sprintf("acc%d", i)
		c.coins[account] = to
		c.source.set(c.coins, account)
	}
	return func() { c.restore(false) }
}

// deadIPs makes pools' names also lead to IPs where nothing answers, and then to
// such IPs in another order.
func (c *torture) deadIPs(time.Duration) func() {
	c.machine.setHosts(c.schedule)
	return func() { c.machine.setHosts(c.schedule) }
}

// mountSmall mounts an empty file system of the given size in megabytes.
func mountSmall(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Fatalf("a file system of its own is needed (root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// diskFull leaves the first server nowhere to write. It ends sooner or later. When
// there is room again it is restarted, without its data if it cannot serve with
// them: it gets them from the others.
func (c *torture) diskFull(time.Duration) func() {
	c.t.Helper()
	first := c.ensemble.Servers[0]
	filler := filepath.Join(c.small, "filler")
	c.check(fillDisk(filler))
	// The server first writes into the files that it has, until these are full.
	for range 4 {
		c.coinNodes.world.Put(c.coinNodes.world.root+"/ballast", strings.Repeat("x", 64<<10))
	}
	return func() {
		c.t.Helper()
		c.check(os.Remove(filler))
		answer, _ := first.FourLetters("srvr")
		c.did[fmt.Sprintf("disk full, still serving: %v", strings.Contains(answer, "Mode: "))]++
		c.check(first.Kill())
		if err := c.whileStarting(first.Start); err != nil {
			c.t.Logf("the server with the full disk does not start again, so its data are removed: %v", err)
			c.check(first.Kill())
			c.check(os.RemoveAll(filepath.Join(first.Dir(), "version-2")))
			c.start(first)
		}
	}
}

// fillDisk writes a file until there is no more room.
func fillDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = slices.Clip(block[:len(block)/2])
		} else if err != nil {
			return err
		}
	}
	return nil
}
