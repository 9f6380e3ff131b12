//go:build linux && e2e

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

var coinFileSeconds = flag.Int("coin-file-seconds", 8, "how long the random test of a coin file's folder runs")

// The coin file's folder is swapped, replaced and spoilt while miners mine and
// upgrades are made. No miner is lost, and every good file takes effect.
func TestCoinFileFaults(t *testing.T) {
	t.Parallel()
	seed := *daemontest.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	btc, bcc := testkit.TwoPools(t)
	config := daemontest.FileConfig(btc, bcc)
	config.CoinFile = "cur/coins.json"
	config.DrainSeconds = 2
	config.EnableHTTPDebug, config.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	p := daemontest.New(t, t.TempDir())
	if os.Geteuid() == 0 {
		// Root may read everything.
		p.User = &syscall.Credential{Uid: 65534, Gid: 65534}
		for _, dir := range []string{p.Dir, filepath.Dir(p.Dir), filepath.Dir(p.Binary), filepath.Dir(filepath.Dir(p.Binary))} {
			testkit.Must(t, os.Chmod(dir, 0o777))
		}
	}
	f := &testkit.CoinFolder{T: t, Rng: rand.New(rand.NewPCG(seed, 4)), Dir: p.Dir}
	coins := map[string]string{"acc0": "btc", "acc1": "bcc", "*": "btc"}
	f.Swap(f.Folder(coins))
	p.WriteConfig(config)
	p.Start("-logtostderr", "-v=1")
	fleets := []*stratumtest.Fleet{
		testkit.FleetOf(t, p.Addr, "acc0", 10, 20, stratumtest.MinerOptions{Configure: 0x1fffe000}),
		testkit.FleetOf(t, p.Addr, "acc1", 10, 20, stratumtest.MinerOptions{Configure: 0x1fffe000}),
	}
	mine := func(what string) {
		t.Helper()
		for i, fleet := range fleets {
			account := fmt.Sprintf("acc%d", i)
			before := fleet.Stats().Accepted
			err := fleet.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool {
				return st.ByPool[coins[account]] == st.Miners && st.Accepted > before+10
			})
			if st := fleet.Stats(); err != nil || st.Disconnected > 0 || st.Violations > 0 {
				t.Fatalf("miners of %s do not mine %s after %s: %v; %+v", account, coins[account], what, err, st)
			}
		}
	}
	// upgrade may be refused, because the preflight reads the file too.
	upgrade := func() (done bool) {
		t.Helper()
		n := p.Logged()
		p.Signal(syscall.SIGUSR2)
		m := p.WaitLogFrom(n, `upgraded version=\S+ sessions=(\d+) lost=(\d+)|upgrade refused`)
		if m[1] != "" && m[2] != "0" {
			t.Errorf("unexpected refusal: %s", m[0])
		}
		return m[1] != ""
	}
	mine("the start")
	if !upgrade() {
		t.Fatal("the upgrade was refused")
	}
	mine("an upgrade")
	before := p.Usage(config.HTTPDebugListenAddr)
	lines := p.Logged()
	var longest time.Duration
	rounds := 0
	for end := time.Now().Add(time.Duration(*coinFileSeconds) * time.Second); time.Now().Before(end); rounds++ {
		fault := testkit.CoinFolderFaults[f.Rng.IntN(len(testkit.CoinFolderFaults))]
		fault.Spoil(f)
		switch f.Rng.IntN(4) {
		case 0:
			if upgrade() && fault.Name != "folder unreadable" {
				t.Errorf("%s: the preflight passed, want a refusal", fault.Name)
			}
		case 1:
			time.Sleep(time.Duration(f.Rng.IntN(300)) * time.Millisecond)
		}
		began := time.Now()
		mine(fault.Name)
		usual := time.Since(began)
		testkit.WantNewMiner(t, p.Addr, "acc0")

		coins["acc0"], coins["acc1"] = coins["acc1"], coins["acc0"]
		way := f.Mend(coins)
		began = time.Now()
		mine(fault.Name + ", " + way)
		// A busy machine needs long for shares, too.
		longest = max(longest, time.Since(began)-5*usual)
		if f.Rng.IntN(3) == 0 && !upgrade() {
			t.Errorf("the upgrade was refused after %s was repaired", fault.Name)
		}
	}
	upgrade()
	mine("the end")
	testkit.WaitUntil(t, "former links have gone", func() bool {
		return p.Usage(config.HTTPDebugListenAddr).Descriptors <= before.Descriptors
	})
	after := p.Usage(config.HTTPDebugListenAddr)
	t.Logf("%d faults, a good file is followed within %v more than shares usually take; before: %v, after: %v", rounds, longest, before, after)
	if after.Goroutines > before.Goroutines+3 {
		t.Errorf("%d goroutines, want about the %d of before", after.Goroutines, before.Goroutines)
	}
	if n := p.Logged() - lines; n > 60*(rounds+1) {
		t.Errorf("%d log lines for %d faults are too many", n, rounds)
	}
	if longest > coinFileLook+3*time.Second {
		t.Errorf("a good file took effect %v later than shares usually take, which is too late", longest)
	}
	for _, fleet := range fleets {
		testkit.SettleFleet(t, fleet)
	}
	wantEnd(t, p, syscall.SIGTERM, 5*time.Second)
	if text := strings.Join(p.LogLines(`(.*(?:panic|fatal).*)`), "\n"); text != "" {
		t.Error(text)
	}
}

