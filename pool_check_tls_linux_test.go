//go:build linux && !portable_relay

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// -check -pools also asks pools with TLS, shows the certificate's SHA-256 for
// TLSFingerprint, and says in words why a handshake fails.
func TestCheckPoolsTLS(t *testing.T) {
	t.Parallel()
	authority := testkit.NewAuthority(t)
	start := func(name string, config *tls.Config) *stratumtest.Pool {
		return startPool(t, stratumtest.PoolOptions{Name: name, VersionMask: 0x1fffe000, TLS: config})
	}
	good := start("good", authority.Server("127.0.0.1", "pool.test"))
	old := authority.Server("127.0.0.1")
	old.MaxVersion = tls.VersionTLS11
	tooOld := start("old", old)
	expired := start("expired", authority.ServerUntil(time.Now().Add(-time.Hour), "127.0.0.1"))
	plain := answeringPlainly(t)
	silent := testkit.StartScriptedPool(t)
	pin := fingerprintOf(mustLeaf(t, good.Addr()))
	ca := `"TLSCAFile": "` + authority.File + `"`
	_, port, err := net.SplitHostPort(good.Addr())
	mustDo(t, err)
	const fails = "1 of 1 pool addresses fail, each the URL of a coin"
	until := time.Now().Add(90 * 24 * time.Hour).UTC().Format(time.DateOnly)
	fine := "IP 127.0.0.1, answered in N ms; TLS 1.3, certificate until " + until + " with SHA-256 " + pin + ", takes the switcher's extranonce"
	for name, c := range map[string]struct{ at, keys, want, err string }{
		"authority":    {good.Addr(), ca, fine, ""},
		"fingerprint":  {good.Addr(), `"TLSFingerprint": "` + pin + `"`, fine, ""},
		"unverified":   {good.Addr(), `"TLSVerify": false`, fine, ""},
		"name":         {"pool.test:" + port, ca, "answered in N ms; TLS 1.3", ""},
		"given name":   {good.Addr(), ca + `, "TLSServerName": "pool.test"`, fine, ""},
		"unknown":      {good.Addr(), `"UserSuffix": "x"`, "fails: TLS handshake: unknown authority: tls: failed to verify certificate: x509: certificate signed by unknown authority; the certificate's SHA-256 is " + pin, fails},
		"wrong name":   {good.Addr(), ca + `, "TLSServerName": "other.test"`, "fails: TLS handshake: wrong name: tls: failed to verify certificate: x509: certificate is valid for pool.test, not other.test; the certificate's SHA-256 is " + pin, fails},
		"wrong pin":    {good.Addr(), `"TLSFingerprint": "` + strings.Repeat("00", 32) + `"`, "fails: TLS handshake: wrong fingerprint: the certificate is not the pinned one: its SHA-256 is " + pin, fails},
		"expired":      {expired.Addr(), ca, "fails: TLS handshake: expired: ", fails},
		"old version":  {tooOld.Addr(), ca, "fails: TLS handshake: old version: ", fails},
		"without TLS":  {plain, ca, "fails: TLS handshake: not TLS: tls: first record does not look like a TLS handshake", fails},
		"refused":      {unusedAddr(t), ca, "fails: connect: connection refused", fails},
		"silent":       {silent.Addr(), ca, "fails: takes the connection but does not finish the TLS handshake within ", fails},
		"plain at TLS": {good.Addr(), "", "fails: closes the connection without an answer to mining.subscribe: is it a Stratum port, and does it use TLS if and only if the URL says so?", fails},
	} {
		t.Run(name, func(t *testing.T) {
			scheme, keys := tlsScheme, ", "+c.keys
			if c.keys == "" {
				scheme, keys = "", ""
			}
			names := map[string][]netip.Addr{"pool.test": {netip.MustParseAddr("127.0.0.1")}}
			servers := fmt.Sprintf(`"btc": {"URL": %q%s}`, scheme+c.at, keys)
			within := testWait
			if name == "silent" {
				within = 500 * time.Millisecond
			}
			got, err := poolCheckWithin(t, within, "bitcoin", servers, names)
			if !strings.Contains(got, c.want) || err == nil && c.err != "" || err != nil && err.Error() != c.err {
				t.Errorf("got %v\n%s\nwant: %s %s", err, got, c.want, c.err)
			}
			if want := "btc.URL " + scheme + c.at + ": "; !strings.HasPrefix(got, want) {
				t.Errorf("%q does not begin with %q", got, want)
			}
		})
	}
}

// mustLeaf returns the certificate that a server shows.
func mustLeaf(t *testing.T, addr string) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	mustDo(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// answeringPlainly returns the address of a server that answers everybody in plain
// text.
func answeringPlainly(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustDo(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			conn.Write([]byte(`{"id":null,"result":null,"error":[20,"what?",null]}` + "\n"))
			conn.Close()
		}
	}()
	return ln.Addr().String()
}
