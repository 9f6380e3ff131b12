//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is done for each line. None of it may allocate, apart from setClean and
// the handshake, which happen once a link:
//
//	go test -run '^$' -bench HotPath .

var (
	benchShare  = []byte(`{"id":4711,"method":"mining.submit","params":["alice.w1234","btc-815","0000000000a1b2c3","69201234","deadbeef","1fffe000"]}` + "\n")
	benchAnswer = []byte(`{"id":4711,"result":true,"error":null}` + "\n")
	benchJob    = benchNotify("btc-815", 1400, false)
)

// benchNotify is a job of about so many bytes.
func benchNotify(id string, size int, clean bool) []byte {
	const form = `{"id":null,"method":"mining.notify","params":["%s","%s","01000000","%s",["%s","%s"],"20000000","1d00ffff","69201234",%t]}` + "\n"
	prev, branch := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	empty := len(fmt.Sprintf(form, id, prev, "", branch, branch, clean))
	return fmt.Appendf(nil, form, id, prev, strings.Repeat("e", max(0, size-empty)), branch, branch, clean)
}

// benchSession is a relaying session on a loop that does not run. Its sockets
// are one end each of socket pairs, whose other ends are the miner and pool
// returned; with still they take what is written and forget it.
func benchSession(b *testing.B, still bool) (s *Session, miner, pool int) {
	b.Helper()
	c := defaultConfig()
	c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: "127.0.0.1:3333"}}
	m, err := newSessionManager(c, newMemoryCoins(nil))
	if err != nil {
		b.Fatal(err)
	}
	l := m.loops[0]
	b.Cleanup(func() {
		for _, l := range m.loops {
			l.close()
		}
	})
	s = &Session{manager: m, loop: l, addr: netip.MustParseAddrPort("127.0.0.1:1"), phase: phaseRelaying, pool: m.pools["btc"], account: &subAccount{}}
	end := func(into **socket) int {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(pair[1]) })
		if *into, err = l.add(pair[0], s, unix.EPOLLIN); err != nil {
			b.Fatal(err)
		}
		(*into).broken = still
		return pair[1]
	}
	return s, end(&s.miner), end(&s.upstream)
}

// BenchmarkHotPathRelay relays whole lines: "dispatch" is all but the system
// calls, "socket" is with one write and, for the other side, one read.
func BenchmarkHotPathRelay(b *testing.B) {
	cases := []struct {
		name string
		do   func(s *Session, read func(fd int))
		want func(miner, pool int) []int // who is written to
	}{
		{"share and answer", func(s *Session, _ func(int)) {
			s.minerReceived(benchShare)
			s.poolReceived(benchAnswer)
		}, func(miner, pool int) []int { return []int{pool, miner} }},
		{"job", func(s *Session, _ func(int)) {
			s.poolReceived(benchJob)
		}, func(miner, _ int) []int { return []int{miner} }},
		{"ten shares and answers", func(s *Session, _ func(int)) {
			s.minerReceived(benchShares)
			s.poolReceived(benchAnswers)
		}, func(miner, pool int) []int { return []int{pool, miner} }},
	}
	for _, c := range cases {
		for _, still := range []bool{true, false} {
			name := c.name + "/socket"
			if still {
				name = c.name + "/dispatch"
			}
			b.Run(name, func(b *testing.B) {
				s, miner, pool := benchSession(b, still)
				ends := c.want(miner, pool)
				buf := make([]byte, 64<<10)
				read := func() {
					for _, fd := range ends {
						if n, errno := rawRead(fd, buf); errno != 0 || n == 0 {
							b.Fatalf("nothing was relayed: %v", errno)
						}
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					c.do(s, nil)
					if !still {
						read()
					}
				}
				if s.phase != phaseRelaying || len(s.requests.b) > 0 {
					b.Fatalf("phase %s, %d bytes of requests left", s.phase, len(s.requests.b))
				}
			})
		}
	}
}
