//go:build linux && e2e

package e2e

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func needTools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v; scripts/install-test-tools.sh installs what tests need", err)
		}
	}
}

// command runs a program, which must not fail, and returns its output.
func command(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// asRoot returns the command line that runs args as root.
func asRoot(args ...string) []string {
	if os.Geteuid() != 0 {
		return append([]string{"sudo", "-n"}, args...)
	}
	return args
}

// buildPackage builds the Debian package as "make package" does.
func buildPackage(t testing.TB, describe string) string {
	t.Helper()
	needTools(t, "cmake", "make", "dpkg-deb")
	return testkit.SharedFile(t, "package "+describe, func(dir string) (string, error) {
		command(t, "", "cmake", "-S", ".", "-B", dir, "-DDESCRIBE="+describe)
		command(t, "", "cmake", "--build", dir, "--target", "package")
		found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(found) != 1 {
			return "", fmt.Errorf("packages %q, %w", found, err)
		}
		return found[0], nil
	})
}

// withOtherDefaults returns a copy of a package that contains another config.json.
func withOtherDefaults(t testing.TB, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "package")
	command(t, "", "dpkg-deb", "-R", deb, dir)
	path := filepath.Join(dir, "etc/stratumSwitcher/config.json")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "other.deb")
	command(t, "", "dpkg-deb", "--root-owner-group", "-Zgzip", "-b", dir, out)
	return out
}

func TestPackageContent(t *testing.T) {
	t.Parallel()
	deb := buildPackage(t, "v1.0.0-rc2")
	if got := strings.TrimSpace(command(t, "", "dpkg-deb", "-f", deb, "Version")); got != "1.0.0~rc2" {
		t.Errorf("the package has version %q", got)
	}
	if got := command(t, "", "dpkg-deb", "-I", deb, "conffiles"); got != "/etc/stratumSwitcher/config.json\n/etc/cron.daily/stratumswitcher\n" {
		t.Errorf("unexpected conffiles:\n%s", got)
	}
	list := command(t, "", "dpkg-deb", "-c", deb)
	for _, want := range []string{
		`-rwxr-xr-x root/root .* \./usr/bin/stratumSwitcher`,
		`-rw-r----- root/root .* \./etc/stratumSwitcher/config\.json`,
		`-rw-r--r-- root/root .* \./usr/share/doc/stratumswitcher/copyright`,
		`-rw-r--r-- root/root .* \./usr/share/doc/stratumswitcher/changelog\.gz`,
		`-rw-r--r-- root/root .* \./usr/share/man/man8/stratumSwitcher\.8\.gz`,
		`-rw-r--r-- root/root .* \./usr/lib/systemd/system/stratumSwitcher\.service`,
		`-rw-r--r-- root/root .* \./usr/share/stratumSwitcher/supervisor\.conf`,
		`-rwxr-xr-x root/root .* \./etc/cron\.daily/stratumswitcher`,
		`-rwxr-xr-x root/root .* \./usr/lib/stratumSwitcher/clean-logs`,
		`-rw-r--r-- root/root .* \./usr/share/doc/stratumswitcher/licences/stratumSwitcher/LICENSE`,
		`-rw-r--r-- root/root .* \./usr/share/doc/stratumswitcher/licences/github\.com/golang/glog/LICENSE`,
		`l.* \./usr/lib/systemd/system/timers\.target\.wants/stratumSwitcher-logs\.timer -> \.\./stratumSwitcher-logs\.timer`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(list) {
			t.Errorf("the package has no %s:\n%s", want, list)
		}
	}
	if page := regexp.MustCompile(`(?m)/doc/.*/(architecture|protocol|handshakes|CONTRIBUTING)\.md$`).FindString(list); page != "" {
		t.Errorf("the package has a page for developers: %s", page)
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " root/root ") || line[0] != 'l' && (line[5] == 'w' || line[8] == 'w') {
			t.Errorf("a file that does not belong to root alone: %s", line)
		}
	}
}

