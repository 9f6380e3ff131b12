//go:build linux && e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A pool moves to another IP: its name leads there, and nobody listens at the old
// IP. Its miners are kept and follow. Then the name can no longer be looked up,
// which nobody notices.
func TestNameThatChanges(t *testing.T) {
	t.Parallel()
	first := testkit.StartPool(t, stratumtest.PoolOptions{Name: "first", SkipWork: true})
	port := netip.MustParseAddrPort(first.Addr()).Port()
	c := daemontest.FileConfig()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: fmt.Sprintf("pool.test:%d", port)}
	p := daemontest.New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(map[string]string{"alice": "btc", "bob": "btc", "carol": "btc"})
	hosts := filepath.Join(p.Dir, "hosts")
	setHosts := func(text string) {
		t.Helper()
		// Write in place, because the file is mounted over another.
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	setHosts("127.0.0.1 localhost pool.test\n::1 pool.test\n")
	wrapper := filepath.Join(p.Dir, "with-hosts")
	p.Replace(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s /etc/hosts && exec %s \"$@\"' sh \"$@\"\n", hosts, p.Binary), 0o755)
	p.Binary = wrapper
	p.Start("-logtostderr", "-v=1")
	crew := testkit.GoodCrew(t, p.Addr, 20, "alice", "bob", "carol")
	testkit.CheckServed(t, crew, "first", false)

	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	second := testkit.ServeChoosyPool(t, ln, "second", nil)
	setHosts("127.0.0.2 localhost pool.test\n")
	first.Close()
	moved := time.Now()
	for _, m := range crew {
		if err := m.WaitFor(testkit.LongContext(t, 25*time.Second), func(st stratumtest.MinerStats) bool { return st.Pool == "second" || st.Disconnected }); err != nil {
			t.Fatalf("miner %s does not get to the pool's new IP: %v", m.Worker(), err)
		}
	}
	t.Logf("all follow after %v", time.Since(moved).Round(10*time.Millisecond))
	testkit.CheckServed(t, crew, "second", true)

	setHosts("127.0.0.1 localhost\n")
	time.Sleep(6 * time.Second) // Go keeps what it has read of the file for 5 s
	second.DropServed()
	testkit.WantPrompt(t, p.Addr, "alice.new", "second")
	testkit.WaitAllAccepted(t, crew, 2)
	testkit.CheckServed(t, crew, "second", true)
}
