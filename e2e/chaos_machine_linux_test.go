//go:build linux && e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// daemonMachine is a network namespace in which the daemon runs alone, as if on a
// machine of its own: it has its own range of local ports and its own names of
// pools. Pools, miners and ZooKeeper are in home, the test's own namespace, at the
// other end of a virtual cable.
type daemonMachine struct {
	t     *testing.T
	name  string   // of the namespace
	home  string   // IP of pools
	ip    string   // IP of the daemon
	dead  []string // IPs where nothing answers: one refuses, one is silent, one has no route
	names []string // of pools
}

// Local ports of the machine: enough for everybody, and fewer than there are
// miners.
const (
	manyLocalPorts = "32768 60999"
	fewLocalPorts  = "20000 20063"
)

func makeDaemonMachine(t *testing.T) *daemonMachine {
	t.Helper()
	daemontest.Namespaces.Lock()
	daemontest.Namespaces.Made++
	n := daemontest.Namespaces.Made
	daemontest.Namespaces.Unlock()
	m := &daemonMachine{t: t, name: fmt.Sprintf("swm-%d-%d", os.Getpid(), n)}
	if out, err := exec.Command("ip", "netns", "add", m.name).CombinedOutput(); err != nil {
		t.Fatalf("network namespaces are needed (root): %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", m.name).Run() })
	// These eight addresses are most likely used by no other test.
	prefix := fmt.Sprintf("10.%d.%d.", 64+rand.IntN(128), rand.IntN(256))
	first := 8 * rand.IntN(32)
	at := func(i int) string { return fmt.Sprint(prefix, first+i) }
	m.home, m.ip = at(1), at(2)
	m.dead = []string{at(3), at(4), "fd5a:7::1"}
	cable := fmt.Sprintf("sw%d-%d", os.Getpid(), n)
	daemontest.IP(t, "link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", m.name)
	daemontest.IP(t, "addr", "add", m.home+"/29", "dev", cable)
	daemontest.IP(t, "addr", "add", at(3)+"/29", "dev", cable) // where nobody listens
	daemontest.IP(t, "link", "set", cable, "up")
	daemontest.IP(t, "-n", m.name, "link", "set", "lo", "up")
	daemontest.IP(t, "-n", m.name, "addr", "add", m.ip+"/29", "dev", "cable")
	daemontest.IP(t, "-n", m.name, "link", "set", "cable", "up")
	// Packets to this address are lost.
	daemontest.IP(t, "-n", m.name, "neigh", "add", at(4), "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "cable")
	// "ip netns exec" mounts these files over those of /etc.
	if err := os.MkdirAll(m.etc(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(m.etc()) })
	m.setHosts(nil)
	return m
}

func (m *daemonMachine) etc() string { return filepath.Join("/etc/netns", m.name) }

// unusedAddr is an address where a pool may listen.
func (m *daemonMachine) unusedAddr() string {
	m.t.Helper()
	_, port, _ := net.SplitHostPort(testkit.UnusedAddr(m.t))
	return net.JoinHostPort(m.home, port)
}

// ownAddr is an address where the daemon may listen.
func (m *daemonMachine) ownAddr() string {
	m.t.Helper()
	_, port, _ := net.SplitHostPort(testkit.UnusedAddr(m.t))
	return net.JoinHostPort(m.ip, port)
}

// named gives the IP of a pool's address a name. All pools have this IP.
func (m *daemonMachine) named(name, addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	name += ".pool"
	m.names = append(m.names, name)
	m.setHosts(nil)
	return net.JoinHostPort(name, port)
}

// setHosts gives each name the IP of the pools and the dead ones, in random order.
// If rng is nil, there are no dead ones.
func (m *daemonMachine) setHosts(rng *rand.Rand) {
	m.t.Helper()
	text := "127.0.0.1 localhost\n"
	for _, name := range m.names {
		ips := []string{m.home}
		if rng != nil {
			ips = append(ips, m.dead...)
			rng.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
		}
		for _, ip := range ips {
			text += ip + " " + name + "\n"
		}
	}
	// Write in place, because the daemon has the file itself mounted.
	if err := os.WriteFile(filepath.Join(m.etc(), "hosts"), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// proxy makes a ZooKeeper server in home reachable from the machine.
func (m *daemonMachine) proxy(server string) *zktest.Proxy {
	m.t.Helper()
	p, err := zktest.NewProxyAt(m.home+":0", server)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(p.Close)
	return p
}

// setLocalPorts sets the range of ports of outgoing connections.
func (m *daemonMachine) setLocalPorts(ports string) {
	m.t.Helper()
	args := []string{"netns", "exec", m.name, "sysctl", "-qw", "net.ipv4.ip_local_port_range=" + ports}
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		m.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
