package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const knownPoolKeys = "URL, UserSuffix, BackupURLs, ExtraNonce, Worker, Password, TLSServerName, TLSCAFile, TLSFingerprint, TLSVerify"

// badConfigs has the message for every testdata/config/bad-*.json.
var badConfigs = map[string]string{
	"auto-reg-max-type":     `AutoRegMaxWaitUsers is {"btc":50}, must be a whole number, at least 1`,
	"auto-reg-max":          `AutoRegMaxWaitUsers is 0, must be at least 1 with EnableUserAutoReg`,
	"bool-type":             `EnableUserAutoReg is "yes", must be true or false`,
	"chain-type-type":       `ChainType is 1, must be a string, one of bitcoin, decred-normal, decred-gominer, ethereum`,
	"chain-type":            `ChainType is "litecoin", must be one of bitcoin, decred-normal, decred-gominer, ethereum`,
	"coin-file-type":        `CoinFile is true, must be a file name, such as "coins.json"`,
	"coin-name-empty":       `StratumServerMap."" has the coin name "", must be a name without spaces and control characters`,
	"coin-name-long":        `StratumServerMap.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb has a coin name of 65 bytes, must be one of at most 64: no sub-account could have it`,
	"coin-name-space":       `StratumServerMap."b tc" has the coin name "b tc", must be a name without spaces and control characters`,
	"comment-key":           `_comment (line 3, value "our farm") is not a known key, and there are no comments`,
	"drain-seconds":         `DrainSeconds is 601, must be a whole number 0-600 (0: off)`,
	"duplicate-key":         `ServerID is given twice, in lines 3 and 4, must be given once`,
	"event-file-type":       `EventFile is ["events.json"], must be a file name, such as "events.json"`,
	"event-file":            `EventFile is "coins.json", which is the CoinFile too, must be another file`,
	"empty-pools":           `StratumServerMap is {}, must be an object with at least one coin, such as {"btc": {"URL": "127.0.0.1:3333"}}`,
	"empty":                 `line 1 column 1: the file is empty`,
	"http-debug-addr":       `HTTPDebugListenAddr is "6060" (missing port in address), must be "host:port" with port 0-65535, such as "127.0.0.1:6060"`,
	"http-at-listen-addr":   `HTTPDebugListenAddr is "127.0.0.1:18080", where miners connect (ListenAddr is "0.0.0.0:18080"), must have another port or address`,
	"listen-addr-no-port":   `ListenAddr is "0.0.0.0" (missing port in address), must be "host:port" with port 0-65535, such as "0.0.0.0:18080"`,
	"listen-addr-port":      `ListenAddr is "0.0.0.0:65536" (bad port "65536"), must be "host:port" with port 0-65535, such as "0.0.0.0:18080"`,
	"listen-addr-type":      `ListenAddr is 18080, must be "host:port" with port 0-65535, such as "0.0.0.0:18080"`,
	"max-pool-dials":        `MaxPoolDials is 0, must be a whole number 1-10000`,
	"max-connects":          `MaxConnectsPerSecond is 1000001, must be a whole number 0-1000000 (0: off)`,
	"max-sessions":          `MaxSessions is -1, must be a whole number 0-10000000 (0: as many as descriptors allow)`,
	"max-sessions-per-ip":   `MaxSessionsPerIP is "10", must be a whole number 0-10000000 (0: off)`,
	"no-coin-source":        `ZKBroker is empty and so is CoinFile, a source of coins is needed: ZKBroker, such as ["127.0.0.1:2181"], or CoinFile, such as "coins.json"`,
	"no-pools":              `StratumServerMap is missing, must be an object with at least one coin, such as {"btc": {"URL": "127.0.0.1:3333"}}`,
	"pool-backup":           `StratumServerMap.btc.BackupURLs[1] is "127.0.0.1" (missing port in address), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-backups-type":     `StratumServerMap.btc.BackupURLs is "127.0.0.1:3334", must be a list of strings, such as ["127.0.0.1:3333"]`,
	"pool-duplicate-url":    `StratumServerMap.btc.URL is given twice, in lines 3 and 3, must be given once`,
	"pool-duplicate":        `StratumServerMap.btc is given twice, in lines 3 and 4, must be given once`,
	"pool-idle-seconds":     `PoolIdleSeconds is -1, must be a whole number 0-86400 (0: off)`,
	"pool-no-url":           `StratumServerMap.btc.URL is missing or empty, must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-suffix-type":      `StratumServerMap.btc.UserSuffix is 1, must be a string`,
	"extranonce2-size":      `ExtraNonce2Size is 9, must be a whole number 0-8 (0: as fits)`,
	"extranonce2-size-type": `ExtraNonce2Size is "4", must be a whole number 0-8 (0: as fits)`,
	"pool-backup-scheme":    `StratumServerMap.btc.BackupURLs[0] is "stratum+tcp://127.0.0.1" (missing port in address), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-extranonce":       `StratumServerMap.btc.ExtraNonce is "Pool", must be "session" or "pool"`,
	"pool-extranonce-chain": `StratumServerMap.dcr.ExtraNonce is "pool", must be "session" with ChainType Decred-Normal`,
	"pool-extranonce-type":  `StratumServerMap.btc.ExtraNonce is 4, must be "session" or "pool"`,
	"pool-password-type":    `StratumServerMap.btc.Password is 1, must be a string`,
	"pool-worker":           `StratumServerMap.btc.Worker is "{account}.{name}" ({name} is unknown), must be text with {account}, {miner} and {suffix}`,
	"pool-worker-braces":    `StratumServerMap.btc.Worker is "{account.{miner}" ({account.{miner} is unknown), must be text with {account}, {miner} and {suffix}`,
	"pool-worker-control":   `StratumServerMap.btc.Worker is "{account}\n" (control character), must be text with {account}, {miner} and {suffix}`,
	"pool-worker-type":      `StratumServerMap.btc.Worker is true, must be text with {account}, {miner} and {suffix}`,
	"pool-type":             `StratumServerMap.btc is "127.0.0.1:3333", must be an object, such as {"URL": "127.0.0.1:3333", "UserSuffix": "btc"}`,
	"pool-unknown-key":      `StratumServerMap.btc.Suffix (line 3, value "btc") is not a known key: did you mean UserSuffix?`,
	"pool-url-host":         `StratumServerMap.btc.URL is "10.0.0.256:3333" (bad host "10.0.0.256"), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-url-ipv6":         `StratumServerMap.btc.URL is "::1:3333" (too many colons in address), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-url-no-host":      `StratumServerMap.btc.URL is ":3333" (no host), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-url-port":         `StratumServerMap.btc.URL is "pool.example.com:0" (bad port "0"), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-url-scheme":       `StratumServerMap.btc.URL is "stratum+udp://pool.example.com:3333" (stratum+udp:// is not supported; stratum+tcp://, stratum+ssl:// and stratum+tls:// are), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-url-type":         `StratumServerMap.btc.URL is 3333, must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pools-type":            `StratumServerMap is ["127.0.0.1:3333"], must be an object with at least one coin, such as {"btc": {"URL": "127.0.0.1:3333"}}`,
	"server-id-fraction":    `ServerID is 1.5, must be a whole number 0-255 (0: claim a free one in ZooKeeper)`,
	"server-id-negative":    `ServerID is -1, must be a whole number 0-255 (0: claim a free one in ZooKeeper)`,
	"server-id-range":       `ServerID is 256, must be a whole number 0-255 (0: claim a free one in ZooKeeper)`,
	"server-id-type":        `ServerID is "1", must be a whole number 0-255 (0: claim a free one in ZooKeeper)`,
	"pool-at-listen-addr": "3 mistakes:\n" + `StratumServerMap.bcc.BackupURLs[1] is "[::1]:18080", where this switcher itself listens (ListenAddr is "[::]:18080"), must be a pool's address` + "\n" +
		`StratumServerMap.btc.URL is "127.0.0.1:18080", where this switcher itself listens (ListenAddr is "[::]:18080"), must be a pool's address` + "\n" +
		`StratumServerMap.btc.BackupURLs[1] is "stratum+tcp://localhost:18080", where this switcher itself listens (ListenAddr is "[::]:18080"), must be a pool's address`,
	"several": "6 mistakes:\n" + `ServerID is 300, must be a whole number 0-255 (0: claim a free one in ZooKeeper)` + "\n" +
		`StratumServerMap.bcc.Host (line 6, value "127.0.0.1:3334") is not a known key, must be one of ` + knownPoolKeys + "\n" +
		`Verbose (line 8, value true) is not a known key; all keys are listed in docs/configuration.md` + "\n" +
		`ChainType is "doge", must be one of bitcoin, decred-normal, decred-gominer, ethereum` + "\n" +
		`StratumServerMap.bcc.URL is missing or empty, must be "host:port" with port 1-65535, such as "127.0.0.1:3333"` + "\n" +
		`StratumServerMap.btc.URL is "127.0.0.1" (missing port in address), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"syntax":                `line 4 column 1: a comma too many before }`,
	"top-level":             `the file's content is ["ServerID",1], must be an object {…}`,
	"trailing":              `line 2 column 1: there is more text after the end of the first value`,
	"truncated":             `line 3 column 1: the file ends too early: 2 brackets are not closed, the last of them the { of line 2`,
	"tls-cert-type":         `TLSCertFile is true, must be a PEM file with the certificate and its chain, such as "/etc/stratumSwitcher/tls/fullchain.pem"`,
	"tls-key-missing":       `TLSKeyFile is missing beside TLSCertFile "cert.pem", must be a PEM file with the certificate's private key, such as "/etc/stratumSwitcher/tls/privkey.pem"`,
	"tls-cert-missing":      `TLSCertFile is missing beside TLSKeyFile "key.pem", must be a PEM file with the certificate and its chain, such as "/etc/stratumSwitcher/tls/fullchain.pem"`,
	"tls-required":          `TLSRequired is true, must be false without TLSCertFile and TLSKeyFile: no miner could connect`,
	"tls-required-type":     `TLSRequired is "yes", must be true or false`,
	"pool-tls-scheme-port":  `StratumServerMap.btc.URL is "stratum+ssl://pool.example.com" (missing port in address), must be "host:port" with port 1-65535, such as "127.0.0.1:3333"`,
	"pool-tls-name-plain":   `StratumServerMap.btc.TLSServerName is "pool.example.com", must be left out: neither URL nor BackupURLs has an address with stratum+ssl:// or stratum+tls://`,
	"pool-tls-ca-plain":     `StratumServerMap.btc.TLSCAFile is "ca.pem", must be left out: neither URL nor BackupURLs has an address with stratum+ssl:// or stratum+tls://`,
	"pool-tls-pin-plain":    `StratumServerMap.btc.TLSFingerprint is "ab", must be left out: neither URL nor BackupURLs has an address with stratum+ssl:// or stratum+tls://`,
	"pool-tls-verify-plain": `StratumServerMap.btc.TLSVerify is true, must be left out: neither URL nor BackupURLs has an address with stratum+ssl:// or stratum+tls://`,
	"pool-tls-verify-type":  `StratumServerMap.btc.TLSVerify is 0, must be true or false`,
	"pool-tls-name":         `StratumServerMap.btc.TLSServerName is "pool example", must be a host name or an IP address, such as "pool.example.com"`,
	"pool-tls-pin":          `StratumServerMap.btc.TLSFingerprint is "AB:CD" (4 digits), must be the SHA-256 of the pool's certificate, 64 hexadecimal digits with or without colons; several are separated by commas`,
	"pool-tls-pin-digits":   `StratumServerMap.btc.TLSFingerprint is "gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg" ("gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg" has other characters), must be the SHA-256 of the pool's certificate, 64 hexadecimal digits with or without colons; several are separated by commas`,
	"pool-tls-pin-ca":       `StratumServerMap.btc.TLSCAFile is "ca.pem" beside TLSFingerprint, must be left out: the fingerprint alone decides`,
	"pool-tls-pin-verify":   `StratumServerMap.btc.TLSVerify is false beside TLSFingerprint, must be left out: the fingerprint alone decides`,
	"pool-tls-ca-verify":    `StratumServerMap.btc.TLSCAFile is "ca.pem" beside TLSVerify false, must be left out: nothing is checked`,
	"two-coin-sources":      `CoinFile is "coins.json" beside ZKBroker, must be left out, or ZKBroker must be: coins come from one of them`,
	"unknown-key":           `ListenAddress (line 3, value "0.0.0.0:18080") is not a known key: did you mean ListenAddr?`,
	"zk-audit":              `ZKAuditSeconds is 86401, must be a whole number 0-86400 (0: off)`,
	"zk-broker-addr":        `ZKBroker[1] is "127.0.0.1:2182,127.0.0.1:2183" (too many colons in address), must be "host:port" with port 1-65535, such as "127.0.0.1:2181"`,
	"zk-broker-empty-item":  `ZKBroker[0] is "" (missing port in address), must be "host:port" with port 1-65535, such as "127.0.0.1:2181"`,
	"zk-broker-item-type":   `ZKBroker[1] is 2181, must be "host:port" with port 1-65535, such as "127.0.0.1:2181"`,
	"zk-broker-type":        `ZKBroker is "127.0.0.1:2181", must be a list of strings, such as ["127.0.0.1:2181"]`,
	"zk-dir-control":        `ZKUserCaseInsensitiveIndex is "/stratumSwitcher/ca\ase/", must be an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`,
	"zk-dir-dots":           `ZKAutoRegWatchDir is "/stratumSwitcher/../autoreg", must be an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`,
	"zk-dir-double-slash":   `ZKServerIDAssignDir is "/stratumSwitcher//swid/", must be an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`,
	"zk-dir-empty":          `ZKSwitcherWatchDir is "", must be an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`,
	"zk-dir-relative":       `ZKSwitcherWatchDir is "stratumSwitcher/btcbcc/", must be an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`,
	"zk-session-timeout":    `ZKSessionTimeoutSeconds is 121, must be a whole number 1-120`,
}

func TestBadConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/bad-*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(badConfigs) {
		t.Errorf("there are %d files and %d expected messages", len(files), len(badConfigs))
	}
	for _, name := range slices.Sorted(maps.Keys(badConfigs)) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "config", "bad-"+name+".json")
			_, err := loadConfig(path)
			if err == nil {
				t.Fatal("the file was accepted, want an error")
			}
			want := "configuration " + path + ": " + badConfigs[name]
			if err.Error() != want {
				t.Errorf("\n got %s\nwant %s", err, want)
			}
		})
	}
}

func TestLoadConfigWithoutFile(t *testing.T) {
	_, err := loadConfig(filepath.Join(t.TempDir(), "config.json"))
	if err == nil || !strings.HasPrefix(err.Error(), "read configuration: open ") {
		t.Errorf("got error %v", err)
	}
}

// wantDefaults repeats what docs/configuration.md says, so that a default does not
// change by accident.
func wantDefaults() Config {
	return Config{
		ChainType:  "bitcoin",
		ListenAddr: "0.0.0.0:18080",
		StratumServerMap: map[string]StratumServerInfo{
			"btc":     {URL: "127.0.0.1:3333", UserSuffix: "btc"},
			"bcc":     {URL: "127.0.0.1:3334", UserSuffix: "bcc"},
			"bcc2btc": {URL: "127.0.0.1:3335", UserSuffix: "btc"},
			"btc2bcc": {URL: "127.0.0.1:3336", UserSuffix: "bcc"},
		},
		ZKBroker:                   []string{"127.0.0.1:2181"},
		ZKServerIDAssignDir:        "/stratumSwitcher/bitcoin_swid/",
		ZKSwitcherWatchDir:         "/stratumSwitcher/btcbcc/",
		EnableUserAutoReg:          true,
		ZKAutoRegWatchDir:          "/stratumSwitcher/bitcoin_autoreg/",
		AutoRegMaxWaitUsers:        50,
		ZKUserCaseInsensitiveIndex: "/stratumSwitcher/bitcoin_case/",
		HTTPDebugListenAddr:        "127.0.0.1:6060",
		DrainSeconds:               5,
		PoolIdleSeconds:            120,
		MaxPoolDials:               128,
		MaxPoolDialsPerSecond:      20000,
		ZKSessionTimeoutSeconds:    20,
		ZKAuditSeconds:             300,
	}
}

