//go:build linux && e2e

package e2e

import (
	"crypto/tls"
	"net"
	"os"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Miners with TLS and without connect to the same port, and switch and mine in the
// same way.
func TestTLSMiners(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc, bcc := testkit.TwoPools(t)
	d := daemontest.Start(t, w.config([]*stratumtest.Pool{btc, bcc}), map[string]string{"*": "btc"})
	if pids := tunnelProcesses(t, d.Cmd.Process.Pid); len(pids) > 0 {
		t.Errorf("there are tunnel processes %v before any connection with TLS", pids)
	}
	secured := testkit.FleetOf(t, d.Addr, "alice", 20, 100, stratumtest.MinerOptions{TLS: w.miner(), Configure: 0x1fffe000})
	plain := testkit.FleetOf(t, d.Addr, "bob", 20, 100, stratumtest.MinerOptions{Configure: 0x1fffe000})
	tunnelOf(t, d)
	for _, coin := range []string{"bcc", "btc"} {
		d.SetCoins(map[string]string{"*": coin})
		for _, f := range []*stratumtest.Fleet{secured, plain} {
			if _, err := f.WaitPool(testkit.LongWaitContext(t), coin); err != nil {
				t.Fatal(err)
			}
			testkit.WantMining(t, f.Miners(), coin)
		}
	}
	for _, f := range []*stratumtest.Fleet{secured, plain} {
		testkit.SettleFleet(t, f)
	}
	testkit.CheckPool(t, btc)
	testkit.CheckPool(t, bcc)
	agent, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: d.Addr, TLS: w.miner(), Worker: "alice.agent"})
	testkit.Must(t, err)
	defer agent.Close()
	testkit.Must(t, agent.Run(testkit.LongWaitContext(t), 3, 2))
}

// A load balancer may pass TLS on unchanged, with a PROXY header before it.
func TestTLSMinersBehindProxy(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, RecordLines: true})
	c := w.config([]*stratumtest.Pool{btc})
	c.TrustedProxies = []string{"127.0.0.1"}
	d := daemontest.Start(t, c, map[string]string{"*": "btc"}, "-v=2")
	header := "PROXY TCP4 192.0.2.7 127.0.0.1 40000 3333\r\n"
	for _, apart := range []bool{false, true} {
		nc, err := net.Dial("tcp", d.Addr)
		testkit.Must(t, err)
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(e2eWait))
		config := w.miner()
		hello := &headed{Conn: nc, header: []byte(header)}
		if apart {
			_, err := nc.Write([]byte(header))
			testkit.Must(t, err)
			hello.header = nil
		}
		login := testkit.DialLogin(func() (net.Conn, error) { return tls.Client(hello, config), nil }, "alice.rig", "test/1.0")
		if !login.Accepted() {
			t.Fatalf("header apart %v: the miner is not served: %+v", apart, login)
		}
		login.Close()
	}
	d.WaitLog(`miner=192\.0\.2\.7:40000 .* mining`)
}

// headed sends a header before the first write.
type headed struct {
	net.Conn
	header []byte
}

func (h *headed) Write(b []byte) (int, error) {
	header := h.header
	h.header = nil
	n, err := h.Conn.Write(append(header, b...))
	return max(n-len(header), 0), err
}

// With TLSRequired, only miners with TLS are served.
func TestTLSRequired(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	c := w.config([]*stratumtest.Pool{btc})
	c.TLSRequired = true
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: "alice.tls"})
	testkit.WaitAccepted(t, m, 1)
	raw := stratumtest.DialRaw(t, d.Addr)
	raw.Send(`{"id":1,"method":"mining.subscribe","params":[]}` + "\n")
	raw.ExpectClosed()
}

// Renewed files are used without an upgrade. If the two files do not belong
// together, the previous pair stays in use, and this is reported.
func TestTLSCertificateRenewed(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	c := daemontest.FileConfig(btc)
	dir := t.TempDir()
	until := time.Now().Add(90 * 24 * time.Hour)
	c.TLSCertFile, c.TLSKeyFile = w.Issue(dir, until, "first.test")
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	first := startSecuredAs(t, d, w.Client("first.test"), 1)[0]
	tunnel := tunnelOf(t, d)

	n := d.Logged()
	other, _ := w.Issue(t.TempDir(), until, "other.test")
	content, err := os.ReadFile(other)
	testkit.Must(t, err)
	testkit.Must(t, os.WriteFile(c.TLSCertFile, content, 0o600)) // it does not belong to the former key
	d.WaitLogFrom(n, `TLS certificate not renewed: .*the key does not belong to the certificate.*; the one before stays in use`)
	startSecuredAs(t, d, w.Client("first.test"), 1)

	n = d.Logged()
	w.Issue(dir, until, "second.test")
	d.WaitLogFrom(n, `TLS certificate in use names=second\.test`)
	startSecuredAs(t, d, w.Client("second.test"), 1)
	testkit.WantAccepted(t, first, 1)
	if pid := tunnelOf(t, d); pid != tunnel {
		t.Errorf("the tunnel process is %d, want %d as before", pid, tunnel)
	}
}
