//go:build linux && e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// BenchmarkStatusPictures makes the pictures of the pages. It shows a daemon with
// 850 miners, two pools with a backup, a switch, an outage and an upgrade, over
// STATUS_MINUTES minutes (2 by default). The pictures are written to the folder
// that STATUS_PICTURES names:
//
//	STATUS_PICTURES=/tmp STATUS_MINUTES=20 go test -tags e2e -run '^$' -bench StatusPictures -benchtime 1x -timeout 1h ./e2e
//	for p in /tmp/status-*-*.png; do pngquant --nofs --speed 1 --strip --force -o docs/${p##*/} 64 $p; done
func BenchmarkStatusPictures(b *testing.B) {
	for b.Loop() {
		takePictures(b)
	}
}

func takePictures(t testing.TB) {
	minutes := 2.0
	if text := os.Getenv("STATUS_MINUTES"); text != "" {
		var err error
		if minutes, err = strconv.ParseFloat(text, 64); err != nil {
			t.Fatal(err)
		}
	}
	step := time.Duration(minutes / 10 * float64(time.Minute))
	pool := func(name string) *stratumtest.Pool {
		return testkit.StartPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 52, SkipWork: true, JobInterval: 15 * time.Second, CleanEvery: 8, VersionMask: 0x1fffe000})
	}
	btc, bcc, backup := pool("btc"), pool("bcc"), pool("backup")
	c := daemontest.FileConfig(btc, bcc)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	withBackup := c.StratumServerMap["btc"]
	withBackup.BackupURLs = []string{backup.Addr()}
	c.StratumServerMap["btc"] = withBackup
	coins := map[string]string{"northfarm": "btc", "hydro2": "btc", "alice": "btc", "solarpark": "bcc", "carol": "btc", "bob": "bcc", "kb": "btc", "miner88": "bcc"}
	p := daemontest.New(t, t.TempDir())
	p.Install(daemontest.Build(t, "v1.0.0"))
	p.WriteConfig(c)
	p.SetCoins(coins)
	p.Start("-logtostderr", "-v=1")
	web := "http://" + c.HTTPDebugListenAddr
	for _, farm := range []struct {
		name, agent string
		miners      int
		rate        float64
	}{
		{"northfarm", "bmminer/2.0.0/Antminer S19 XP", 500, 15}, {"hydro2", "bmminer/1.0.0", 120, 4.5}, {"alice", "cgminer/4.12.1", 90, 2.4},
		{"solarpark", "NiceHash/1.0.0", 60, 2}, {"carol", "bosminer-plus-tuner 23.04", 40, 1.5}, {"bob", "whatsminer/v1.1", 25, 0.7},
		{"kb", "bitaxe/BM1368/v2.4.1", 8, 0.1}, {"miner88", "cpuminer/2.5.1", 3, 0.02},
	} {
		fleet := stratumtest.NewFleet(stratumtest.FleetOptions{
			N: farm.miners, Addr: p.Addr, SharesPerSecond: farm.rate, WorkerName: func(i int) string { return fmt.Sprintf("%s.rig%d", farm.name, i+1) },
			Miner: stratumtest.MinerOptions{CheatHash: true, UserAgent: farm.agent, Configure: 0x1fffe000},
		})
		defer fleet.Close()
		for fleet.Stats().Authorized < farm.miners {
			time.Sleep(20 * time.Millisecond)
		}
	}
	change := func(account, coin string) {
		coins[account] = coin
		p.SetCoins(coins)
	}
	time.Sleep(2 * step)
	change("carol", "bcc")
	time.Sleep(2 * step)
	btc.Close()
	time.Sleep(step)
	if err := btc.Restart(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * step)
	p.Upgrade()
	change("alice", "bcc")
	time.Sleep(step)
	bcc.SetModes(stratumtest.Modes{RejectShares: true})
	time.Sleep(step / 24)
	bcc.SetModes(stratumtest.Modes{})
	change("kb", "ltc")
	time.Sleep(step)

	// The darker of two colours and the smaller of two sizes come last.
	b := testkit.StartBrowser(t)
	for _, screen := range []struct {
		name          string
		width, height int
	}{{"large", 1400, 0}, {"phone", 360, 1560}} {
		for _, dark := range []bool{false, true} {
			scheme := map[bool]string{false: "light", true: "dark"}[dark]
			b.Size(screen.width, 1600, dark)
			b.Call("Page.navigate", map[string]any{"url": "about:blank"}, nil)
			b.Call("Page.navigate", map[string]any{"url": web + "/#open=northfarm"}, nil)
			b.Await("the miners", `document.querySelectorAll("[data-miners] .miners tbody tr").length === 500`)
			b.Await("the charts", `document.querySelectorAll("#day-chart svg path").length === 2`)
			b.Await("the events", `document.querySelectorAll("#events li").length > 5`)
			if screen.height == 0 {
				b.Eval(`document.querySelectorAll("[data-miners] .opener")[3].click()`)
				b.Await("a miner opened", `document.querySelector("[data-miners] .facts")`)
				height, err := strconv.Atoi(b.Eval(`document.documentElement.scrollHeight`))
				if err != nil {
					t.Fatal(err)
				}
				screen.height = min(height, 2600)
			}
			b.Size(screen.width, screen.height, dark)
			b.Await("the size", fmt.Sprintf(`innerHeight === %d`, screen.height))
			b.Await("the charts in it", `document.querySelector("#sessions-chart svg")`)
			time.Sleep(time.Second) // for a refresh
			b.Picture("status-" + screen.name + "-" + scheme + ".png")
		}
	}
	b.CheckConsole()
}