// wantConfig reports each key whose values differ.
func wantConfig(t *testing.T, got, want Config) {
	t.Helper()
	a, b := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range a.NumField() {
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			t.Errorf("%s is %+v, want %+v", a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	}
}

func TestGoodConfigs(t *testing.T) {
	one := map[string]StratumServerInfo{"btc": {URL: "127.0.0.1:3333", UserSuffix: "btc"}}
	tests := []struct {
		path   string
		change func(c *Config) // changes the defaults to what the file has
	}{
		{"config.default.json", func(c *Config) {}},
		{"testdata/config/good-old.json", func(c *Config) {
			c.ServerID = 7
			c.ChainType = "decred-gominer"
			c.ListenAddr = ":18080"
			c.StratumServerMap = map[string]StratumServerInfo{
				"dcr":  {URL: "pool.example.com:3333", UserSuffix: "dcr"},
				"dcr2": {URL: "[2001:db8::1]:3334", UserSuffix: "dcr"},
			}
			c.ZKBroker = []string{"zk_1:2181", "zk2:2181", "10.0.0.3:2181"}
			c.ZKServerIDAssignDir = "unused with a ServerID/"
			c.ZKSwitcherWatchDir = "/stratumSwitcher/dcr/"
			c.EnableUserAutoReg = false
			c.ZKAutoRegWatchDir = ""
			c.AutoRegMaxWaitUsers = 0
			c.StratumServerCaseInsensitive = true
			c.ZKUserCaseInsensitiveIndex = ""
			c.HTTPDebugListenAddr = ""
		}},
		{"testdata/config/good-coin-file.json", func(c *Config) {
			c.ServerID = 1
			c.StratumServerMap = one
			c.ZKBroker = []string{}
			c.CoinFile = "coins.json"
		}},
		{"testdata/config/good-other-pools.json", func(c *Config) {
			c.StratumServerMap = map[string]StratumServerInfo{
				"btc": {URL: "pool.example.com:3333", UserSuffix: "btc", ExtraNonce: "pool", Worker: "bc1q{account}.{miner}", Password: "x",
					BackupURLs: []string{"[::1]:25", "127.0.0.1:443"}},
				"bcc": {URL: "127.0.0.1:3334", UserSuffix: "bcc"},
			}
			c.ExtraNonce2Size = 4
		}},
		{"testdata/config/good-tls.json", func(c *Config) {
			c.ListenAddr, c.TLSCertFile, c.TLSKeyFile, c.TLSRequired = "0.0.0.0:3443", "tls/cert.pem", "tls/key.pem", true
			c.StratumServerMap = map[string]StratumServerInfo{
				"btc": {URL: "stratum+ssl://pool.example.com:443", UserSuffix: "btc", TLSServerName: "pool.example.com",
					BackupURLs: []string{"stratum+ssl://[::1]:443", "127.0.0.1:3333"}},
				"bcc": {URL: "stratum+ssl://127.0.0.1:3334", UserSuffix: "bcc",
					TLSFingerprint: strings.Repeat("0A:", 31) + "0a, " + strings.Repeat("0b", 32)},
				"bsv": {URL: "stratum+ssl://127.0.0.1:3335", UserSuffix: "bsv", TLSVerify: new(bool)},
			}
		}},
		{"testdata/config/good-new-keys.json", func(c *Config) {
			c.ChainType = "ethereum"
			c.ListenAddr = "127.0.0.1:0"
			c.StratumServerMap = map[string]StratumServerInfo{
				"eth": {URL: "127.0.0.1:3333", UserSuffix: "eth", BackupURLs: []string{"127.0.0.1:3334", "[::1]:3335"}},
			}
			c.DrainSeconds = 0
			c.PoolIdleSeconds = 0
			c.MaxPoolDials = 10000
			c.MaxSessions = 5000
			c.MaxSessionsPerIP = 50
			c.MaxConnectsPerSecond = 1000
			c.ZKSessionTimeoutSeconds = 1
			c.ZKAuditSeconds = 0
		}},
	}
	for _, test := range tests {
		t.Run(filepath.Base(test.path), func(t *testing.T) {
			got, err := loadConfig(test.path)
			if err != nil {
				t.Fatal(err)
			}
			want := wantDefaults()
			test.change(&want)
			wantConfig(t, *got, want)
		})
	}
}

// TestAbsentKeysHaveDefaults compares a configuration that has only pools with
// config.default.json, which has all keys that users should see.
func TestAbsentKeysHaveDefaults(t *testing.T) {
	text, err := os.ReadFile("config.default.json")
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	nulls := []string{}
	for key := range keys {
		if key != "StratumServerMap" {
			nulls = append(nulls, `"`+key+`": null`)
		}
	}
	for _, rest := range []string{"", ", " + strings.Join(nulls, ", ")} {
		got, err := parseConfig([]byte(`{"StratumServerMap": ` + string(keys["StratumServerMap"]) + rest + `}`))
		if err != nil {
			t.Fatal(err)
		}
		wantConfig(t, *got, wantDefaults())
	}
}

func TestCheckHostPort(t *testing.T) {
	tests := []struct {
		addr            string
		listen, connect bool
	}{
		{"127.0.0.1:3333", true, true},
		{"pool.example.com:443", true, true},
		{"pool.example.com.:443", true, true},
		{"btc_pool-1:1", true, true},
		{"localhost:65535", true, true},
		{"[::1]:3333", true, true},
		{"[fe80::1%eth0]:3333", true, true},
		{":18080", true, false},
		{"127.0.0.1:0", true, false},
		{"", false, false},
		{":", false, false},
		{"127.0.0.1", false, false},
		{"127.0.0.1:", false, false},
		{"127.0.0.1:-1", false, false},
		{"127.0.0.1:65536", false, false},
		{"127.0.0.1:http", false, false},
		{"::1:3333", false, false},
		{"10.0.0:3333", false, false},
		{"pool..example.com:3333", false, false},
		{" 127.0.0.1:3333", false, false},
		{"pool.example.com:3333 ", false, false},
		{"http://pool:3333", false, false},
		{"pool/x:3333", false, false},
		{strings.Repeat("a", 64) + ":3333", false, false},
		{strings.Repeat("a.", 127) + "a:3333", false, false},
	}
	for _, test := range tests {
		if err := checkHostPort(test.addr, true); (err == nil) != test.listen {
			t.Errorf("listening at %q: got error %v", test.addr, err)
		}
		if err := checkHostPort(test.addr, false); (err == nil) != test.connect {
			t.Errorf("connecting to %q: got error %v", test.addr, err)
		}
	}
}

func TestCheckZKDir(t *testing.T) {
	tests := map[string]bool{
		"/":          true,
		"/a":         true,
		"/a/":        true,
		"/a/b.c/..d": true,
		"/a b/é/":    true,
		"":           false,
		"a/":         false,
		"//":         false,
		"/a//":       false,
		"/a//b":      false,
		"/./a":       false,
		"/a/..":      false,
		"/a\x00/":    false,
		"/a\u009f/":  false,
		"/\ufffd":    false,
		"/😀":         false,
	}
	for dir, good := range tests {
		c, p := defaultConfig(), configProblems{}
		c.ZKSwitcherWatchDir = dir
		c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: "127.0.0.1:3333"}}
		checkObject(c, configKeys, "", &p)
		if (len(p.errs) == 0) != good {
			t.Errorf("ZKSwitcherWatchDir %q: got errors %v", dir, p.errs)
		}
	}
}

func TestConfigByteOrderMark(t *testing.T) {
	text := "\ufeff" + `{"StratumServerMap": {"btc": {"URL": "127.0.0.1:3333"}}}`
	if _, err := parseConfig([]byte(text)); err != nil {
		t.Error(err)
	}
	if _, err := parseConfig([]byte(text + ",")); err == nil || !strings.HasPrefix(err.Error(), "line 1 column 57: ") {
		t.Errorf("got error %v", err)
	}
}

func TestLongValuesAreShortened(t *testing.T) {
	_, err := parseConfig([]byte(`{"StratumServerMap": "` + strings.Repeat("é", 1000) + `"}`))
	want := `StratumServerMap is "` + strings.Repeat("é", 39) + `…, must be ` + wantCoins
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

// FuzzParseConfig: no text makes the parser panic, and a good configuration is the
// same after it was written and read again, as an upgrade does.
func FuzzParseConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, "config.default.json") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err != nil {
			if c != nil || err.Error() == "" {
				t.Errorf("got configuration %v and error %q", c, err)
			}
			return
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseConfig(written)
		if err != nil {
			t.Fatalf("%v in %s", err, written)
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("the configuration\n       %+v\nbecame %+v", c, again)
		}
	})
}