// If a pipe is where a file should be, nobody waits for it, neither miners nor
// signals, and an upgrade is refused at once. If the pipe appears between the
// preflight and the new program, the new program continues with the previous coins.
func TestFilesThatArePipes(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	config := daemontest.FileConfig(btc, bcc)
	p := daemontest.Start(t, config, map[string]string{"*": "btc"})
	miners := testkit.StartMiners(t, p.Addr, "alice", 3)
	refused := func(why string) time.Duration {
		t.Helper()
		n, began := p.Logged(), time.Now()
		p.Signal(syscall.SIGUSR2)
		p.WaitLogFrom(n, `upgrade refused: .*`+why)
		took := time.Since(began)
		testkit.WantMining(t, miners, "")
		return took
	}
	// A refusal for another reason shows how long the machine needs.
	p.Replace(p.Path("config.json"), []byte("{"), 0o644)
	usual := refused("config.json")
	p.WriteConfig(config)
	refusedAtOnce := func(why string) {
		t.Helper()
		if took := refused(why); took > usual+fileWait {
			t.Errorf("the upgrade was refused after %v, want about as soon as for another reason, after %v", took, usual)
		}
	}
	p.PipeAt("coins.json")
	p.WaitLog(`coin file: coins.json is a pipe, must be a regular file; the last good one stays in use`)
	testkit.WantNewMiner(t, p.Addr, "carol")
	testkit.WantMining(t, miners, "btc")
	refusedAtOnce("coin file: coins.json is a pipe, must be a regular file")
	p.SetCoins(map[string]string{"*": "bcc"})
	testkit.WantMining(t, miners, "bcc")

	p.PipeAt("config.json")
	refusedAtOnce("read configuration: ./config.json is a pipe, must be a regular file")
	p.WriteConfig(config)

	n := p.Logged()
	p.UpgradeWhile(func() { p.PipeAt("coins.json") })
	p.WaitLogFrom(n, `is a pipe, must be a regular file; the coins from before the upgrade stay in use`)
	testkit.WantMining(t, miners, "bcc")
	waiting, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: p.Addr, Worker: "carol.waits", Rate: 20})
	testkit.Must(t, err)
	t.Cleanup(waiting.Close)
	p.SetCoins(map[string]string{"*": "btc"})
	testkit.WantMining(t, append(miners, waiting), "btc")
	p.GoodUpgrade()

	p.PipeAt("coins.json")
	wantEnd(t, p, syscall.SIGTERM, 5*time.Second)
}
