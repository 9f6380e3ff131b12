//go:build linux && e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// machine is a private copy of this system with its own processes and file system.
// What is installed in it exists nowhere else.
type machine struct {
	t   testing.TB
	pid string // pid of its init
	id  string
	cmd *exec.Cmd
	out *bytes.Buffer
}

// machineOuter gives the machine a cgroup of its own, in which everything is private.
const machineOuter = `
set -eu
dir=$1 id=$2 inner=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$dir"
cd "$dir"
mkdir cgroup
mount -t cgroup2 cgroup2 cgroup
own=cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$id
mkdir "$own"
echo $$ >"$own/cgroup.procs"
exec unshare --cgroup --pid --uts --ipc --fork --kill-child sh -c "$inner" sh "$@"
`

// machineInner gives it this system's files and keeps changes in memory. Files of the
// kernel cannot be written.
const machineInner = `
set -eu
shared=$1
shift
read -r pid rest </proc/self/stat
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs tmpfs mnt
mkdir mnt/shared
mount --bind "$shared" mnt/shared
if [ -n "${BUILD_CACHE:-}" ]; then
	mkdir -p ".$BUILD_CACHE"
	mount --bind "$BUILD_CACHE" ".$BUILD_CACHE"
fi
# Nothing of this system starts in it.
rm -rf etc/systemd/system/*.wants lib/systemd/system/*.wants etc/supervisor/conf.d/*
printf '[Unit]\nDescription=empty\n' >etc/systemd/system/machine.target
for unit in sysinit basic network-online; do
	cp etc/systemd/system/machine.target etc/systemd/system/$unit.target
done
export container=other
old=former-root-$$
mkdir $old
pivot_root . $old
umount -l /$old
rmdir /$old
echo "machine $pid"
exec "$@"
`

// machineLogs prints the logs that a failed test leaves in the machine.
const machineLogs = `
for file in /mnt/shared/stderr /var/log/stratumSwitcher/*.log* /var/log/supervisor/supervisord.log; do
	[ -f "$file" ] || continue
	echo "== $file"
	tail -n 60 "$file"
done
if [ -d /run/systemd/system ]; then
	systemctl status --no-pager stratumSwitcher || true
	systemctl show stratumSwitcher | grep -E '^(Result|NRestarts|ExecMain|ExecStart=|ActiveEnter|InactiveExit|ActiveExit)' || true
fi
`

const machineCleanup = `
set -eu
mount --make-rprivate /
mount -t cgroup2 cgroup2 /mnt
own=/mnt$(sed -n 's/^0:://p' /proc/self/cgroup)/$1
for try in 1 2 3 4 5 6 7 8 9 10; do
	[ -d "$own" ] || exit 0
	! find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || exit 0
	sleep 0.2
done
exit 1
`

// startMachine starts a machine that runs init. The directory shared is /mnt/shared
// in it.
func startMachine(t testing.TB, shared string, init ...string) *machine {
	t.Helper()
	return startMachineIn(t, []string{"--mount"}, shared, init...)
}

// startMachineAlone starts a machine with a network of its own.
func startMachineAlone(t testing.TB, shared string, init ...string) *machine {
	t.Helper()
	return startMachineIn(t, []string{"--mount", "--net"}, shared, init...)
}

func startMachineIn(t testing.TB, namespaces []string, shared string, init ...string) *machine {
	t.Helper()
	needTools(t, "unshare", "nsenter", "useradd", init[0])
	m := &machine{t: t, id: fmt.Sprintf("stratumSwitcher-test-%d-%d", os.Getpid(), time.Now().UnixNano()), out: new(bytes.Buffer)}
	line := slices.Concat([]string{"unshare"}, namespaces, []string{"sh", "-c", machineOuter, "sh", t.TempDir(), m.id, machineInner, shared}, init)
	line = asRoot(line...)
	m.cmd = exec.Command(line[0], line[1:]...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stdout, m.cmd.Stderr = w, w
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		// What is compiled in the machine outlasts it. With sudo it does not: root
		// would own files in a user's cache.
		m.cmd.Env = append(os.Environ(), "BUILD_CACHE="+strings.TrimSpace(command(t, "", "go", "env", "GOCACHE")))
	}
	err = m.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	ready, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		defer close(ready)
		buf := make([]byte, 4096)
		var all []byte
		for told := false; ; {
			n, err := r.Read(buf)
			all = append(all, buf[:n]...)
			if f := regexp.MustCompile(`(?m)^machine (\d+)$`).FindSubmatch(all); f != nil && !told {
				told = true
				ready <- string(f[1])
			}
			if err != nil {
				m.out.Write(all)
				return
			}
		}
	}()
	t.Cleanup(func() {
		if m.pid != "" {
			if t.Failed() {
				logs, _ := m.try(machineLogs)
				t.Logf("its logs:\n%s", logs)
			}
			line := asRoot("kill", "-KILL", m.pid) // the other processes end with init
			exec.Command(line[0], line[1:]...).Run()
		}
		m.cmd.Process.Kill()
		m.cmd.Wait()
		<-drained
		r.Close()
		if t.Failed() {
			t.Logf("the machine said:\n%s", m.out)
		}
		line := asRoot("unshare", "--mount", "sh", "-c", machineCleanup, "sh", m.id)
		if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
			t.Errorf("cgroup %s still exists: %v %s", m.id, err, out)
		}
	})
	select {
	case m.pid = <-ready:
	case <-time.After(testkit.LongWait):
	}
	if m.pid == "" {
		t.Fatal("the machine does not start. It takes root (or sudo without a password) and the right to mount")
	}
	return m
}

// try runs a shell script in the machine.
func (m *machine) try(script string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	line := asRoot(append([]string{"nsenter", "-t", m.pid, "-m", "-p", "-u", "-i", "-C", "-r", "-w", "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "STRATUM_SWITCHER_UPGRADE_SECONDS=2",
		"sh", "-ec", script, "sh"}, args...)...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run is like try, but the script must succeed.
func (m *machine) run(script string, args ...string) string {
	m.t.Helper()
	out, err := m.try(script, args...)
	if err != nil {
		m.t.Fatalf("%s %q: %v\n%s", script, args, err, out)
	}
	return out
}

// expect waits until a script's output is want.
func (m *machine) expect(want, script string) {
	m.t.Helper()
	var got string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if got, _ = m.try(script); got == want {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("%s: got %q, want %q", script, got, want)
		}
	}
}
