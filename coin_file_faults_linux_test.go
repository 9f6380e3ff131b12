//go:build linux && !portable_relay

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

var coinFileSeconds = flag.Int("coin-file-seconds", 8, "how long the random test of a coin file's folder runs")

// coinFolder is the folder of a coin file, to which everything happens.
type coinFolder struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string // where the daemon runs
	version int
}

func (f *coinFolder) path(names ...string) string {
	return filepath.Join(append([]string{f.dir}, names...)...)
}

// folder makes a new folder with the file in it and returns its name.
func (f *coinFolder) folder(coins map[string]string) string {
	f.version++
	name := fmt.Sprintf("release%d", f.version)
	mustDo(f.t, os.Mkdir(f.path(name), 0o755))
	f.write(f.path(name, "coins.json"), coins)
	return name
}

func (f *coinFolder) write(path string, coins map[string]string) {
	content, err := json.Marshal(coins)
	mustDo(f.t, err)
	mustDo(f.t, os.WriteFile(path, content, 0o644))
}

// replaceFile puts what make makes at a path in the file's place.
func (f *coinFolder) replaceFile(make func(path string) error) {
	// What is there may be a folder.
	mustDo(f.t, os.RemoveAll(f.path("cur", "coins.json")))
	mustDo(f.t, make(f.path("cur", "coins.json.tmp")))
	mustDo(f.t, os.Rename(f.path("cur", "coins.json.tmp"), f.path("cur", "coins.json")))
}

// swap has another folder in the place of the present one.
func (f *coinFolder) swap(name string) {
	if info, err := os.Lstat(f.path("cur")); err == nil && info.IsDir() {
		mustDo(f.t, os.Rename(f.path("cur"), f.path("former"+name)))
	}
	mustDo(f.t, os.Symlink(name, f.path("cur.tmp")))
	mustDo(f.t, os.Rename(f.path("cur.tmp"), f.path("cur")))
}

// mend has a good file there again, in one of the ways there are.
func (f *coinFolder) mend(coins map[string]string) (way string) {
	if info, err := os.Lstat(f.path("cur")); err == nil && info.Mode().IsRegular() {
		mustDo(f.t, os.Remove(f.path("cur")))
	}
	if info, err := os.Stat(f.path("cur")); err == nil && info.Mode().Perm() != 0 && f.rng.IntN(2) == 0 {
		f.replaceFile(func(path string) error { f.write(path, coins); return nil })
		return "file replaced"
	}
	f.swap(f.folder(coins))
	return "folder swapped"
}

// coinFolderFaults spoil the file.
var coinFolderFaults = []struct {
	name  string
	spoil func(f *coinFolder)
	root  bool // root is not hindered
}{
	{"pipe", func(f *coinFolder) { f.replaceFile(func(path string) error { return unix.Mkfifo(path, 0o644) }) }, false},
	{"directory", func(f *coinFolder) { f.replaceFile(func(path string) error { return os.Mkdir(path, 0o755) }) }, false},
	{"device", func(f *coinFolder) { f.replaceFile(func(path string) error { return os.Symlink("/dev/zero", path) }) }, false},
	{"link to itself", func(f *coinFolder) { f.replaceFile(func(path string) error { return os.Symlink("coins.json", path) }) }, false},
	{"huge", func(f *coinFolder) {
		f.replaceFile(func(path string) error { return os.WriteFile(path, nil, 0o644) })
		mustDo(f.t, os.Truncate(f.path("cur", "coins.json"), 1<<40))
	}, false},
	{"torn", func(f *coinFolder) {
		f.replaceFile(func(path string) error { return os.WriteFile(path, []byte(`{"acc0": "b`), 0o644) })
	}, false},
	{"file away", func(f *coinFolder) { mustDo(f.t, os.RemoveAll(f.path("cur", "coins.json"))) }, false},
	{"folder away", func(f *coinFolder) { mustDo(f.t, os.Rename(f.path("cur"), f.path(fmt.Sprintf("away%d", f.rng.Int())))) }, false},
	{"folder is a file", func(f *coinFolder) {
		mustDo(f.t, os.Rename(f.path("cur"), f.path(fmt.Sprintf("away%d", f.rng.Int()))))
		mustDo(f.t, os.WriteFile(f.path("cur"), nil, 0o644))
	}, false},
	{"unreadable", func(f *coinFolder) {
		f.replaceFile(func(path string) error { return os.WriteFile(path, []byte(`{"*":"btc"}`), 0) })
	}, true},
	{"folder unreadable", func(f *coinFolder) {
		if target, err := filepath.EvalSymlinks(f.path("cur")); err == nil {
			mustDo(f.t, os.Chmod(target, 0))
			f.t.Cleanup(func() { os.Chmod(target, 0o755) }) // or it could not be removed
		}
	}, true},
}