// TestPackageForm checks what Debian requires of a package: its licence, a manual
// page, no symbols, a description in the right form, and pages whose links lead
// somewhere.
func TestPackageForm(t *testing.T) {
	t.Parallel()
	needTools(t, "man", "dpkg-deb")
	deb := buildPackage(t, "v1.0.0-rc2")
	dir := filepath.Join(t.TempDir(), "package")
	command(t, "", "dpkg-deb", "-R", deb, dir)
	doc := filepath.Join(dir, "usr/share/doc/stratumswitcher")

	licence, err := os.ReadFile("LICENSE")
	testkit.Must(t, err)
	copyright, err := os.ReadFile(filepath.Join(doc, "copyright"))
	testkit.Must(t, err)
	words := func(text []byte) string {
		return strings.Join(strings.Fields(strings.ReplaceAll(string(text), "\n .\n", "\n\n")), " ")
	}
	_, terms, _ := strings.Cut(words(licence), "authors ")
	if !strings.HasPrefix(string(copyright), "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n") || !strings.Contains(words(copyright), terms) {
		t.Errorf("copyright does not have the terms of LICENSE:\n%s", copyright)
	}

	page := command(t, "", "man", "-l", "--warnings", filepath.Join(dir, "usr/share/man/man8/stratumSwitcher.8.gz"))
	if strings.Contains(page, "warning") || !strings.Contains(page, "NAME") || !strings.Contains(page, "-pools") {
		t.Errorf("the manual page is not as it should be:\n%s", page)
	}

	program, err := elf.Open(filepath.Join(dir, "usr/bin/stratumSwitcher"))
	testkit.Must(t, err)
	defer program.Close()
	if program.Section(".symtab") != nil || program.Section(".debug_info") != nil {
		t.Error("the program has symbols")
	}

	lines := strings.Split(strings.TrimSpace(command(t, "", "dpkg-deb", "-f", deb, "Description")), "\n")
	if len(lines) < 3 || len(lines[0]) > 80 || strings.HasSuffix(lines[0], ".") {
		t.Errorf("unexpected form of the description: %q", lines)
	}
	for _, line := range lines[1:] {
		if len(line) > 80 || line[0] != ' ' || line == " " {
			t.Errorf("unexpected line of the description: %q", line)
		}
	}

	links := 0
	pages, err := filepath.Glob(filepath.Join(doc, "*.md"))
	testkit.Must(t, err)
	more, err := filepath.Glob(filepath.Join(doc, "docs/*.md"))
	testkit.Must(t, err)
	for _, page := range append(pages, more...) {
		text, err := os.ReadFile(page)
		testkit.Must(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)\s#]+)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not in the package", page, m[1])
			}
		}
	}
	if links < 30 {
		t.Errorf("the pages have only %d links", links)
	}
}

// Versions that git can describe become Debian versions in the same order.
func TestPackageVersionOrder(t *testing.T) {
	t.Parallel()
	needTools(t, "cmake", "dpkg")
	var versions []string
	for _, describe := range []string{"abcdef0", "v1.2.3-rc1", "v1.2.3-rc1-2-gabcdef0", "v1.2.3", "v1.2.3-9-gfedcba0", "v1.2.3-10-gabcdef0-dirty", "v1.2.4"} {
		dir := t.TempDir()
		command(t, "", "cmake", "-S", ".", "-B", dir, "-DDESCRIBE="+describe)
		content, err := os.ReadFile(filepath.Join(dir, "CPackConfig.cmake"))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`set\(CPACK_PACKAGE_VERSION "(.*)"\)`).FindSubmatch(content)
		versions = append(versions, string(m[1]))
	}
	t.Log(versions)
	for i := range versions[1:] {
		command(t, "", "dpkg", "--compare-versions", versions[i], "lt-nl", versions[i+1])
	}
}

// installed is a machine on which the package is installed and configured for two
// pools.
type installed struct {
	*machine
	addr     string
	btc, bcc *stratumtest.Pool
	config   string // the configuration that the operator wrote
	old, new string // paths of packages in the machine

	authority *testkit.Authority // has signed the certificate for miners
}

