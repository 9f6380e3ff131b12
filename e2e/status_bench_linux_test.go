//go:build linux && e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// BenchmarkStatus9000 measures what it costs a daemon with 9,000 miners in 500
// sub-accounts to answer requests for /metrics and everything that the page asks
// for each second, and how that affects shares:
//
//	go test -run '^$' -bench Status9000 -benchtime 1x -timeout 10m .
func BenchmarkStatus9000(b *testing.B) {
	const (
		miners    = 9000
		accounts  = 500
		perSecond = 500
		span      = 20 * time.Second
	)
	if limit := descriptorLimit(); limit < 2*miners+600 {
		b.Fatalf("limit of %d descriptors is too low", limit)
	}
	pool := testkit.StartPool(b, stratumtest.PoolOptions{Name: "btc", ShareBits: 1, JobInterval: time.Hour})
	c := daemontest.FileConfig(pool)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	c.PoolIdleSeconds = 0 // there are no jobs
	p := daemontest.Start(b, c, map[string]string{"*": "btc"}, "-v=0")
	web := "http://" + p.WaitLog(`http addr=(\S+)`)[1]
	fleet := stratumtest.NewFleet(stratumtest.FleetOptions{
		N: miners, Addr: p.Addr, WorkerName: func(i int) string { return fmt.Sprintf("acct%d.w%d", i%accounts, i) },
		Miner: stratumtest.MinerOptions{CheatHash: true},
	})
	b.Cleanup(fleet.Close)
	for fleet.Stats().Authorized < miners {
		time.Sleep(100 * time.Millisecond)
		if errs := fleet.DialErrors(); len(errs) > 0 {
			b.Fatal(errs[0])
		}
	}
	time.Sleep(5 * time.Second)

	ask := func(path string) {
		reply, err := http.Get(web + path)
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		reply.Body.Close()
	}
	measure := func(what string, shares float64, scrape, page bool) {
		fleet.SetRate(shares)
		time.Sleep(2 * time.Second)
		fleet.Latency.Reset()
		before, began := processCPU(b, p.Cmd.Process.Pid), time.Now()
		for i := 0; time.Since(began) < span; i++ {
			if scrape {
				ask("/metrics")
			}
			if page {
				for _, path := range []string{"/", "/api/status", "/api/accounts?sort=miners&desc=1", "/api/events", "/api/miners?account=acct1"} {
					ask(path)
				}
				if i%10 == 0 {
					ask("/api/history")
				}
			}
			time.Sleep(time.Until(began.Add(time.Duration(i+1) * time.Second)))
		}
		cpu := 100 * (processCPU(b, p.Cmd.Process.Pid) - before).Seconds() / time.Since(began).Seconds()
		load, _ := os.ReadFile("/proc/loadavg") // a busy machine spoils the figures
		b.Logf("%-32s load %.4s, CPU %6.2f %% of one core; shares %6d, latency p50 %v p99 %v p99.9 %v", what, load, cpu,
			fleet.Latency.Count(), fleet.Latency.Quantile(0.5), fleet.Latency.Quantile(0.99), fleet.Latency.Quantile(0.999))
	}
	for b.Loop() {
		measure("idle", 0, false, false)
		measure("idle, /metrics", 0, true, false)
		measure("idle, /metrics and the page", 0, true, true)
		measure("shares", perSecond, false, false)
		measure("shares, /metrics", perSecond, true, false)
		measure("shares, /metrics and the page", perSecond, true, true)
	}
}

// processCPU is the processor time a process has used.
func processCPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100
}
