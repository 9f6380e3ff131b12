package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// poolCheckOf runs -check -pools for a chain and the content of StratumServerMap,
// with short times and these names.
func poolCheckOf(t *testing.T, chain, servers string, names map[string][]netip.Addr) (output string, err error) {
	t.Helper()
	return poolCheckWithin(t, testWait, chain, servers, names)
}

// poolCheckWithin is like poolCheckOf, with a time for each IP.
func poolCheckWithin(t *testing.T, ipTimeout time.Duration, chain, servers string, names map[string][]netip.Addr) (output string, err error) {
	t.Helper()
	c, err := parseConfig(fmt.Appendf(nil, `{"ChainType": %q, "StratumServerMap": {%s}}`, chain, servers))
	mustDo(t, err)
	addresses, err := checkedAddresses(c)
	mustDo(t, err)
	q, err := newPoolCheck(c)
	mustDo(t, err)
	q.timeout, q.ipTimeout = 2*testWait, ipTimeout
	q.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		if ips := names[host]; ips != nil {
			return ips, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out strings.Builder
	err = q.run(&out, addresses)
	return regexp.MustCompile(`\d+ ms`).ReplaceAllString(out.String(), "N ms"), err
}

// -check -pools says what each address gives, or in words why it fails.
func TestCheckPools(t *testing.T) {
	session := startPool(t, stratumtest.PoolOptions{Name: "session", VersionMask: 0x1fffe000})
	plain := startPool(t, stratumtest.PoolOptions{Name: "plain"})
	picks := pickingPool(t, "picks", 4, 8)
	small := pickingPool(t, "small", 4, 2)
	eth := startPool(t, stratumtest.PoolOptions{Name: "eth", Chain: stratumtest.Ethereum})
	closed := unusedAddr(t)
	_, port, err := net.SplitHostPort(session.Addr())
	mustDo(t, err)
	loopback := netip.MustParseAddr("127.0.0.1")
	names := map[string][]netip.Addr{"one.test": {loopback}, "two.test": {netip.IPv6Loopback(), loopback}, "mapped.test": {netip.MustParseAddr("::ffff:127.0.0.1")}}

	const session8 = "takes the switcher's extranonce, extranonce2 of 8 bytes, version rolling with mask 1fffe000"
	for name, c := range map[string]struct{ chain, servers, want, err string }{
		"session":  {"bitcoin", `"btc": {"URL": "` + session.Addr() + `"}`, "btc.URL " + session.Addr() + ": IP 127.0.0.1, answered in N ms; " + session8, ""},
		"no mask":  {"bitcoin", `"btc": {"URL": "` + plain.Addr() + `"}`, "extranonce2 of 8 bytes, no version rolling", ""},
		"pool":     {"bitcoin", `"btc": {"URL": "` + picks.Addr() + `", "ExtraNonce": "pool"}`, "picks extranonce1 of 4 bytes, extranonce2 of 8 bytes, version rolling with mask 1fffe000", ""},
		"ethereum": {"ethereum", `"eth": {"URL": "` + eth.Addr() + `"}`, "takes the switcher's extranonce, no version rolling on this chain", ""},
		"small":    {"bitcoin", `"btc": {"URL": "` + small.Addr() + `", "ExtraNonce": "pool"}`, "gives extranonce2 of 2 bytes, miners here need 3", "1 of 1 pool addresses fail, each the URL of a coin"},
		"refused":  {"bitcoin", `"btc": {"URL": "` + closed + `"}`, "fails: connect: connection refused", "1 of 1 pool addresses fail, each the URL of a coin"},
		"name":     {"bitcoin", `"btc": {"URL": "one.test:` + port + `"}`, "btc.URL one.test:" + port + ": IP 127.0.0.1, answered in N ms; " + session8, ""},
		"mapped":   {"bitcoin", `"btc": {"URL": "mapped.test:` + port + `"}`, "btc.URL mapped.test:" + port + ": IP 127.0.0.1, answered in N ms; " + session8, ""},
		"names": {"bitcoin", `"btc": {"URL": "two.test:` + port + `"}`,
			"IPs ::1 127.0.0.1, of which 127.0.0.1, answered in N ms; " + session8 + "; ::1 connect: ", ""},
		"no name": {"bitcoin", `"btc": {"URL": "pol.test:1"}`, "btc.URL pol.test:1: fails: this name does not exist (no such host)", "1 of 1 pool addresses fail, each the URL of a coin"},
		"backup": {"bitcoin", `"btc": {"URL": "` + session.Addr() + `", "BackupURLs": ["` + closed + `"]}`,
			"btc.BackupURLs[0] " + closed + ": fails: connect: connection refused", ""},
		"shared":     {"bitcoin", `"a": {"URL": "` + session.Addr() + `"}, "b": {"URL": "` + plain.Addr() + `", "BackupURLs": ["` + session.Addr() + `"]}`, "a.URL, b.BackupURLs[0] " + session.Addr() + ": IP", ""},
		"two coins":  {"bitcoin", `"b": {"URL": "` + closed + `"}, "a": {"URL": "` + session.Addr() + `"}`, session8 + "\nb.URL " + closed, "1 of 2 pool addresses fail, each the URL of a coin"},
		"both kinds": {"bitcoin", `"a": {"URL": "` + session.Addr() + `"}, "b": {"URL": "` + picks.Addr() + `", "ExtraNonce": "pool"}`, "a.URL " + session.Addr() + ": IP 127.0.0.1, answered in N ms; " + session8 + "\nb.URL", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := poolCheckOf(t, c.chain, c.servers, names)
			if !strings.Contains(got, c.want) || err == nil && c.err != "" || err != nil && err.Error() != c.err {
				t.Errorf("got %v\n%s\nwant: %s %s", err, got, c.want, c.err)
			}
		})
	}
	for _, p := range []*stratumtest.Pool{session, plain, picks, small, eth} {
		testkit.CheckPool(t, p)
	}
}

