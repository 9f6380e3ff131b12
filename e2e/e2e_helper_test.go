//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// e2eWait is how long these tests wait: other processes may be slow to start.
const e2eWait = 20 * time.Second

type settings map[string]any

func writeConfig(t *testing.T, config settings) string {
	t.Helper()
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// startDaemon runs the daemon with a configuration that has only these keys and the
// daemon's address.
func startDaemon(t *testing.T, config settings) *daemontest.Daemon {
	t.Helper()
	config = maps.Clone(config)
	config["ListenAddr"] = "127.0.0.1:0"
	d := daemontest.New(t, t.TempDir())
	d.WriteConfig(config)
	d.Start("-logtostderr", "-v=1")
	return d
}

// wantEnd sends a signal and wants the daemon to end in time with status 0.
func wantEnd(t *testing.T, d *daemontest.Daemon, sig syscall.Signal, limit time.Duration) {
	t.Helper()
	began := time.Now()
	d.Signal(sig)
	select {
	case <-d.Ended:
	case <-time.After(e2eWait):
		t.Fatalf("the daemon has not ended %v after %v", e2eWait, sig)
	}
	if code := d.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after %v: %v, want exit status 0", sig, d.Cmd.ProcessState)
	}
	wantSoon(t, "the daemon's end", time.Since(began), limit)
}

// wantSoon fails the test if something took longer than limit. On a busy machine, 20
// times as long as a process that only prints its version is added to the limit.
func wantSoon(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	if took <= limit {
		return
	}
	began := time.Now()
	runToEnd(t, "-version")
	if control := time.Since(began); took > limit+20*control {
		t.Errorf("%s took %v, which is too long; a process that prints its version took %v", what, took, control)
	}
}

// zkWorld is the part of ZooKeeper that one test has to itself.
type zkWorld struct {
	*zktest.Admin
	root string
}

func newZKWorld(t *testing.T, server *zktest.Server) *zkWorld {
	t.Helper()
	return &zkWorld{zktest.NewAdmin(t, server.Addr()), fmt.Sprintf("/e2e%d", zktest.Roots.Add(1))}
}

func (w *zkWorld) coin(account string) string { return w.root + "/coins/" + account }

func (w *zkWorld) config(broker string, sessionSeconds int, pools ...*stratumtest.Pool) settings {
	servers := settings{}
	for _, p := range pools {
		servers[p.Name()] = settings{"URL": p.Addr()}
	}
	return settings{
		"StratumServerMap":           servers,
		"ZKBroker":                   []string{broker},
		"ZKSwitcherWatchDir":         w.root + "/coins",
		"ZKServerIDAssignDir":        w.root + "/ids",
		"ZKAutoRegWatchDir":          w.root + "/autoreg",
		"ZKUserCaseInsensitiveIndex": "",
		"EnableUserAutoReg":          false,
		"ZKSessionTimeoutSeconds":    sessionSeconds,
	}
}

// crowd is all miners of one sub-account.
type crowd struct {
	*stratumtest.Fleet
	t           *testing.T
	account     string
	extranonces []string
}

func startCrowd(t *testing.T, addr, account string, n int, sharesPerSecond float64) *crowd {
	t.Helper()
	f := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: n, Addr: addr, WorkerName: testkit.WorkerNames(account), SharesPerSecond: sharesPerSecond,
		Miner: stratumtest.MinerOptions{Configure: 0x1fffe000, LateShares: 0.3},
	})
	t.Cleanup(f.Close)
	if err := f.WaitAuthorized(testkit.LongWaitContext(t)); err != nil {
		t.Fatalf("miners of %s: %v; %v", account, err, f.DialErrors())
	}
	c := &crowd{Fleet: f, t: t, account: account}
	for _, m := range f.Miners() {
		c.extranonces = append(c.extranonces, m.Extranonce1())
	}
	return c
}

func (c *crowd) waitPool(pool string) {
	c.t.Helper()
	err := c.WaitFor(testkit.LongWaitContext(c.t), func(st stratumtest.FleetStats) bool { return st.ByPool[pool] == len(c.extranonces) })
	if err != nil {
		c.t.Fatalf("miners of %s do not get to pool %s: %v; %+v", c.account, pool, err, c.Stats())
	}
}

// waitShares waits until each miner has had n more shares accepted.
func (c *crowd) waitShares(n uint64) {
	c.t.Helper()
	testkit.WantAllAccepted(c.t, c.Miners(), n)
}

// check wants nothing to be wrong with any miner: it is connected, has its own
// extranonce, and has moved as often as its coin was set.
func (c *crowd) check(switches int) {
	c.t.Helper()
	st := c.Stats()
	if st.Disconnected > 0 || st.Violations > 0 || st.Doubled > 0 || st.Unknown > 0 || st.DialErrors > 0 {
		c.t.Errorf("miners of %s are not all undisturbed: %+v", c.account, st)
	}
	for code, n := range st.RejectedByCode {
		if code != 21 {
			c.t.Errorf("miners of %s: %d shares rejected with code %d", c.account, n, code)
		}
	}
	if want := uint64(switches * len(c.extranonces)); st.Switches != want {
		c.t.Errorf("miners of %s moved %d times, want %d", c.account, st.Switches, want)
	}
	seen := make(map[string]bool)
	for i, m := range c.Miners() {
		x := m.Extranonce1()
		if x != c.extranonces[i] || seen[x] {
			c.t.Errorf("miner %s has extranonce %s, at first it had %s; another miner has it too: %v", m.Worker(), x, c.extranonces[i], seen[x])
		}
		seen[x] = true
	}
}

// checkShares wants each share to be accepted, or refused by the pool that gave its
// job, and the miners to be told what the pools decided.
func checkShares(t *testing.T, pools []*stratumtest.Pool, crowds ...*crowd) {
	t.Helper()
	for _, c := range crowds {
		c.SetRate(0)
	}
	for _, c := range crowds {
		if err := c.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Unanswered == 0 }); err != nil {
			t.Errorf("miners of %s: %d shares were never answered", c.account, c.Stats().Unanswered)
		}
	}
	var submitted, accepted, rejected, poolAccepted, poolRejected uint64
	for _, c := range crowds {
		st := c.Stats()
		submitted, accepted, rejected = submitted+st.Submitted, accepted+st.Accepted, rejected+st.Rejected
	}
	for _, p := range pools {
		st := p.Stats()
		poolAccepted, poolRejected = poolAccepted+st.Accepted, poolRejected+st.Rejected
		if st.Faults > 0 || st.DuplicateExtranonces > 0 {
			t.Errorf("pool %s: faults %q, duplicate extranonces %d", p.Name(), p.Faults(), st.DuplicateExtranonces)
		}
		for _, r := range p.Rejects() {
			if r.Code != 21 || !strings.Contains(r.Line, `"`+p.Name()+`-`) {
				t.Errorf("pool %s was given a share that was not for it, and rejected it with code %d, %s: %s", p.Name(), r.Code, r.Reason, r.Line)
			}
		}
	}
	if accepted != poolAccepted || rejected != poolRejected || submitted != accepted+rejected {
		t.Errorf("of %d shares miners counted %d accepted and %d rejected, pools %d and %d",
			submitted, accepted, rejected, poolAccepted, poolRejected)
	}
	t.Logf("%d shares, %d accepted, %d came too late for their job", submitted, accepted, rejected)
}

// runToEnd runs the binary, which is expected to end by itself.
func runToEnd(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(daemontest.Build(t, "one"), args...)
	cmd.Dir = t.TempDir()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(e2eWait, func() { cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
