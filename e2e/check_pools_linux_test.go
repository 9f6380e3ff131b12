//go:build linux && e2e

package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// output runs the daemon to its end and returns what it printed and whether its
// exit status was 0.
func (d *checkedDaemon) output(args ...string) (stdout, stderr string, good bool) {
	d.t.Helper()
	cmd := d.command(args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	limit := time.AfterFunc(testkit.LongWait, func() { cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Run()
	return out.String(), problems.String(), err == nil
}

// TestCheckPoolsOfTheProcess checks that -check -pools asks the pools, and that
// -check alone does not.
func TestCheckPoolsOfTheProcess(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	d := newCheckedDaemon(t)
	testkit.Must(t, os.WriteFile(filepath.Join(d.dir, "coins.json"), []byte(`{"*": "btc"}`), 0o644))
	closed := testkit.UnusedAddr(t)
	pools := func(bccURL string) {
		d.writeConfig(map[string]any{"StratumServerMap": map[string]any{
			"btc": map[string]any{"URL": btc.Addr(), "BackupURLs": []string{closed}}, "bcc": map[string]any{"URL": bccURL}}})
	}
	pools(bcc.Addr())
	out, problems, good := d.output("-check", "-pools")
	if want := regexp.MustCompile(`^bcc\.URL \S+: IP 127\.0\.0\.1, answered in \d+ ms; takes the switcher's extranonce, .*\n` +
		`btc\.URL \S+: IP .*\nbtc\.BackupURLs\[0\] \S+: fails: connect: connection refused\n\./config\.json is fine\n$`); !good || !want.MatchString(out) {
		t.Errorf("exit status 0: %v, or a wrong output\n%s%s", good, out, problems)
	}
	pools(closed)
	out, problems, good = d.output("-check", "-pools")
	if good || !strings.Contains(out, "bcc.URL") || strings.Contains(out, "is fine") || problems != "stratumSwitcher: 1 of 2 pool addresses fail, each the URL of a coin\n" {
		t.Errorf("with a URL that fails: exit status 0: %v, want false\n%s%s", good, out, problems)
	}
	dialled := btc.Stats().ConnectionsTotal
	if out, problems, good = d.output("-check"); !good || out != "./config.json is fine\n" || btc.Stats().ConnectionsTotal != dialled {
		t.Errorf("-check alone: exit status 0: %v, %d dials before, %d after\n%s%s", good, dialled, btc.Stats().ConnectionsTotal, out, problems)
	}
}

// A mistake in a flag is reported in one line; -help writes to standard output.
func TestFlagsOfTheProcess(t *testing.T) {
	t.Parallel()
	d := newCheckedDaemon(t)
	for want, args := range map[string][]string{
		"stratumSwitcher: -pools goes with -check\n":                                       {"-pools"},
		"stratumSwitcher: flag provided but not defined: -colour; -help lists the flags\n": {"-colour"},
		"stratumSwitcher: unexpected argument \"config.json\"\n":                           {"config.json"},
	} {
		if out, problems, good := d.output(args...); good || out != "" || problems != want {
			t.Errorf("%q: exit status 0: %v\n%s%s", args, good, out, problems)
		}
	}
	if out, problems, good := d.output("-help"); !good || problems != "" || !strings.HasPrefix(out, "stratumSwitcher is a proxy") || !strings.Contains(out, "\n  -pools\n") {
		t.Errorf("-help: exit status 0: %v\n%s%s", good, out, problems)
	}
}

// If a pool's name does not exist, there is a warning at start, but the start does
// not wait for the name server, which never answers here.
func TestUnknownNameAtStart(t *testing.T) {
	t.Parallel()
	d := newCheckedDaemon(t)
	testkit.Must(t, os.WriteFile(filepath.Join(d.dir, "coins.json"), []byte(`{"*": "btc"}`), 0o644))
	d.writeConfig(map[string]any{"StratumServerMap": map[string]any{"btc": map[string]any{"URL": "pool.invalid:3333"}}})
	resolver := filepath.Join(d.dir, "resolv.conf")
	testkit.Must(t, os.WriteFile(resolver, []byte("nameserver 192.0.2.1\noptions timeout:1 attempts:1\n"), 0o644))
	inner := d.command("-config", "config.json", "-logtostderr")
	// Packets to the name server are lost in a network of its own.
	const script = `mount --make-rprivate /
		mount --bind "$1" /etc/resolv.conf
		ip link set lo up
		ip link add here type veth peer name there
		ip addr add 192.0.2.2/24 dev here
		ip link set here up
		ip link set there up
		ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev here
		shift
		exec "$@"`
	line := asRoot(append([]string{"unshare", "--mount", "--net", "sh", "-ec", script, "sh", resolver}, inner.Args...)...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir, cmd.SysProcAttr = d.dir, nil
	stderr, err := cmd.StderrPipe()
	testkit.Must(t, err)
	testkit.Must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	limit := time.AfterFunc(testkit.LongWait, func() { cmd.Process.Kill() })
	defer limit.Stop()
	var all strings.Builder
	listening := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		text := lines.Text()
		all.WriteString(text + "\n")
		listening = listening || strings.Contains(text, "listening addr=")
		if strings.Contains(text, "pool name not found at start") {
			if !listening || !strings.HasPrefix(text, "W") || !strings.Contains(text, "pool=pool.invalid:3333 coins=btc: the name server does not answer") {
				t.Errorf("listening: %v\n%s", listening, text)
			}
			return
		}
	}
	t.Errorf("no warning about the unknown name:\n%s", &all)
}
