//go:build linux && e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// checkedDaemon runs the built daemon in a directory, as a user to whom access
// rights apply.
type checkedDaemon struct {
	t      *testing.T
	binary string
	dir    string
	limit  int // of descriptors; 0 leaves it unchanged
}

func newCheckedDaemon(t *testing.T) *checkedDaemon {
	t.Helper()
	d := &checkedDaemon{t: t, dir: t.TempDir(), binary: filepath.Join(t.TempDir(), "stratumSwitcher")}
	content, err := os.ReadFile(daemontest.Build(t, "one"))
	testkit.Must(t, err)
	(&daemontest.Daemon{T: t}).Replace(d.binary, content, 0o755)
	for _, dir := range []string{d.dir, filepath.Dir(d.dir), filepath.Dir(d.binary), filepath.Dir(filepath.Dir(d.binary))} {
		testkit.Must(t, os.Chmod(dir, 0o777))
	}
	return d
}

func (d *checkedDaemon) command(args ...string) *exec.Cmd {
	cmd := exec.Command(d.binary, args...)
	if d.limit > 0 {
		cmd = exec.Command("/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, d.limit), d.binary}, args...)...)
	}
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return cmd
}

// check returns the reason for which -check refuses the configuration, or "".
func (d *checkedDaemon) check(args ...string) string {
	d.t.Helper()
	return d.end(append(args, "-check"), nil)
}

// start returns the reason for which the daemon refuses to start, or "" if it
// serves.
func (d *checkedDaemon) start(args ...string) string {
	d.t.Helper()
	return d.end(append(args, "-logtostderr"), []byte("listening addr="))
}

// end runs the daemon to its end. If ready is not empty, the daemon gets SIGTERM
// when it logs a line that contains it.
func (d *checkedDaemon) end(args []string, ready []byte) (refusal string) {
	d.t.Helper()
	cmd := d.command(args...)
	stderr, err := cmd.StderrPipe()
	testkit.Must(d.t, err)
	testkit.Must(d.t, cmd.Start())
	limit := time.AfterFunc(testkit.LongWait, func() { cmd.Process.Kill() })
	defer limit.Stop()
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		if text, ok := bytes.CutPrefix(line, []byte("stratumSwitcher: ")); ok {
			rest, _ := io.ReadAll(lines)
			refusal = string(text) + string(rest)
		}
		if ready != nil && bytes.Contains(line, ready) {
			cmd.Process.Signal(syscall.SIGTERM)
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if (err == nil) != (refusal == "") {
		d.t.Errorf("%v: %v, message %q", args, err, refusal)
	}
	return refusal
}

func (d *checkedDaemon) writeConfig(change map[string]any) {
	d.t.Helper()
	config := map[string]any{"ListenAddr": "127.0.0.1:0", "CoinFile": "coins.json",
		"StratumServerMap": map[string]any{"btc": map[string]any{"URL": "127.0.0.1:3333"}}}
	maps.Copy(config, change)
	content, err := json.Marshal(config)
	testkit.Must(d.t, err)
	testkit.Must(d.t, os.WriteFile(filepath.Join(d.dir, "config.json"), content, 0o644))
}

// This covers what is in the environment and not in the configuration: files,
// folders, addresses and limits.
func TestCheckMeansStartsOfTheProcess(t *testing.T) {
	t.Parallel()
	zooKeeper := []string{"127.0.0.1:1"}
	for _, c := range []struct {
		name    string
		change  map[string]any
		prepare func(dir string) error
		limit   int
		want    string // part of the refusal; "" means that it starts
	}{
		{name: "good"},
		{name: "unused directory", change: map[string]any{"ZKBroker": zooKeeper, "CoinFile": "", "ServerID": 3, "ZKServerIDAssignDir": "swid"}},
		{name: "unused registration", change: map[string]any{"ZKBroker": zooKeeper, "CoinFile": "", "EnableUserAutoReg": false, "ZKAutoRegWatchDir": "x"}},
		{name: "unused index", change: map[string]any{"ZKBroker": zooKeeper, "CoinFile": "", "StratumServerCaseInsensitive": true, "ZKUserCaseInsensitiveIndex": "x"}},
		{name: "folder that cannot be listed", change: map[string]any{"CoinFile": "closed/coins.json"}, prepare: func(dir string) error {
			closed := filepath.Join(dir, "closed")
			return errors.Join(os.Mkdir(closed, 0o755), os.WriteFile(filepath.Join(closed, "coins.json"), []byte(`{"*":"btc"}`), 0o644), os.Chmod(closed, 0o111))
		}},
		{name: "coin file unreadable", prepare: func(dir string) error { return os.Chmod(filepath.Join(dir, "coins.json"), 0) }, want: "permission denied"},
		{name: "coin file is a pipe", prepare: func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "coins.json")), unix.Mkfifo(filepath.Join(dir, "coins.json"), 0o644))
		}, want: "is a pipe, must be a regular file"},
		{name: "configuration is a pipe", prepare: func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "config.json")), unix.Mkfifo(filepath.Join(dir, "config.json"), 0o644))
		}, want: "read configuration: config.json is a pipe, must be a regular file"},
		{name: "configuration is a device", prepare: func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "config.json")), os.Symlink("/dev/zero", filepath.Join(dir, "config.json")))
		}, want: "read configuration: config.json is a device, must be a regular file"},
		{name: "configuration is a directory", prepare: func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "config.json")), os.Mkdir(filepath.Join(dir, "config.json"), 0o755))
		}, want: "read configuration: config.json is a directory, must be a regular file"},
		{name: "configuration is huge", prepare: func(dir string) error { return os.Truncate(filepath.Join(dir, "config.json"), 1<<40) },
			want: "read configuration: config.json is larger than 16777216 bytes"},
		{name: "configuration is absent", prepare: func(dir string) error { return os.Remove(filepath.Join(dir, "config.json")) }, want: "no such file"},
		{name: "configuration with a byte order mark", prepare: func(dir string) error {
			text, err := os.ReadFile(filepath.Join(dir, "config.json"))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "config.json"), append([]byte("\ufeff"), text...), 0o644))
		}},
		{name: "not our address", change: map[string]any{"ListenAddr": "192.0.2.1:0"}, want: "cannot assign requested address"},
		{name: "not our HTTP address", change: map[string]any{"EnableHTTPDebug": true, "HTTPDebugListenAddr": "192.0.2.1:0"}, want: "HTTPDebugListenAddr: "},
		{name: "few descriptors", limit: 250, want: "the limit of 250 file descriptors leaves no room for sessions beside MaxPoolDials, 178", change: map[string]any{"MaxPoolDials": 178}},
		{name: "just enough", limit: 250, change: map[string]any{"MaxPoolDials": 176}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newCheckedDaemon(t)
			d.limit = c.limit
			testkit.Must(t, os.WriteFile(filepath.Join(d.dir, "coins.json"), []byte(`{"*": "btc"}`), 0o644))
			d.writeConfig(c.change)
			if c.prepare != nil {
				testkit.Must(t, c.prepare(d.dir))
			}
			check, start := d.check("-config", "config.json"), d.start("-config", "config.json")
			if check != start {
				t.Errorf("-check: %s\nstart:  %s", check, start)
			}
			if (start == "") != (c.want == "") || !strings.Contains(start, c.want) {
				t.Errorf("refused with %q, want %q", start, c.want)
			}
		})
	}
}

