package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// startError returns the error of the daemon's start, or nil if it serves.
func startError(path string) error {
	d := &daemon{stop: make(chan os.Signal, 1)}
	d.stop <- syscall.SIGTERM // this ends it once it serves
	return d.start(path)
}

func checkError(path string) error {
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	_, _, err = checkStart(c, nil)
	return err
}

// wantCheckIsStart wants -check and the start to give the same result.
func wantCheckIsStart(t *testing.T, path string) (refused error) {
	t.Helper()
	check, start := checkError(path), startError(path)
	if fmt.Sprint(check) != fmt.Sprint(start) {
		text, _ := os.ReadFile(path)
		t.Errorf("-check: %v\nstart:  %v\n%s", check, start, text)
	}
	return start
}

// A directory for server IDs that cannot be used does not matter to a switcher with a
// ServerID, but others may take the same one. -check warns of it.
func TestCheckWarnsOfUnclaimedServerID(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.json")
	testkit.WriteFile(t, config, `{"ListenAddr": "127.0.0.1:0", "ServerID": 7, "ZKServerIDAssignDir": "relative", "StratumServerMap": {"btc": {"URL": "192.0.2.9:1"}}}`)
	c, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	warnings, _, err := checkStart(c, nil)
	want := []string{`warning: zookeeper: server ID 7 is used without being claimed, so that others may take it too: ZKServerIDAssignDir "relative/" must start with /`}
	if err != nil || !slices.Equal(warnings, want) {
		t.Errorf("the check returns %q, %v, want %q", warnings, err, want)
	}
}

// Allocations are sampled only if somebody could ask for the profile.
func TestMemoryProfileNeedsHTTP(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		dir := t.TempDir()
		coins, config := filepath.Join(dir, "coins.json"), filepath.Join(dir, "config.json")
		testkit.WriteFile(t, coins, `{"*": "btc"}`)
		testkit.WriteFile(t, config, fmt.Sprintf(`{"ListenAddr": "127.0.0.1:0", "CoinFile": %q, "ServerID": 1, "EnableHTTPDebug": %v,
			"HTTPDebugListenAddr": "127.0.0.1:0", "StratumServerMap": {"btc": {"URL": "192.0.2.9:1"}}}`, coins, enabled))
		stopped := false
		d := &daemon{stop: make(chan os.Signal, 1), stopMemoryProfile: func() { stopped = true }}
		d.stop <- syscall.SIGTERM
		if err := d.start(config); err != nil {
			t.Fatal(err)
		}
		if stopped == enabled {
			t.Errorf("EnableHTTPDebug %v: the profile was stopped: %v", enabled, stopped)
		}
	}
}