// The coin file's folder is swapped, replaced and spoilt while miners mine and
// upgrades go on. Nobody is lost, and every good file is followed.
func TestCoinFileFaults(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	btc, bcc := twoPools(t)
	config := fileConfig(btc, bcc)
	config.CoinFile = "cur/coins.json"
	config.DrainSeconds = 2
	config.EnableHTTPDebug, config.HTTPDebugListenAddr = true, unusedAddr(t)
	p := newProcess(t, t.TempDir())
	if os.Geteuid() == 0 {
		// Root may read everything.
		p.user = &syscall.Credential{Uid: 65534, Gid: 65534}
		for _, dir := range []string{p.dir, filepath.Dir(p.dir), filepath.Dir(p.binary), filepath.Dir(filepath.Dir(p.binary))} {
			mustDo(t, os.Chmod(dir, 0o777))
		}
	}
	f := &coinFolder{t: t, rng: rand.New(rand.NewPCG(seed, 4)), dir: p.dir}
	coins := map[string]string{"acc0": "btc", "acc1": "bcc", "*": "btc"}
	f.swap(f.folder(coins))
	p.writeConfig(config)
	p.start("-logtostderr", "-v=1")
	fleets := []*stratumtest.Fleet{
		fleetOf(t, p.addr, "acc0", 10, 20, stratumtest.MinerOptions{Configure: 0x1fffe000}),
		fleetOf(t, p.addr, "acc1", 10, 20, stratumtest.MinerOptions{Configure: 0x1fffe000}),
	}
	mine := func(what string) {
		t.Helper()
		for i, fleet := range fleets {
			account := fmt.Sprintf("acc%d", i)
			before := fleet.Stats().Accepted
			err := fleet.WaitFor(upgradeCtx(t), func(st stratumtest.FleetStats) bool {
				return st.ByPool[coins[account]] == st.Miners && st.Accepted > before+10
			})
			if st := fleet.Stats(); err != nil || st.Disconnected > 0 || st.Violations > 0 {
				t.Fatalf("%s does not mine %s after %s: %v; %+v", account, coins[account], what, err, st)
			}
		}
	}
	// upgrade may be refused, as the preflight reads the file too.
	upgrade := func() (done bool) {
		t.Helper()
		n := p.logged()
		p.signal(syscall.SIGUSR2)
		m := p.waitLogFrom(n, `upgraded version=\S+ sessions=(\d+) lost=(\d+)|upgrade refused`)
		if m[1] != "" && m[2] != "0" {
			t.Errorf("%s", m[0])
		}
		return m[1] != ""
	}
	mine("the start")
	if !upgrade() {
		t.Fatal("the upgrade was refused")
	}
	mine("an upgrade")
	before := p.usage(config.HTTPDebugListenAddr)
	lines := p.logged()
	var longest time.Duration
	rounds := 0
	for end := time.Now().Add(time.Duration(*coinFileSeconds) * time.Second); time.Now().Before(end); rounds++ {
		fault := coinFolderFaults[f.rng.IntN(len(coinFolderFaults))]
		fault.spoil(f)
		switch f.rng.IntN(4) {
		case 0:
			if upgrade() && fault.name != "folder unreadable" {
				t.Errorf("%s: the preflight has passed", fault.name)
			}
		case 1:
			time.Sleep(time.Duration(f.rng.IntN(300)) * time.Millisecond)
		}
		mine(fault.name)
		wantNewMiner(t, p.addr, "acc0")

		coins["acc0"], coins["acc1"] = coins["acc1"], coins["acc0"]
		way := f.mend(coins)
		began := time.Now()
		mine(fault.name + ", " + way)
		longest = max(longest, time.Since(began))
		if f.rng.IntN(3) == 0 && !upgrade() {
			t.Errorf("the upgrade was refused after %s", fault.name)
		}
	}
	upgrade()
	mine("the end")
	eventually(t, "former links have gone", func() bool {
		return p.usage(config.HTTPDebugListenAddr).descriptors <= before.descriptors
	})
	after := p.usage(config.HTTPDebugListenAddr)
	t.Logf("%d faults, a good file is followed within %v; before: %v, after: %v", rounds, longest, before, after)
	if after.goroutines > before.goroutines+3 {
		t.Errorf("%d goroutines, %d before", after.goroutines, before.goroutines)
	}
	if n := p.logged() - lines; n > 60*(rounds+1) {
		t.Errorf("%d log lines for %d faults", n, rounds)
	}
	if longest > coinFileLook+3*time.Second {
		t.Errorf("a good file was followed after %v", longest)
	}
	for _, fleet := range fleets {
		settleFleet(t, fleet)
	}
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		t.Error("SIGTERM does not end it")
	}
	if text := strings.Join(p.logLines(`(.*(?:panic|fatal).*)`), "\n"); text != "" {
		t.Error(text)
	}
}

