//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// tlsConfigFile writes a configuration with these further keys, and further keys of
// its pool.
func tlsConfigFile(t *testing.T, keys, poolKeys string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	coins := filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, coins, `{"*": "btc"}`)
	testkit.WriteFile(t, path, fmt.Sprintf(`{"ListenAddr": "127.0.0.1:0", "CoinFile": %q, %s
		"StratumServerMap": {"btc": {%s "URL": "stratum+ssl://127.0.0.1:3333"}}}`, coins, keys, poolKeys))
	return path
}

// Start and -check refuse files that cannot be used for TLS, in the same words,
// which name the key, the value and what is allowed.
func TestTLSFilesRefused(t *testing.T) {
	authority := testkit.NewAuthority(t)
	until := time.Now().Add(90 * 24 * time.Hour)
	dir := t.TempDir()
	cert, key := authority.Issue(dir, until, "switcher.test")
	_, otherKey := authority.Issue(t.TempDir(), until, "switcher.test")
	text := filepath.Join(dir, "text.pem")
	testkit.WriteFile(t, text, "no PEM\n")
	huge := filepath.Join(dir, "huge.pem")
	testkit.WriteFile(t, huge, strings.Repeat("x", 1<<20+1))
	gone := filepath.Join(dir, "gone.pem")
	pair := func(cert, key string) string {
		return fmt.Sprintf(`"TLSCertFile": %q, "TLSKeyFile": %q,`, cert, key)
	}
	for name, c := range map[string]struct{ keys, pool, want string }{
		"no certificate":    {pair(gone, key), "", `TLSCertFile is "` + gone + `" (open ` + gone + `: no such file or directory), must be a PEM file with the certificate and its chain`},
		"no key":            {pair(cert, gone), "", `TLSKeyFile is "` + gone + `" (open ` + gone + `: no such file or directory), must be a PEM file with the certificate's private key`},
		"folder":            {pair(dir, key), "", `TLSCertFile is "` + dir + `" (` + dir + ` is not a regular file), must be a PEM file with the certificate and its chain`},
		"too long":          {pair(huge, key), "", `TLSCertFile is "` + huge + `" (` + huge + ` is longer than 1048576 bytes), must be a PEM file with the certificate and its chain`},
		"no pair":           {pair(cert, otherKey), "", `TLSCertFile is "` + cert + `" and TLSKeyFile "` + otherKey + `", must be a pair: the key does not belong to the certificate; the server's own certificate must be the first in its file`},
		"swapped":           {pair(key, cert), "", `TLSCertFile is "` + key + `" and TLSKeyFile "` + cert + `", must be a pair: the certificate file holds no PEM certificate`},
		"no PEM":            {pair(text, key), "", `TLSCertFile is "` + text + `" and TLSKeyFile "` + key + `", must be a pair: the certificate file holds no PEM certificate`},
		"no PEM key":        {pair(cert, text), "", `TLSCertFile is "` + cert + `" and TLSKeyFile "` + text + `", must be a pair: the key file holds no PEM private key that can be used (an encrypted key cannot)`},
		"no authority":      {"", `"TLSCAFile": "` + gone + `",`, `StratumServerMap.btc.TLSCAFile is "` + gone + `" (open ` + gone + `: no such file or directory), must be ` + wantCAFile},
		"key as authority":  {"", `"TLSCAFile": "` + key + `",`, `StratumServerMap.btc.TLSCAFile is "` + key + `" (` + key + `: it holds a PEM block of type "PRIVATE KEY", not only certificates), must be ` + wantCAFile},
		"text as authority": {"", `"TLSCAFile": "` + text + `",`, `StratumServerMap.btc.TLSCAFile is "` + text + `" (` + text + `: it holds no PEM certificate, or a damaged one), must be ` + wantCAFile},
		"both": {pair(gone, key), `"TLSCAFile": "` + gone + `",`, `TLSCertFile is "` + gone + `" (open ` + gone + `: no such file or directory), must be a PEM file with the certificate and its chain` + "\n" +
			`StratumServerMap.btc.TLSCAFile is "` + gone + `" (open ` + gone + `: no such file or directory), must be ` + wantCAFile},
		"fine": {pair(cert, key), `"TLSCAFile": "` + authority.File + `",`, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wantCheckIsStart(t, tlsConfigFile(t, c.keys, c.pool)); fmt.Sprint(err) != c.want {
				t.Errorf("\n got %v\nwant %s", err, c.want)
			}
		})
	}
}