// coinFileVariants are files, and other things in a file's place, by name.
func coinFileVariants(t *testing.T) (dir string, names []string) {
	dir = t.TempDir()
	for name, content := range map[string]string{
		"good": `{"*": "btc"}`, "bom": "\ufeff{\"*\": \"btc\"}", "useless": `{"a.b": "x", "": "btc"}`, "slash": `{"a/b": "btc"}`,
		"empty": ``, "torn": `{"*": `, "list": `[]`, "utf16": "\xff\xfe{\x00}\x00", "no coin": `{"a": ""}`, "twice": `{"a": "btc", "a": "btc"}`,
	} {
		testkit.WriteFile(t, filepath.Join(dir, name), content)
		names = append(names, name)
	}
	mustDo(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	mustDo(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	mustDo(t, os.Symlink("good", filepath.Join(dir, "link")))
	mustDo(t, os.Symlink(os.DevNull, filepath.Join(dir, "device")))
	mustDo(t, os.WriteFile(filepath.Join(dir, "huge"), nil, 0o600))
	mustDo(t, os.Truncate(filepath.Join(dir, "huge"), coins.MaxFileSize+1))
	names = append(names, "folder", "loop", "link", "device", "huge", "absent", "absent/coins.json", "good/coins.json")
	slices.Sort(names)
	return dir, names
}

// A configuration passes -check if and only if the daemon starts with it, and
// if it does not, both say why in the same words.
func TestCheckMeansStarts(t *testing.T) {
	t.Parallel()
	const rounds = 400
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	files, coinFiles := coinFileVariants(t)
	_, port, err := net.SplitHostPort(unusedAddr(t))
	mustDo(t, err)
	pick := func(values ...any) any { return values[rng.IntN(len(values))] }
	dirs := []any{"/a/b/", "/a/b", "/", "swid", "", "//", "/a//b", "/a/../b", "/a/./b", "/a\x01/", "/é/", "/😀/", "a/b/", "/a/b/ c/", nil}
	dir := func() any { return pick(dirs...) }
	keys := map[string]func() any{
		"ServerID":                     func() any { return pick(0, 1, 255, 256, "1", nil) },
		"ChainType":                    func() any { return pick("bitcoin", "Bitcoin", "ethereum", "decred-normal", "doge") },
		"ZKServerIDAssignDir":          dir,
		"ZKSwitcherWatchDir":           dir,
		"ZKAutoRegWatchDir":            dir,
		"ZKUserCaseInsensitiveIndex":   dir,
		"EnableUserAutoReg":            func() any { return pick(true, false) },
		"StratumServerCaseInsensitive": func() any { return pick(true, false) },
		"AutoRegMaxWaitUsers":          func() any { return pick(0, 1, 50, -1) },
		"EnableHTTPDebug":              func() any { return pick(true, true, false) },
		"MaxPoolDials":                 func() any { return pick(0, 1, 128, descriptorLimit(), 10000) },
		"TrustedProxies":               func() any { return pick([]string{"10.0.0.0/8"}, []string{"x"}, []string{}) },
		"ZKSessionTimeoutSeconds":      func() any { return pick(1, 20, 0) },
		"ListenAddr": func() any {
			return pick("127.0.0.1:0", "127.0.0.1:"+port, ":"+port, "0.0.0.0:"+port, "[::1]:"+port, "localhost:"+port, "127.0.0.2:"+port,
				"203.0.113.1:0", "[2001:db8::1]:0", "127.0.0.1", "127.0.0.1:65536", "[::]:"+port)
		},
		"HTTPDebugListenAddr": func() any {
			return pick("127.0.0.1:0", "127.0.0.1:"+port, "0.0.0.0:"+port, "127.0.0.2:"+port, "[::1]:"+port, ":"+port, "203.0.113.1:0", "x")
		},
		"StratumServerMap": func() any {
			url := func() any {
				return pick("127.0.0.1:3333", "pool.example.com:3333", "127.0.0.1:"+port, "localhost:"+port, "127.0.0.2:"+port, "[::1]:"+port,
					"0.0.0.0:"+port, "192.0.2.1:"+port, "127.0.0.1", "stratum+tcp://127.0.0.1:1")
			}
			pool := map[string]any{"URL": url(), "BackupURLs": []any{url()}, "ExtraNonce": pick("", "pool", "session", "x")}
			return map[string]any{pick("btc", "b tc", "", strings.Repeat("b", 64), strings.Repeat("b", 65), "é").(string): pool}
		},
	}
	names := slices.Sorted(maps.Keys(keys))
	path := filepath.Join(t.TempDir(), "config.json")
	started, refused := 0, make(map[string]int)
	for range rounds {
		config := map[string]any{
			"ListenAddr": "127.0.0.1:0", "HTTPDebugListenAddr": "127.0.0.1:0", "ZKBroker": []string{"127.0.0.1:1"},
			"StratumServerMap": map[string]any{"btc": map[string]any{"URL": "127.0.0.1:3333"}},
		}
		if rng.IntN(2) == 0 {
			config["ZKBroker"], config["CoinFile"] = []string{}, filepath.Join(files, coinFiles[rng.IntN(len(coinFiles))])
		}
		for range rng.IntN(4) {
			key := names[rng.IntN(len(names))]
			config[key] = keys[key]()
		}
		text, err := json.Marshal(config)
		mustDo(t, err)
		mustDo(t, os.WriteFile(path, text, 0o600))
		if err := wantCheckIsStart(t, path); err == nil {
			started++
		} else {
			refused[strings.Fields(strings.ReplaceAll(err.Error(), path, ""))[1]]++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d started, refused: %v", started, refused)
	if started < rounds/20 || started > rounds*19/20 {
		t.Errorf("%d of %d configurations start, so the test shows little", started, rounds)
	}
}

// Values that nothing uses need not be valid. These started at one time, or should
// have.
func TestUnusedZooKeeperDirectories(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"server ID is fixed":   {"ServerID": 1, "ZKServerIDAssignDir": "swid"},
		"no auto-registration": {"EnableUserAutoReg": false, "ZKAutoRegWatchDir": "autoreg", "AutoRegMaxWaitUsers": 0},
		"names in lower case":  {"StratumServerCaseInsensitive": true, "ZKUserCaseInsensitiveIndex": "case"},
		"coin file": {"ZKBroker": []string{}, "CoinFile": "good", "ZKSwitcherWatchDir": "x", "ZKServerIDAssignDir": "x", "ZKAutoRegWatchDir": "x",
			"ZKUserCaseInsensitiveIndex": "x"},
	} {
		t.Run(name, func(t *testing.T) {
			files, _ := coinFileVariants(t)
			config := map[string]any{"ListenAddr": "127.0.0.1:0", "ZKBroker": []string{"127.0.0.1:1"},
				"StratumServerMap": map[string]any{"btc": map[string]any{"URL": "127.0.0.1:3333"}}}
			maps.Copy(config, change)
			if config["CoinFile"] != nil {
				config["CoinFile"] = filepath.Join(files, "good")
			}
			text, err := json.Marshal(config)
			mustDo(t, err)
			path := filepath.Join(t.TempDir(), "config.json")
			mustDo(t, os.WriteFile(path, text, 0o600))
			if err := wantCheckIsStart(t, path); err != nil {
				t.Error(err)
			}
		})
	}
}

// ownAddress returns one of the machine's addresses that is not loopback, or "".
func ownAddress() string {
	if ips := hostAddresses(); len(ips) > 0 {
		return ips[0]
	}
	return "127.1.2.3"
}

func TestPoolAtOwnAddress(t *testing.T) {
	own := net.JoinHostPort(ownAddress(), "3333")
	for _, c := range []struct {
		listen, pool string
		refused      bool
	}{
		{"0.0.0.0:3333", "127.0.0.1:3333", true},
		{"0.0.0.0:3333", "stratum+tcp://127.9.9.9:03333", true},
		{"0.0.0.0:3333", "localhost:3333", true},
		{"0.0.0.0:3333", "LocalHost.:3333", true},
		{"0.0.0.0:3333", "0.0.0.0:3333", true},
		{"0.0.0.0:3333", own, true},
		{":3333", own, true},
		{"[::]:3333", own, true},
		{"[::]:3333", "[::1]:3333", true},
		{"[::]:3333", "[::ffff:127.0.0.1]:3333", true},
		{"127.0.0.1:3333", "localhost:3333", true},
		{"localhost:3333", "127.0.0.1:3333", true},
		{"[::1]:3333", "[::]:3333", true},
		{own, own, true},
		{"myhost:3333", "MyHost:3333", true},

		{"0.0.0.0:3333", "127.0.0.1:3334", false},
		{"0.0.0.0:3333", "192.0.2.1:3333", false},
		{"0.0.0.0:3333", "[2001:db8::1]:3333", false},
		{"0.0.0.0:3333", "pool.example.com:3333", false},
		{"127.0.0.1:3333", "127.0.0.2:3333", false},
		{"127.0.0.1:3333", own, false},
		{"127.0.0.1:3333", "[::1]:3333", false},
		{own, "127.0.0.1:3333", false},
		{own, "0.0.0.0:3333", false},
		{"0.0.0.0:0", "127.0.0.1:3333", false},
	} {
		_, err := parseConfig(fmt.Appendf(nil, `{"ListenAddr": %q, "StratumServerMap": {"btc": {"URL": "192.0.2.9:1", "BackupURLs": [%q]}}}`, c.listen, c.pool))
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "BackupURLs[0] is") {
			t.Errorf("listening at %s with the pool %s: got error %v", c.listen, c.pool, err)
		}
	}
}

func TestHTTPAtListenAddr(t *testing.T) {
	for _, c := range []struct {
		listen, http string
		refused      bool
	}{
		{"0.0.0.0:3333", "127.0.0.1:3333", true},
		{"127.0.0.1:3333", ":3333", true},
		{"127.0.0.1:3333", "localhost:3333", true},
		{"[::1]:3333", "[::1]:3333", true},
		{"127.0.0.1:3333", "127.0.0.2:3333", false},
		{"127.0.0.1:3333", "[::1]:3333", false},
		{"0.0.0.0:3333", "127.0.0.1:3334", false},
		{"0.0.0.0:0", "127.0.0.1:0", false},
	} {
		for _, enabled := range []bool{true, false} {
			_, err := parseConfig(fmt.Appendf(nil, `{"ListenAddr": %q, "HTTPDebugListenAddr": %q, "EnableHTTPDebug": %v, "StratumServerMap": {"btc": {"URL": "192.0.2.9:1"}}}`,
				c.listen, c.http, enabled))
			if (err != nil) != (c.refused && enabled) {
				t.Errorf("listening at %s, HTTP at %s, enabled %v: got error %v", c.listen, c.http, enabled, err)
			}
		}
	}
}

// Whether a further worker has the same sub-account is decided by the rule of the
// first one: case is ignored only with lower-cased names and the case index.
func TestFurtherWorkersCase(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		same   bool
	}{
		{"coin file", func(c *Config) { c.ZKBroker, c.CoinFile = nil, "coins.json" }, false},
		{"coin file, lower case", func(c *Config) {
			c.ZKBroker, c.CoinFile, c.StratumServerCaseInsensitive = nil, "coins.json", true
		}, true},
		{"ZooKeeper, no index", func(c *Config) { c.ZKUserCaseInsensitiveIndex = "" }, false},
		{"ZooKeeper, index", func(c *Config) {}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			btc, _ := twoPools(t)
			sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, c.change)
			r := stratumtest.DialRaw(t, sw.addr)
			r.Send(`{"id":1,"method":"mining.subscribe","params":["m"]}` + "\n" +
				`{"id":2,"method":"mining.authorize","params":["alice.one","x"]}` + "\n")
			r.Line(testWait)
			r.ExpectLine(`{"id":2,"result":true,"error":null}`)
			r.ExpectMethod("mining.set_difficulty")
			r.ExpectMethod("mining.notify")
			r.SendLine(`{"id":3,"method":"mining.authorize","params":["ALICE.two","y"]}`)
			want := `{"id":3,"result":true,"error":null}`
			if !c.same {
				want = `{"id":3,"result":null,"error":[201,"Invalid Sub-account Name (this connection is for alice)",1]}`
			}
			r.ExpectLine(want)
		})
	}
}
