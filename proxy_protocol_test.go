package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	proxyV1Header = "PROXY TCP4 12.34.56.78 10.0.0.1 4444 18080\r\n"
	proxyV2Header = "\r\n\r\n\x00\r\nQUIT\n" + "\x21\x11\x00\x0c" + "\x0c\x22\x38\x4e" + "\x0a\x00\x00\x01" + "\x11\x5c" + "\x46\xa0"
	proxyV2Local  = "\r\n\r\n\x00\r\nQUIT\n" + "\x20\x00\x00\x00"
)

func TestSessionProxyProtocol(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 3})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, func(c *Config) { c.TrustedProxies = []string{"127.0.0.0/8", "::1"} })
	const requests = `{"id":1,"method":"mining.subscribe","params":["m"]}` + "\n" +
		`{"id":2,"method":"mining.authorize","params":["alice.one","x"]}` + "\n"
	for name, test := range map[string]struct{ header, number string }{
		"version 1":     {proxyV1Header, "203569230"},
		"version 2":     {proxyV2Header, "203569230"},
		"its own check": {proxyV2Local, "2130706433"},
		"unknown":       {"PROXY UNKNOWN\r\n", "2130706433"},
		"no header":     {"", "2130706433"},
	} {
		for _, pieces := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := stratumtest.DialRaw(t, sw.addr)
				if text := test.header + requests; pieces {
					for i := range text {
						r.Send(text[i : i+1])
					}
				} else {
					r.Send(text)
				}
				r.ExpectMethodAfter(`{"id":2,"result":true,"error":null}`)
				subscribes := btc.Subscribes()
				if last := subscribes[len(subscribes)-1]; !strings.HasSuffix(last, ","+test.number+"]") {
					t.Errorf("the pool got the address %s, want %s", last, test.number)
				}
			})
		}
	}
	for name, header := range map[string]string{
		"not a header": "PROXY TCP4 nonsense\r\n",
		"endless":      "PROXY " + strings.Repeat("x", 200),
		"too long":     "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			r := stratumtest.DialRaw(t, sw.addr)
			r.Send(header)
			r.ExpectClosed()
		})
	}
}

func TestSessionProxyProtocolFromStrangers(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc"})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8"} })
	for _, header := range []string{proxyV1Header, proxyV2Header} {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(header)
		r.ExpectClosed()
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, header := range []string{proxyV1Header, proxyV2Header, proxyV2Local, "PROXY UNKNOWN\r\n", "{", "\r\n"} {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Session{addr: netip.MustParseAddrPort("192.0.2.1:1"), manager: &sessionManager{limits: newConnectionLimits(&Config{})}}
		n, err := s.takeProxyHeader(b)
		if n > len(b) || err != nil && n > 0 {
			t.Errorf("%d of %d bytes were consumed, %v", n, len(b), err)
		}
		if !s.addr.IsValid() {
			t.Error("the header was accepted without an address")
		}
	})
}

// The coin source gets the miner's address; behind a trusted proxy, that is the one
// that the proxy reports.
func TestQueriesHaveTheMinersAddress(t *testing.T) {
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 3})
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	coins.hold = true
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	for i, test := range []struct{ header, addr string }{{"", "127.0.0.1"}, {proxyV1Header, "12.34.56.78"}, {proxyV2Header, "12.34.56.78"}} {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send(test.header + rawSubscribe + "\n" + rawAuthorize + "\n")
		eventually(t, "asked", func() bool {
			coins.mu.Lock()
			defer coins.mu.Unlock()
			return len(coins.held) == i+1
		})
		coins.mu.Lock()
		got := coins.held[i].Addr.String()
		coins.mu.Unlock()
		if got != test.addr {
			t.Errorf("the coin source got %s, want %s", got, test.addr)
		}
	}
}
