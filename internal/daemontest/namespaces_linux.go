package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The switcher of TestOutage and its pools run in two network namespaces, which a pair of
// virtual interfaces connects. These are the addresses of the two interfaces.
const (
	SwitcherIP = "10.213.77.1"
	PoolIP     = "10.213.77.2"
)

// IP runs the command ip and fails the test if it fails.
func IP(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

var Namespaces struct {
	sync.Mutex
	Made int
}

// MakeNamespaces creates the two namespaces. The test fails if that is not allowed.
func MakeNamespaces(t *testing.T) (switcher, pools string) {
	t.Helper()
	Namespaces.Lock()
	Namespaces.Made++
	suffix := fmt.Sprintf("%d-%d", os.Getpid(), Namespaces.Made)
	Namespaces.Unlock()
	switcher, pools = "sws-"+suffix, "swp-"+suffix
	if out, err := exec.Command("ip", "netns", "add", switcher).CombinedOutput(); err != nil {
		t.Fatalf("cannot create a network namespace, which needs root: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", switcher).Run() })
	IP(t, "netns", "add", pools)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", pools).Run() })
	IP(t, "-n", switcher, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", pools)
	for ns, addr := range map[string]string{switcher: SwitcherIP, pools: PoolIP} {
		IP(t, "-n", ns, "link", "set", "lo", "up")
		IP(t, "-n", ns, "addr", "add", addr+"/24", "dev", "cable")
		IP(t, "-n", ns, "link", "set", "cable", "up")
	}
	return switcher, pools
}

// InNamespace calls f in the named network namespace, so that f can open sockets there.
func InNamespace(t *testing.T, name string, f func()) {
	t.Helper()
	// The thread must go on in its former namespace, because processes that it started
	// end when it ends.
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(home)
	there, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		t.Fatalf("namespace %s: %v", name, err)
	}
	defer func() {
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread must not serve other goroutines in this namespace
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// StartIn is Start in a network namespace.
func StartIn(t *testing.T, namespace string, c *Config, coins map[string]string, args ...string) *Daemon {
	t.Helper()
	p := New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(coins)
	wrapper := filepath.Join(p.Dir, "in-namespace")
	script := fmt.Sprintf("#!/bin/sh\nexec ip netns exec %s %s \"$@\"\n", namespace, p.Binary)
	p.Replace(wrapper, []byte(script), 0o755)
	p.Binary = wrapper
	p.Start(append([]string{"-logtostderr", "-v=1"}, args...)...)
	return p
}