func installPackage(t testing.TB, init ...string) *installed {
	t.Helper()
	shared := t.TempDir()
	in := &installed{old: "/mnt/shared/old.deb", new: "/mnt/shared/new.deb"}
	for from, to := range map[string]string{
		buildPackage(t, "v1.0.0"):                       "old.deb",
		withOtherDefaults(t, buildPackage(t, "v1.1.0")): "new.deb",
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shared, to), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in.machine = startMachine(t, shared, init...)
	if strings.HasSuffix(init[0], "systemd") {
		in.expect("active", `systemctl is-active machine.target`)
	}
	in.btc, in.bcc = testkit.TwoPools(t)
	in.addr = testkit.UnusedAddr(t)
	c := daemontest.FileConfig(in.btc, in.bcc)
	c.ListenAddr = in.addr
	in.authority = testkit.NewAuthority(t)
	in.authority.Issue(shared, time.Now().Add(90*24*time.Hour), "switcher.test")
	c.TLSCertFile, c.TLSKeyFile = "/etc/ssl/test/cert.pem", "/etc/ssl/test/key.pem"
	content, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	in.config = string(content)

	out := in.run(`dpkg -i --force-depends "$1" 2>&1`, in.old)
	if !strings.Contains(out, "not started yet") {
		t.Errorf("the installation does not tell the operator what to do:\n%s", out)
	}
	if got := in.run(`stratumSwitcher -version`); got != "stratumSwitcher v1.0.0" {
		t.Errorf("unexpected state after the installation: %s", got)
	}
	if got := in.run(`stat -c '%U %G %a' /var/lib/stratumSwitcher /var/log/stratumSwitcher`); got != strings.Repeat("stratumswitcher stratumswitcher 750\n", 2)[:len(got)] || got == "" {
		t.Errorf("unexpected directories: %s", got)
	}
	if got := in.run(`stat -c '%U %G %a' /etc/stratumSwitcher/config.json`); got != "root stratumswitcher 640" {
		t.Errorf("unexpected mode or owner of config.json: %s", got)
	}
	in.run(`install -d -m 750 -g stratumswitcher /etc/ssl/test; install -m 640 -g stratumswitcher /mnt/shared/cert.pem /mnt/shared/key.pem /etc/ssl/test`)
	in.run(`printf %s "$1" >/etc/stratumSwitcher/config.json; echo '{"alice": "btc"}' >/var/lib/stratumSwitcher/coins.json
		cd /var/lib/stratumSwitcher && stratumSwitcher -config /etc/stratumSwitcher/config.json -check`, in.config)
	return in
}

// miners connects some miners, two of them with TLS, once the switcher listens.
func (in *installed) miners() []*stratumtest.Miner {
	in.t.Helper()
	in.listening()
	var miners []*stratumtest.Miner
	for i := range 5 {
		opts := stratumtest.MinerOptions{Addr: in.addr, Worker: fmt.Sprintf("alice.%d", i), Rate: 20}
		if i < 2 {
			opts.TLS = in.authority.Client("switcher.test")
		}
		m := testkit.StartMiner(in.t, opts)
		miners = append(miners, m)
	}
	for _, m := range miners {
		testkit.WaitPool(in.t, m, "btc")
	}
	return miners
}

// checkTLS makes a miner connect with TLS and leave.
func (in *installed) checkTLS() {
	in.t.Helper()
	m := testkit.StartMiner(in.t, stratumtest.MinerOptions{Addr: in.addr, Worker: "alice.tls", Rate: 20, TLS: in.authority.Client("switcher.test")})
	testkit.WaitAccepted(in.t, m, 2)
	m.Close()
}

