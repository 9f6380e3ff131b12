//go:build linux && e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// BenchmarkUpgradePause measures for how long nothing is relayed when a daemon with
// the given number of miners, which sometimes submit shares, is replaced by itself.
// The log lines that it prints say what the pause consists of:
//
//	go test -run '^$' -bench UpgradePause -benchtime 10x -timeout 10m .
func BenchmarkUpgradePause(b *testing.B) {
	for _, miners := range []int{1000, 5000, 9000} {
		b.Run(fmt.Sprintf("sessions=%d", miners), func(b *testing.B) {
			if limit := descriptorLimit(); limit < 2*miners+600 {
				b.Fatalf("limit of %d descriptors is too low", limit)
			}
			pool := testkit.StartPool(b, stratumtest.PoolOptions{Name: "btc", ShareBits: 1, JobInterval: time.Hour})
			c := daemontest.FileConfig(pool)
			c.PoolIdleSeconds = 0 // there are no jobs
			p := daemontest.Start(b, c, map[string]string{"*": "btc"}, "-v=1")
			fleet := stratumtest.NewFleet(stratumtest.FleetOptions{
				N: miners, Addr: p.Addr, WorkerName: func(i int) string { return fmt.Sprintf("acct%d.w%d", i%100, i) },
				SharesPerSecond: 200, Miner: stratumtest.MinerOptions{CheatHash: true},
			})
			defer fleet.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if err := fleet.WaitAuthorized(ctx); err != nil {
				b.Fatal(err)
			}
			total, n := 0, 0
			for b.Loop() {
				time.Sleep(500 * time.Millisecond)
				from := p.Logged()
				kept, lost, pause := p.Upgrade()
				if kept != fmt.Sprint(miners) || lost != "0" {
					b.Fatalf("%s sessions were kept and %s lost, want all and none", kept, lost)
				}
				ms, err := strconv.Atoi(pause)
				if err != nil {
					b.Fatal(err)
				}
				total, n = total+ms, n+1
				b.Log(p.WaitLogFrom(from, `upgrade exec (.*)`)[1], "|", p.WaitLogFrom(from, `upgrade steps (.*)`)[1])
			}
			b.ReportMetric(float64(total)/float64(n), "pause-ms/op")
		})
	}
}
