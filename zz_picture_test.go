//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func TestZZPicture(t *testing.T) {
	length, _ := time.ParseDuration(os.Getenv("PICTURE_LENGTH"))
	if length == 0 {
		return
	}
	mk := func(name string) *stratumtest.Pool {
		return startPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 6, VersionMask: 0x1fffe000, JobInterval: 5 * time.Second, CleanEvery: 1 << 30})
	}
	btc, bcc, backup := mk("btc"), mk("bcc"), mk("btc")
	c := fileConfig(btc, bcc)
	c.ListenAddr = "127.0.0.1:18080"
	info := c.StratumServerMap["btc"]
	info.BackupURLs = []string{backup.Addr()}
	c.StratumServerMap["btc"] = info
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, "127.0.0.1:0"
	names := []string{"alice", "bob", "carol", "northfarm", "hydro2", "solarpark", "kb", "miner88"}
	sizes := []int{90, 60, 40, 120, 75, 30, 8, 3}
	coins := map[string]string{}
	for i, n := range names {
		coins[n] = []string{"btc", "bcc"}[i%2]
	}
	p := startProcess(t, c, coins, "-v=2")
	web := "http://" + p.waitLog(`http addr=(\S+)`)[1]
	fmt.Println("WEB", web, "DIR", p.dir)
	var fleets []*stratumtest.Fleet
	for i, n := range names {
		f := stratumtest.NewFleet(stratumtest.FleetOptions{N: sizes[i], Addr: p.addr, SharesPerSecond: float64(sizes[i]) / 8,
			WorkerName: func(k int) string { return fmt.Sprintf("%s.rig%d", n, k+1) },
			Miner:      stratumtest.MinerOptions{Configure: 0x1fffe000, UserAgent: "cgminer/4.11.1", LateShares: 0.2}})
		t.Cleanup(f.Close)
		fleets = append(fleets, f)
		time.Sleep(2 * time.Second)
	}
	began := time.Now()
	wait := func(part float64) {
		for time.Since(began) < time.Duration(part*float64(length)) {
			time.Sleep(100 * time.Millisecond)
		}
	}
	set := func(n, coin string) { coins[n] = coin; p.setCoins(coins) }
	wait(0.15)
	set("alice", "bcc")
	wait(0.2)
	bad := stratumtest.DialRaw(t, p.addr)
	bad.SendLine(`{"id":1,"method":"mining.subscribe","params":["x"]}`)
	bad.SendLine(`{"id":2,"method":"mining.authorize","params":["mistyped.rig7","x"]}`)
	wait(0.3)
	set("northfarm", "btc")
	wait(0.4)
	btc.Close()
	wait(0.45)
	if err := btc.Restart(); err != nil {
		t.Fatal(err)
	}
	wait(0.55)
	bcc.SetModes(stratumtest.Modes{RejectShares: true})
	wait(0.553)
	bcc.SetModes(stratumtest.Modes{})
	wait(0.6)
	set("carol", "bcc")
	set("hydro2", "btc")
	wait(0.7)
	p.install(buildVersion(t, "v2.1.0"))
	p.upgrade()
	web = "http://" + p.waitLogFrom(p.logged()-20, `http addr=(\S+)`)[1]
	wait(0.8)
	set("kb", "btc")
	wait(0.9)
	set("alice", "btc")
	bad = stratumtest.DialRaw(t, p.addr)
	bad.Send("GET / HTTP/1.1\r\n\r\n")
	wait(1)
	fmt.Println("WEB", web)
	b := startBrowser(t)
	b.size(1180, 1560, false)
	b.call("Page.navigate", map[string]any{"url": web + "/"}, nil)
	b.await("page", `document.querySelector("#accounts tbody")?.innerText.includes("alice")`)
	b.await("charts", `document.querySelectorAll("#sessions-chart path").length > 0`)
	b.eval(`(() => { document.getElementById("query").value = "kb.rig"; document.getElementById("search").requestSubmit(); })()`)
	b.await("the miner that was searched", `document.querySelector("#found .miner h3")?.innerText.includes("kb.rig")`)
	b.picture("status-search.png")
	b.eval(`(() => { document.getElementById("query").value = "kb.rig3"; document.getElementById("search").requestSubmit(); })()`)
	time.Sleep(time.Second)
	b.eval(`document.documentElement.style.overflow = "hidden"`)
	b.picture("status.png")
	b.size(390, 3000, true)
	time.Sleep(11 * time.Second)
	b.picture("status-phone.png")
	b.checkConsole()
	p.mu.Lock()
	for _, l := range p.lines {
		fmt.Println(l)
	}
	p.mu.Unlock()
}