// A pipe that comes between a look at the file and its opening is not waited
// for.
func TestReadRegularFileSwapped(t *testing.T) {
	dir := t.TempDir()
	file, pipe, path := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "coins.json")
	mustDo(t, os.WriteFile(file, []byte("{}"), 0o600))
	mustDo(t, unix.Mkfifo(pipe, 0o600))
	mustDo(t, os.Link(file, path))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := errors.Join(os.Link([]string{pipe, file}[i%2], path+".new"), os.Rename(path+".new", path)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer func() { <-stopped }()
	defer close(stop)
	read := 0
	for end := time.Now().Add(time.Second / 2); time.Now().Before(end); {
		_, err := regularfile.InTime(regularfile.Wait, func() (int, error) {
			_, _, err := regularfile.Read(path, 100)
			return 0, err
		})
		switch {
		case err == nil:
			read++
		case errors.Is(err, regularfile.ErrTooSlow):
			t.Fatal("it is waited for")
		}
	}
	if read == 0 {
		t.Error("the file was never read")
	}
}

// pipeAt puts a pipe that nobody writes to in a file's place.
func (p *process) pipeAt(name string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	mustDo(p.t, unix.Mkfifo(path+".pipe", 0o644))
	mustDo(p.t, os.Rename(path+".pipe", path))
}

// A pipe stands where a file should: nobody waits for it, neither miners nor
// signals, and an upgrade is refused at once. If it comes between the preflight
// and the new program, that goes on with the coins of before.
func TestFilesThatArePipes(t *testing.T) {
	btc, bcc := twoPools(t)
	config := fileConfig(btc, bcc)
	p := startProcess(t, config, map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 3)
	refused := func(why string) {
		t.Helper()
		n, began := p.logged(), time.Now()
		p.signal(syscall.SIGUSR2)
		p.waitLogFrom(n, `upgrade refused: .*`+why)
		if took := time.Since(began); took > regularfile.Wait {
			t.Errorf("refused after %v", took)
		}
		wantMining(t, miners, "")
	}
	p.pipeAt("coins.json")
	p.waitLog(`coin file: coins.json is a pipe, must be a regular file; the last good one stays in use`)
	wantNewMiner(t, p.addr, "carol")
	wantMining(t, miners, "btc")
	refused("coin file: coins.json is a pipe, must be a regular file")
	p.setCoins(map[string]string{"*": "bcc"})
	wantMining(t, miners, "bcc")

	p.pipeAt("config.json")
	refused("read configuration: ./config.json is a pipe, must be a regular file")
	p.writeConfig(config)

	n := p.logged()
	p.upgradeWhile(func() { p.pipeAt("coins.json") })
	p.waitLogFrom(n, `is a pipe, must be a regular file; the coins of before the upgrade stay in use`)
	wantMining(t, miners, "bcc")
	waiting, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: p.addr, Worker: "carol.waits", Rate: 20})
	mustDo(t, err)
	t.Cleanup(waiting.Close)
	p.setCoins(map[string]string{"*": "btc"})
	wantMining(t, append(miners, waiting), "btc")
	p.goodUpgrade()

	p.pipeAt("coins.json")
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		t.Error("SIGTERM does not end it")
	}
}