func (in *installed) listening() {
	in.t.Helper()
	testkit.WaitUntil(in.t, "listening", func() bool {
		c, err := net.Dial("tcp", in.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// checkMining checks that miners were never disconnected and mine at the pool.
func (in *installed) checkMining(miners []*stratumtest.Miner, pool string) {
	in.t.Helper()
	for _, m := range miners {
		testkit.WaitPool(in.t, m, pool)
		testkit.WaitAccepted(in.t, m, 2)
		testkit.CheckMiner(in.t, m)
	}
}

// upgradePackage installs the other version while miners are connected. pid is the
// switcher's in the machine.
func (in *installed) upgradePackage(pid string) {
	in.t.Helper()
	before := in.run(`cut -d' ' -f22 /proc/$1/stat`, pid)
	out := in.run(`dpkg -i --force-depends --force-confdef --force-confold "$1" 2>&1 </dev/null`, in.new)
	if strings.Contains(out, "did not take") || strings.Contains(out, "not started yet") {
		in.t.Errorf("unexpected output of the upgrade:\n%s", out)
	}
	if got := in.run(`/proc/$1/exe -version`, pid); got != "stratumSwitcher v1.1.0" {
		in.t.Errorf("after the upgrade, process %s runs %s, which is not the new version", pid, got)
	}
	if after := in.run(`cut -d' ' -f22 /proc/$1/stat`, pid); after != before {
		in.t.Errorf("process %s began at %s, but now at %s, so it is another one", pid, before, after)
	}
	if got := in.run(`cat /etc/stratumSwitcher/config.json`); got != in.config {
		in.t.Errorf("the operator's configuration is lost:\n%s", got)
	}
	in.run(`test -f /etc/stratumSwitcher/config.json.dpkg-dist`)
	if got := in.run(`stat -c '%U %G %a' /etc/stratumSwitcher/config.json`); got != "root stratumswitcher 640" {
		in.t.Errorf("unexpected mode or owner of config.json after the upgrade: %s", got)
	}
}

// removePackage removes and purges the package while the program runs as pid.
func (in *installed) removePackage(pid string) {
	in.t.Helper()
	in.run(`dpkg --remove stratumswitcher 2>&1`)
	in.expect("", `ls -d /proc/`+pid+` 2>/dev/null`)
	in.expect("", `pgrep -x switcherTunnel || true`)
	if got := in.run(`cat /etc/stratumSwitcher/config.json`); got != in.config {
		in.t.Errorf("unexpected configuration after the removal:\n%s", got)
	}
	in.run(`test ! -e /usr/bin/stratumSwitcher; test ! -e /usr/lib/systemd/system/stratumSwitcher.service; test -d /var/log/stratumSwitcher`)
	in.run(`rm -f /etc/supervisor/conf.d/stratumSwitcher.conf; dpkg --purge stratumswitcher 2>&1`)
	if got := in.run(`find /etc /run /usr/bin /usr/lib/stratumSwitcher /usr/lib/systemd /usr/share/stratumSwitcher /var/lib /var/log \
		-maxdepth 4 -iname '*stratumswitcher*' -newer /mnt/shared/old.deb 2>/dev/null || true`); got != "" {
		in.t.Errorf("the purge has left files:\n%s", got)
	}
}

func TestPackageUnderSystemd(t *testing.T) {
	t.Parallel()
	in := installPackage(t, "/lib/systemd/systemd", "--system", "--unit=machine.target", "--log-target=console")
	if out := in.run(`systemd-analyze verify stratumSwitcher.service stratumSwitcher-logs.service stratumSwitcher-logs.timer 2>&1 | grep stratumSwitcher || true`); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	in.expect("inactive\ndisabled\nactive", `systemctl is-active stratumSwitcher || true; systemctl is-enabled stratumSwitcher || true; systemctl is-active stratumSwitcher-logs.timer`)

	// It does not start while supervisor's entry is in place.
	in.run(`cp /usr/share/stratumSwitcher/supervisor.conf /etc/supervisor/conf.d/stratumSwitcher.conf`)
	if got := in.run(`systemctl start stratumSwitcher; systemctl is-active stratumSwitcher || true`); got != "inactive" {
		t.Errorf("unexpected state beside supervisor: %s", got)
	}
	in.run(`rm /etc/supervisor/conf.d/stratumSwitcher.conf`)

	// This is what the service would write to the journal.
	in.run(`mkdir -p /run/systemd/system/stratumSwitcher.service.d
		printf '[Service]\nStandardOutput=append:/mnt/shared/stderr\nStandardError=append:/mnt/shared/stderr\n' >/run/systemd/system/stratumSwitcher.service.d/output.conf
		systemctl daemon-reload`)
	in.run(`systemctl enable --now stratumSwitcher`)
	miners := in.miners()
	pid := in.run(`systemctl show -p MainPID --value stratumSwitcher`)
	files := in.run(`ulimit -Hn 65535 2>/dev/null || true; ulimit -Hn`) // not every root user may raise it
	if got := in.run(`stat -c %U /proc/$1; grep 'open files' /proc/$1/limits | tr -s ' '; grep -E '^(NoNewPrivs|CapBnd)' /proc/$1/status; [ /proc/$1/cwd -ef /var/lib/stratumSwitcher ]`, pid); got !=
		"stratumswitcher\nMax open files "+files+" "+files+" files \nCapBnd:\t0000000000000000\nNoNewPrivs:\t1" {
		t.Errorf("unexpected properties of the process:\n%s", got)
	}
	tunnel := `pgrep -x -P ` + pid + ` switcherTunnel`
	if got := in.run(`stat -c %U /proc/$1; grep -E '^(NoNewPrivs|CapBnd|CapEff)' /proc/$1/status; grep -q stratumSwitcher.service /proc/$1/cgroup`, in.run(tunnel)); got !=
		"stratumswitcher\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1" {
		t.Errorf("unexpected properties of the tunnel process:\n%s", got)
	}

	in.run(`systemctl reload stratumSwitcher`)
	in.expect("yes", `tr '\0' ' ' </proc/`+pid+`/cmdline | grep -q runtime.json && echo yes`)
	in.checkMining(miners, "btc")
	in.upgradePackage(pid)
	in.checkMining(miners, "btc")

	// A version that cannot work is refused, and the person who installs it sees that.
	in.run(`echo '{}' >/etc/stratumSwitcher/config.json`)
	if out := in.run(`dpkg -i --force-depends --force-downgrade --force-confold "$1" 2>&1`, in.old); !strings.Contains(out, "process "+pid+" did not take the new version") {
		t.Errorf("the installation says nothing about the refused upgrade:\n%s", out)
	}
	in.run(`printf %s "$1" >/etc/stratumSwitcher/config.json`, in.config)
	if got := in.run(`systemctl show -p MainPID --value stratumSwitcher`); got != pid {
		t.Errorf("the main process is %s, want %s as before", got, pid)
	}
	in.run(`echo '{"alice": "bcc"}' >/var/lib/stratumSwitcher/coins.json`)
	in.checkMining(miners, "bcc")
	if out, err := in.try(`grep "upgrade refused" /var/log/stratumSwitcher/stratumSwitcher.ERROR`); err != nil {
		t.Errorf("the log has no reason for the refusal: %s", out)
	}

	in.run(`kill -KILL $1`, pid)
	in.expect("restarted", `now=$(systemctl show -p MainPID --value stratumSwitcher); [ $now != 0 ] && [ $now != `+pid+` ] && echo restarted`)
	in.listening()
	in.expect("", `pgrep -x switcherTunnel || true`)
	in.checkTLS()
	in.run(`systemctl stop stratumSwitcher`)
	in.expect("", `pgrep -x switcherTunnel || true`)
	if got := in.run(`systemctl show -p Result -p ExecMainStatus stratumSwitcher`); got != "Result=success\nExecMainStatus=0" {
		t.Errorf("unexpected state after the stop: %s", got)
	}
	in.run(`systemctl start stratumSwitcher-logs.service; systemctl start stratumSwitcher`)
	in.listening()
	in.run(`rm -r /run/systemd/system/stratumSwitcher.service.d; systemctl daemon-reload`)
	in.removePackage(in.run(`systemctl show -p MainPID --value stratumSwitcher`))
	testkit.CheckPool(t, in.btc)
}

func TestPackageUnderSupervisor(t *testing.T) {
	t.Parallel()
	in := installPackage(t, "/usr/bin/supervisord", "-n", "-c", "/etc/supervisor/supervisord.conf")
	in.expect("", `supervisorctl status`)
	in.run(`cp /usr/share/stratumSwitcher/supervisor.conf /etc/supervisor/conf.d/stratumSwitcher.conf; supervisorctl reread; supervisorctl update`)
	miners := in.miners()
	pid := in.run(`supervisorctl pid stratumSwitcher`)
	if got := in.run(`stat -c %U /proc/$1`, pid); got != "stratumswitcher" {
		t.Errorf("the program runs as %s, want stratumswitcher", got)
	}
	in.run(`supervisorctl signal USR2 stratumSwitcher`)
	in.expect("yes", `tr '\0' ' ' </proc/`+pid+`/cmdline | grep -q runtime.json && echo yes`)
	in.checkMining(miners, "btc")
	in.upgradePackage(pid)
	in.checkMining(miners, "btc")
	if got := in.run(`supervisorctl pid stratumSwitcher`); got != pid {
		t.Errorf("the process is %s, want %s as before", got, pid)
	}

	in.run(`kill -KILL $1`, pid)
	in.expect("restarted", `now=$(supervisorctl pid stratumSwitcher); [ $now != 0 ] && [ $now != `+pid+` ] && echo restarted`)
	in.listening()
	in.checkTLS()
	pid = in.run(`supervisorctl pid stratumSwitcher`)
	in.run(`supervisorctl stop stratumSwitcher`)
	in.run(`test ! -d /proc/$1; grep -q "stopping on terminated" /var/log/stratumSwitcher/stratumSwitcher.INFO; grep "stopped: stratumSwitcher (exit status 0)" /var/log/supervisor/supervisord.log`, pid)
	in.run(`supervisorctl start stratumSwitcher >/dev/null 2>&1 &`) // it waits for startsecs
	in.listening()
	in.removePackage(in.run(`supervisorctl pid stratumSwitcher`))
}

func TestCleanLogs(t *testing.T) {
	t.Parallel()
	needTools(t, "find", "du", "stat")
	dir := t.TempDir()
	name := func(severity string, pid int) string {
		return fmt.Sprintf("stratumSwitcher.host.user.log.%s.20250101-000000.%d", severity, pid)
	}
	create := func(name string, age time.Duration, kilobytes int) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.Write(make([]byte, kilobytes<<10))
		at := time.Now().Add(-age)
		if err := os.Chtimes(f.Name(), at, at); err != nil {
			t.Fatal(err)
		}
		return f
	}
	const day = 24 * time.Hour
	gone := 1 << 22 // no process has this number
	open := create(name("ERROR", os.Getpid()), 90*day, 3000)
	defer open.Close()
	create(name("INFO", os.Getpid()), 90*day, 1).Close() // from before an upgrade
	create(name("INFO", gone), 40*day, 1).Close()
	create(name("INFO", gone+1), 20*day, 1).Close()
	create(name("INFO", gone+2), 2*day, 900).Close()
	create(name("INFO", gone+3), 3*day, 2000).Close() // too much together with the newer file
	create("stdout.log", 90*day, 1).Close()
	os.Symlink(filepath.Base(open.Name()), filepath.Join(dir, "stratumSwitcher.ERROR"))
	// A process that is busy opens and closes files while the script looks at them.
	stop := make(chan struct{})
	var busy sync.WaitGroup
	defer busy.Wait()
	defer close(stop)
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				var files []*os.File
				for range 100 {
					if f, err := os.Open(os.DevNull); err == nil {
						files = append(files, f)
					}
				}
				for _, f := range files {
					f.Close()
				}
			}
		}
	})
	run := func(days, megabytes string, want ...string) {
		t.Helper()
		command(t, "", "sh", "deploy/clean-logs", dir, days, megabytes)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		want = append(want, filepath.Base(open.Name()), "stdout.log", "stratumSwitcher.ERROR")
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("files left:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	run("30", "1000", name("INFO", gone+1), name("INFO", gone+2), name("INFO", gone+3))
	run("30", "2", name("INFO", gone+2))
}

func TestMakeInstall(t *testing.T) {
	t.Parallel()
	needTools(t, "make")
	dir := t.TempDir()
	command(t, "", "make", "install", "DESTDIR="+dir, "PREFIX=/opt/switcher")
	for path, want := range map[string]string{
		"bin/stratumSwitcher":                             "",
		"share/stratumSwitcher/config.default.json":       "",
		"share/stratumSwitcher/supervisor.conf":           "command=/opt/switcher/bin/stratumSwitcher -config",
		"lib/stratumSwitcher/clean-logs":                  "",
		"lib/systemd/system/stratumSwitcher.service":      "ExecStart=/opt/switcher/bin/stratumSwitcher -config",
		"lib/systemd/system/stratumSwitcher-logs.service": "ExecStart=/opt/switcher/lib/stratumSwitcher/clean-logs",
		"lib/systemd/system/stratumSwitcher-logs.timer":   "",
		"share/man/man8/stratumSwitcher.8":                "/opt/switcher/share/doc/stratumswitcher/README.md",
		"share/doc/stratumswitcher/docs/configuration.md": "",
		"share/doc/stratumswitcher/copyright":             "",
	} {
		content, err := os.ReadFile(filepath.Join(dir, "opt/switcher", path))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Contains(content, []byte(want)) {
			t.Errorf("%s has no %q", path, want)
		}
		if !strings.HasPrefix(path, "bin/") && !strings.HasPrefix(path, "share/doc/") && bytes.Contains(content, []byte("=/usr/")) {
			t.Errorf("%s contains a path outside the prefix", path)
		}
	}
}
