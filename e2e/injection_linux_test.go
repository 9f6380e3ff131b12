//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// These are texts of miners and pools, written as JSON strings, that try to do harm
// in a log, a terminal, a page, a ZooKeeper path or a metric. The marks in them
// show which of them succeed.
var hostileTexts = []string{
	`\u001b[2J\u001b]0;owned\u0007`, "\u009b31m\u007f", `\r\nE0101 00:00:00.000000 1 forged.go:1] forged`, `\n\n`, `\u0000`, `\u2028\u202e\ufeff`,
	`<script>alert(1)</script>`, `\"><img src=x onerror=alert(1)>`, `../../../zookeeper/config`, `a/b`, `/`, `..`, `.`, `%00%2e%2e%2f`, `{{.}}`, `$(id)`,
	`%s%n%d`, `\"} 1\nstratum_switcher_ready 0\n#`, `\ud800`, strings.Repeat("n", 5000),
}

// logLine matches the beginning of every line of the log.
var logLine = regexp.MustCompile(`^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [a-z_]+\.go:\d+\] `)

// Nothing that miners and pools send can make log lines, terminal controls, markup,
// metric series or nodes in other directories.
func TestInjection(t *testing.T) {
	t.Parallel()
	server := zktest.Shared(t)
	admin := zktest.NewAdmin(t, server.Addr())
	root := fmt.Sprintf("/injection%d", zktest.Roots.Add(1))
	coinDir, idDir, regDir := root+"/coins", root+"/ids/", root+"/autoreg"
	admin.Put(coinDir+"/alice", "btc")
	admin.Put(coinDir+"/bad", "bad")
	admin.Put(regDir+"/x", "")
	admin.Remove(regDir + "/x")
	system := admin.Children("/zookeeper")

	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	bad := testkit.StartScriptedPool(t)
	c := daemontest.FileConfig(btc)
	c.CoinFile, c.ZKBroker = "", []string{server.Addr()}
	c.StratumServerMap["bad"] = daemontest.PoolConfig{URL: bad.Addr()}
	c.ZKSwitcherWatchDir, c.ZKServerIDAssignDir, c.ZKAutoRegWatchDir = coinDir, idDir, regDir
	c.ZKUserCaseInsensitiveIndex = ""
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	p := daemontest.Start(t, c, nil, "-v=3")
	go func() {
		for i := 0; ; i++ {
			nc, ok := <-bad.Conns
			if !ok {
				return
			}
			text := hostileTexts[i%len(hostileTexts)]
			refusal := fmt.Sprintf(`{"id":2147400001,"result":null,"error":[24,"%s",null]}`+"\n", text)
			go testkit.Flood(nc, refusal+testkit.WithOwnID(refusal, 2)+fmt.Sprintf(`{"id":2147400000,"result":null,"error":"%s"}`+"\n", text), 1)
		}
	}()

	for _, text := range hostileTexts {
		for _, name := range []string{text, text + ".rig", "alice." + text, "bad." + text} {
			r := stratumtest.DialRaw(t, p.Addr)
			r.SendLine(`{"id":1,"method":"` + text + `","params":["` + text + `"]}`)
			r.SendLine(`{"id":2,"method":"mining.subscribe","params":["` + text + `","` + text + `"]}`)
			r.SendLine(`{"id":3,"method":"mining.authorize","params":["` + name + `","` + text + `"]}`)
			if strings.HasPrefix(name, "alice.") {
				r.ExpectMethodAfter(`{"id":3,"result":true,"error":null}`)
			}
			if strings.HasPrefix(name, "bad.") {
				for !strings.HasPrefix(r.Line(stratumtest.Patience), `{"id":3,`) {
				}
			}
		}
	}
	// What is left of the names are unknown sub-accounts.
	var names []string
	admin.Await("registrations", func() bool { names = admin.Children(regDir); return len(names) >= 8 })
	for _, name := range names {
		if !coins.ValidSubAccount(name) || stratum.FilterWorker(name) != name {
			t.Errorf("there is a registration of %q", name)
		}
		node, _ := admin.Get(regDir + "/" + name)
		var request struct{ Worker string }
		if json.Unmarshal(node.Value, &request) != nil || stratum.FilterWorker(request.Worker) != request.Worker {
			t.Errorf("the registration %s has %.200q", name, node.Value)
		}
	}
	if now := admin.Children("/zookeeper"); !slices.Equal(now, system) {
		t.Errorf("/zookeeper has %q, want %q as before", now, system)
	}

	web := "http://" + c.HTTPDebugListenAddr
	for _, path := range []string{"/api/accounts", "/api/search?q=alice", "/api/events", "/api/status"} {
		text := textOf(t, web+path)
		if strings.ContainsAny(text, "<>\x7f") || strings.ContainsFunc(text, unicode.IsControl) || !json.Valid([]byte(text)) {
			t.Errorf("%s contains a harmful text: %.2000q", path, text)
		}
	}
	for line := range strings.Lines(textOf(t, web+"/metrics")) {
		if strings.Contains(line, "alice") || strings.Contains(line, "<script") || strings.TrimSpace(line) == "stratum_switcher_ready 0" {
			t.Errorf("the metrics have a harmful line: %q", line)
		}
	}

	log := p.Log()
	if len(log) < 4*len(hostileTexts) {
		t.Errorf("the log has only %d lines", len(log))
	}
	for _, line := range log {
		bad := strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) })
		if !logLine.MatchString(line) || bad {
			t.Errorf("the log has a harmful line: %.300q", line)
		}
	}
}