// While a switcher runs, its operator can check the configuration that it is to get
// next.
func TestCheckBesideTheRunningSwitcher(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc)
	c.ListenAddr = testkit.UnusedAddr(t)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	p := daemontest.Start(t, c, map[string]string{"*": "btc", "a.b": "btc", "x": "doge"})
	p.WaitLog(`coin file coins.json: sub-account "a.b" matches no miner.*; coin "doge" of sub-account "x" is not in StratumServerMap`)
	p.WaitLog(`http addr=`)
	cmd := exec.Command(p.Binary, "-check")
	cmd.Dir = p.Dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, &stdout, &stderr)
	}
	want := fmt.Sprintf("note: ListenAddr %s is in use now, as it is if the switcher runs; a second one could not start\n"+
		"note: HTTPDebugListenAddr %s is in use now, as it is if the switcher runs; a second one could not start\n"+
		"./config.json is fine\n", c.ListenAddr, c.HTTPDebugListenAddr)
	if stdout.String() != want {
		t.Errorf("got  %s\nwant %s", &stdout, want)
	}
	if lines := strings.Split(strings.TrimSpace(stderr.String()), "\n"); len(lines) != 2 ||
		!strings.HasPrefix(lines[0], `warning: coin file coins.json: sub-account "a.b" matches no miner`) ||
		lines[1] != `warning: coin file coins.json: coin "doge" of sub-account "x" is not in StratumServerMap` {
		t.Errorf("unexpected warnings: %s", &stderr)
	}
}

// With StratumServerCaseInsensitive, the case index is not used.
func TestCaseIndexOrLowerCase(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	for _, lower := range []bool{true, false} {
		t.Run(fmt.Sprint(lower), func(t *testing.T) {
			btc, bcc := testkit.TwoPools(t)
			world := newZKWorld(t, server)
			world.Put(world.root+"/case/bob", "Bob")
			world.Put(world.coin("bob"), "btc")
			world.Put(world.coin("Bob"), "bcc")
			config := world.config(server.Addr(), 40, btc, bcc)
			config["ZKUserCaseInsensitiveIndex"] = world.root + "/case/"
			config["StratumServerCaseInsensitive"] = lower
			d := startDaemon(t, config)
			m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, Worker: "BOB.1", Rate: 20})
			if lower {
				testkit.WaitPool(t, m, "btc")
			} else {
				testkit.WaitPool(t, m, "bcc")
			}
		})
	}
}
