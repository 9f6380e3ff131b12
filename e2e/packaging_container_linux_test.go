//go:build linux && e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// dockerfile returns the instructions of the Dockerfile's last stage, and those of
// all stages.
func dockerfile(t testing.TB) (last map[string]string, all []string) {
	t.Helper()
	content, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || name == "#" {
			continue
		}
		if name == "FROM" {
			last = make(map[string]string)
		}
		last[name] = args
		all = append(all, name+" "+args)
	}
	return last, all
}

// childOf returns the last process in a chain of only children.
func childOf(t testing.TB, pid int) string {
	t.Helper()
	id := strconv.Itoa(pid)
	for {
		children, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(children)) == 0 {
			return id
		}
		id = strings.Fields(string(children))[0]
	}
}

// TestContainer runs what the Dockerfile's last stage contains and says, with
// nothing else in the root directory.
func TestContainer(t *testing.T) {
	t.Parallel()
	needTools(t, "unshare")
	last, all := dockerfile(t)
	user, group, ok := strings.Cut(last["USER"], ":")
	if uid, err := strconv.Atoi(user); err != nil || !ok || uid == 0 || last["STOPSIGNAL"] != "SIGTERM" || last["FROM"] != "scratch" {
		t.Fatalf("Dockerfile: %q", last)
	}
	root := t.TempDir()
	state := filepath.Join(root, last["WORKDIR"])
	etc := filepath.Join(root, "etc/stratumSwitcher")
	for _, dir := range []string{state, etc, filepath.Join(root, "usr/bin"), filepath.Join(root, "proc")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	i := slices.IndexFunc(all, func(s string) bool { return strings.HasPrefix(s, "RUN CGO_ENABLED=0 go build ") })
	if i < 0 {
		t.Fatal("Dockerfile: no go build")
	}
	build := strings.TrimPrefix(all[i], "RUN ")
	build = strings.Replace(build, " /out/", " "+root+"/", 1)
	command(t, "", "sh", "-ec", "VERSION=container; "+build)

	btc, bcc := testkit.TwoPools(t)
	addr := testkit.UnusedAddr(t)
	c := daemontest.FileConfig(btc, bcc)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	c.ListenAddr, c.CoinFile = addr, "/etc/stratumSwitcher/coins.json"
	authority := testkit.NewAuthority(t)
	authority.Issue(etc, time.Now().Add(90*24*time.Hour), "switcher.test")
	c.TLSCertFile, c.TLSKeyFile = "/etc/stratumSwitcher/cert.pem", "/etc/stratumSwitcher/key.pem"
	content, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"config.json": string(content), "coins.json": `{"alice": "btc"}`} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var entrypoint, args []string
	if err := json.Unmarshal([]byte(last["ENTRYPOINT"]), &entrypoint); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(last["CMD"]), &args); err != nil {
		t.Fatal(err)
	}
	line := asRoot("chown", user+":"+group, state, filepath.Join(etc, "cert.pem"), filepath.Join(etc, "key.pem"))
	command(t, "", line[0], line[1:]...)
	const enter = `mount --make-rprivate /
		mkdir "$1/dev"
		touch "$1/dev/null"
		mount --bind /dev/null "$1/dev/null"
		root=$1 wd=$2 uid=$3 gid=$4
		shift 4
		exec unshare --mount-proc --root="$root" --wd="$wd" --setgid="$gid" --setuid="$uid" "$@"`
	line = asRoot(append(append([]string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", enter, "sh",
		root, last["WORKDIR"], user, group}, entrypoint...), args...)...)
	p := daemontest.Foreign(t, "", line[0])
	p.Start(line[1:]...)
	inside := childOf(t, p.Cmd.Process.Pid)
	t.Cleanup(func() {
		line := asRoot("kill", "-KILL", inside)
		exec.Command(line[0], line[1:]...).Run()
	})
	pid := p.WaitLog(`version=container pid=(\d+)`)[1]
	if pid != "1" {
		t.Errorf("the switcher has pid %s in the container, want 1", pid)
	}
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: "alice.1", Rate: 20})
	byTLS := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: "alice.2", Rate: 20, TLS: authority.Client("switcher.test")})
	for _, m := range []*stratumtest.Miner{m, byTLS} {
		testkit.WaitPool(t, m, "btc")
	}
	var health []string
	_, check, _ := strings.Cut(last["HEALTHCHECK"], " CMD ")
	if err := json.Unmarshal([]byte(check), &health); err != nil {
		t.Fatalf("HEALTHCHECK %q: %v", last["HEALTHCHECK"], err)
	}
	line = asRoot(append([]string{"nsenter", "-t", inside, "-m", "-p", "-r", "-w"}, health...)...)
	if out := command(t, "", line[0], line[1:]...); out != "ok\n" {
		t.Errorf("HEALTHCHECK says %q, want ok", out)
	}
	line = asRoot("kill", "-USR2", inside)
	command(t, "", line[0], line[1:]...)
	p.WaitLog(`upgraded version=container sessions=2 lost=0`)
	for _, m := range []*stratumtest.Miner{m, byTLS} {
		testkit.WaitAccepted(t, m, 2)
		testkit.CheckMiner(t, m)
	}
	line = asRoot("kill", "-TERM", inside)
	command(t, "", line[0], line[1:]...)
	select {
	case <-p.Ended:
	case <-time.After(testkit.LongWait):
		t.Fatal("the switcher still runs after SIGTERM")
	}
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
