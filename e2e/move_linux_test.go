//go:build linux && e2e

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// All miners of one sub-account move to a pool that answers at once. The log says
// how long that took, from the change of the coin until the last miner has the new
// pool's job.
func TestMoveToPromptPool(t *testing.T) {
	t.Parallel() // it reports times, but has no limit for them
	miners, moves := 500, 2
	if *daemontest.Long {
		miners, moves = 5000, 21
	}
	pools := map[string]*stratumtest.LeanPool{}
	for _, coin := range []string{"btc", "bcc"} {
		pools[coin] = startLeanPool(t, stratumtest.LeanPoolOptions{Name: coin, JobSize: 100})
	}
	c := daemontest.FileConfig()
	c.PoolIdleSeconds, c.DrainSeconds = 0, 1
	for coin, p := range pools {
		c.StratumServerMap[coin] = daemontest.PoolConfig{URL: p.Addr(), UserSuffix: coin}
	}
	p := daemontest.Start(t, c, map[string]string{"alice": "btc"})
	conns := make([]net.Conn, miners)
	for i := range conns {
		conn, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns[i] = conn
		fmt.Fprintf(conn, `{"id":1,"method":"mining.subscribe","params":["m"]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["alice.%d","x"]}`+"\n", i)
	}
	testkit.WaitUntil(t, "all miners at the first pool", func() bool { return pools["btc"].Stats().Authorized == miners })
	var times []int // ms
	used := processCPU(t, p.Cmd.Process.Pid)
	for i := range moves {
		coin := []string{"bcc", "btc"}[i%2]
		from := p.Logged()
		p.SetCoins(map[string]string{"alice": coin})
		m := p.WaitLogFrom(from, fmt.Sprintf(`switch account="alice" to="%s" miners=(\d+) failed_links=(\d+) ms=(\d+): done`, coin))
		if n, _ := strconv.Atoi(m[1]); n != miners || m[2] != "0" {
			t.Errorf("move %d: %s miners moved and %s links failed, want all and none", i+1, m[1], m[2])
		}
		t.Logf("move %d: %s miners in %s ms", i+1, m[1], m[3])
		ms, _ := strconv.Atoi(m[3])
		times = append(times, ms)
		time.Sleep(time.Duration(c.DrainSeconds)*time.Second + 500*time.Millisecond) // until the former links have ended
	}
	slices.Sort(times)
	used = processCPU(t, p.Cmd.Process.Pid) - used
	t.Logf("%d moves of %d miners: %d-%d ms, median %d ms; %v of CPU for a switch and the former link's end",
		moves, miners, times[0], times[moves-1], times[moves/2], used/time.Duration(moves*miners))
	for i, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(testkit.LongWait))
		seen := 0
		for buf := make([]byte, 16<<10); seen < moves+1; {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("miner %d: %v after %d jobs", i, err, seen)
			}
			seen += bytes.Count(buf[:n], []byte(`"mining.notify"`))
		}
	}
}
