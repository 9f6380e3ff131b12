//go:build linux && e2e

package e2e

import (
	"io"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Sessions of the previous process are counted, and stay whatever the new limits.
func TestUpgradeKeepsSessionsOverLoweredLimits(t *testing.T) {
	t.Parallel()
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	c := daemontest.FileConfig(btc)
	c.TrustedProxies = []string{"127.0.0.9"}
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	mine := func(source, header string) *stratumtest.Raw {
		r := stratumtest.NewRaw(t, testkit.DialFrom(t, source, p.Addr))
		r.Send(header + testkit.RawSubscribe + "\n" + testkit.RawAuthorize + "\n")
		r.ExpectMethodAfter(`{"id":2,"result":true,"error":null}`)
		r.ExpectMethod("mining.notify")
		return r
	}
	const header = "PROXY TCP4 192.0.2.1 10.0.0.1 4444 18080\r\n"
	miners := []*stratumtest.Raw{
		mine("127.0.0.2", ""), mine("127.0.0.2", ""), mine("127.0.0.2", ""), // more than the new limit
		mine("127.0.0.9", header), mine("127.0.0.9", header), // as many as the new limit
		mine("127.0.0.9", ""), mine("127.0.0.9", ""), mine("127.0.0.9", ""), // not limited
	}
	c.MaxSessionsPerIP, c.MaxSessions = 2, 9
	p.WriteConfig(c)
	if sessions, lost, _ := p.Upgrade(); sessions != "8" || lost != "0" {
		t.Fatalf("%s sessions and %s lost, want all and none", sessions, lost)
	}
	newcomer := func(source, header string) bool {
		nc := testkit.DialFrom(t, source, p.Addr)
		defer nc.Close()
		io.WriteString(nc, header)
		return testkit.IsOpen(t, nc)
	}
	for _, refused := range [][2]string{{"127.0.0.2", ""}, {"127.0.0.9", header}} {
		if newcomer(refused[0], refused[1]) {
			t.Errorf("a new miner from %s with the header %q was let in, want a refusal", refused[0], refused[1])
		}
	}
	p.WaitLog(`refused reason=per_ip connections=1 last=127\.0\.0\.2:\d+: MaxSessionsPerIP is 2`)
	testkit.WaitUntil(t, "a trusted proxy is let in", func() bool { return newcomer("127.0.0.9", "") })
	miners[0].Close()
	miners[1].Close()
	testkit.WaitUntil(t, "there is room again", func() bool { return newcomer("127.0.0.2", "") })
	for _, r := range miners[2:] {
		r.SendLine(`{"id":9,"method":"mining.extranonce.subscribe","params":[]}`)
		r.ExpectLine(`{"id":9,"result":true,"error":null}`)
	}
}