// -check warns about certificates that miners will soon refuse, and about pools
// that anybody can impersonate.
func TestTLSWarnings(t *testing.T) {
	authority := testkit.NewAuthority(t)
	now := time.Now()
	stamp := func(at time.Time) string { return at.UTC().Format(time.DateTime) }
	for name, c := range map[string]struct {
		until time.Time
		pool  string
		want  func(cert string) []string
	}{
		"fine": {now.Add(15 * 24 * time.Hour), "", func(string) []string { return nil }},
		"soon": {now.Add(13*24*time.Hour + time.Hour), "", func(cert string) []string {
			return []string{"warning: TLSCertFile " + cert + ": the TLS certificate expires on " + stamp(now.Add(13*24*time.Hour+time.Hour)) + " UTC, in 13 days"}
		}},
		"expired": {now.Add(-time.Hour), "", func(cert string) []string {
			return []string{"warning: TLSCertFile " + cert + ": the TLS certificate expired on " + stamp(now.Add(-time.Hour)) + " UTC: miners that check it cannot connect"}
		}},
		"unverified": {now.Add(30 * 24 * time.Hour), `"TLSVerify": false,`, func(string) []string {
			return []string{"warning: StratumServerMap.btc.TLSVerify is false: whoever is between here and the pool can read and change everything; with TLSFingerprint they could not"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cert, key := authority.Issue(t.TempDir(), c.until, "switcher.test")
			config, err := loadConfig(tlsConfigFile(t, fmt.Sprintf(`"TLSCertFile": %q, "TLSKeyFile": %q,`, cert, key), c.pool))
			mustDo(t, err)
			warnings, _, err := checkStart(config, nil)
			mustDo(t, err)
			if want := c.want(cert); !slices.Equal(warnings, want) {
				t.Errorf("\n got %q\nwant %q", warnings, want)
			}
		})
	}
}

// A renewed file of TLSCAFile is used, and a bad one changes nothing.
func TestTrustsAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	copyFile := func(from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		mustDo(t, err)
		testkit.WriteFile(t, path, string(text))
	}
	copyFile(testkit.NewAuthority(t).File)
	c, err := loadConfig(tlsConfigFile(t, "", `"TLSCAFile": "`+path+`",`))
	mustDo(t, err)
	pools, err := newPools(c, newHealth())
	mustDo(t, err)
	pool := pools["btc"].addresses[0].tls
	if _, err := pool.request(-1, "", 0); err == nil || err.Error() != "the file of TLSCAFile could not be read: "+path {
		t.Errorf("before the file was read: got error %v", err)
	}
	mustDo(t, loadTrusts(pools))
	first := pool.trust.Load()
	testkit.WriteFile(t, path, "garbage")
	if err := loadTrusts(pools); err == nil || pool.trust.Load() != first {
		t.Errorf("a bad file changed the trusted authorities: %v", err)
	}
	copyFile(testkit.NewAuthority(t).File)
	mustDo(t, loadTrusts(pools))
	if r, err := pool.request(-1, "", 0); err != nil || r.Trust == first || r.ServerName != "127.0.0.1" {
		t.Errorf("got request %+v, error %v", r, err)
	}
}

// What is known about an address with TLS says nothing about the same port without
// TLS, or with other settings.
func TestTLSAddressesAreApart(t *testing.T) {
	c, err := parseConfig([]byte(`{"StratumServerMap": {
		"a": {"URL": "127.0.0.1:1"}, "b": {"URL": "stratum+ssl://127.0.0.1:1"}, "c": {"URL": "stratum+tls://127.0.0.1:1"},
		"d": {"URL": "stratum+ssl://127.0.0.1:1", "TLSServerName": "pool.test"}, "e": {"URL": "stratum+tcp://127.0.0.1:1"}}}`))
	mustDo(t, err)
	pools, err := newPools(c, newHealth())
	mustDo(t, err)
	at := func(coin string) *endpoint { return pools[coin].addresses[0].ips[0] }
	if at("a") != at("e") || at("b") != at("c") || at("a") == at("b") || at("b") == at("d") {
		t.Error("addresses share an endpoint that should not, or do not share one that should")
	}
	if text := pools["c"].addresses[0].ips[0].String(); text != "stratum+ssl://127.0.0.1:1" {
		t.Errorf("the endpoint with TLS is named %q", text)
	}
	if text := pools["a"].addresses[0].ips[0].String(); text != "127.0.0.1:1" {
		t.Errorf("the endpoint without TLS is named %q", text)
	}
	if text := pools["c"].addresses[0].text; text != "stratum+ssl://127.0.0.1:1" {
		t.Errorf("the address is shown as %s", text)
	}
	b, d := *pools["b"], *pools["d"]
	b.suffix = d.suffix
	if b.sameAs(&d) {
		t.Error("a pool with another TLSServerName counts as the same")
	}
}