// A pool that sends nothing, too much or nonsense is given up in time, with the
// reason in words, and does not delay the others.
func TestCheckPoolsHostile(t *testing.T) {
	t.Parallel()
	var pools [6]*testkit.ScriptedPool
	for i := range pools {
		pools[i] = testkit.StartScriptedPool(t)
	}
	silent, web, flood, banner, other, refuses := pools[0], pools[1], pools[2], pools[3], pools[4], pools[5]
	subscribed := func(id int, extranonce string) string {
		return fmt.Sprintf(`{"id":%d,"result":[[],%q,8],"error":null}`, id, extranonce)
	}
	go func() { other.Next().Send(subscribed(checkSubscribeID, "f0000001") + "\n") }()
	go func() {
		refuses.Next().Send(fmt.Sprintf(`{"id":%d,"result":null,"error":[20,"\u001b[31mno",null]}`, checkSubscribeID) + "\n")
	}()
	go func() {
		r := web.Next()
		r.Send("HTTP/1.1 400 Bad Request\r\n\r\n")
		r.Close()
	}()
	go func() { // the reset ends this goroutine
		conn := <-flood.Conns
		defer conn.Close()
		for line := []byte(strings.Repeat("x", 1<<16)); ; {
			if _, err := conn.Write(line); err != nil {
				return
			}
		}
	}()
	go func() { // this pool does not answer mining.configure
		banner.Next().Send("Welcome!\n" + `{"id":9,"result":[],"error":null}` + "\n" + subscribed(1, "00ffffff") + "\n" + subscribed(checkSubscribeID, "00ffffff") + "\n")
	}()
	c, err := parseConfig(fmt.Appendf(nil, `{"StratumServerMap": {"a": {"URL": %q}, "b": {"URL": %q}, "c": {"URL": %q}, "d": {"URL": %q}, "e": {"URL": %q}, "f": {"URL": %q}}}`,
		silent.Addr(), web.Addr(), flood.Addr(), banner.Addr(), other.Addr(), refuses.Addr()))
	mustDo(t, err)
	addresses, err := checkedAddresses(c)
	mustDo(t, err)
	q, err := newPoolCheck(c)
	mustDo(t, err)
	q.ipTimeout = configureWait + 500*time.Millisecond
	began := time.Now()
	var out strings.Builder
	err = q.run(&out, addresses)
	if err == nil || err.Error() != "5 of 6 pool addresses fail, each the URL of a coin" {
		t.Errorf("unexpected error %v", err)
	}
	for _, want := range []string{
		"a.URL " + silent.Addr() + ": fails: takes the connection but does not answer mining.subscribe within 1.5s",
		"b.URL " + web.Addr() + ": fails: closes the connection without an answer to mining.subscribe: is it a Stratum port, and does it use TLS if and only if the URL says so?",
		"c.URL " + flood.Addr() + ": fails: answer to mining.subscribe: bufio: buffer full",
		"no answer to mining.configure (version rolling unknown)",
		"e.URL " + other.Addr() + `: fails: pool gave extranonce "f0000001" instead of "00ffffff": set "ExtraNonce": "pool" for this coin`,
		"f.URL " + refuses.Addr() + `: fails: pool refused to subscribe: [20,"\u001b[31mno",null]`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, &out)
		}
	}
	if took := time.Since(began); took > q.ipTimeout+testWait {
		t.Errorf("the check took %v, which is too long", took)
	}
}

func TestLookupProblem(t *testing.T) {
	for want, err := range map[string]error{
		"the name server does not answer":        &net.DNSError{Err: "i/o timeout", IsTimeout: true},
		"the look-up failed: server misbehaving": &net.DNSError{Err: "server misbehaving", IsTemporary: true},
		"x has no address":                       errors.New("x has no address"),
	} {
		if got := lookupProblem(err); got != want {
			t.Errorf("%v is explained as %q", err, got)
		}
	}
}

// There is one warning at start for each name that cannot be looked up, whatever
// uses it. What is known about the pool does not change.
func TestWarnOfUnknownNames(t *testing.T) {
	c, err := parseConfig([]byte(`{"StratumServerMap": {"btc": {"URL": "good.test:1", "BackupURLs": ["bad.test:2", "127.0.0.1:3"]}, "bcc": {"URL": "bad.test:2"}}}`))
	mustDo(t, err)
	pools, err := newPools(c, newHealth())
	mustDo(t, err)
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "good.test" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	warnings := make(chan string, 10)
	warnOfUnknownNames(pools, lookup, func(format string, args ...any) { warnings <- fmt.Sprintf(format, args...) })
	close(warnings)
	const want = "pool name not found at start pool=bad.test:2 coins=bcc,btc: this name does not exist (no such host)"
	if n, first := len(warnings), <-warnings; n != 1 || first != want {
		t.Errorf("there are %d warnings, the first is %q", n, first)
	}
	if state := pools["bcc"].addresses[0].state(true); state != breakerClosed {
		t.Errorf("the pool is %s", state)
	}
}
