//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// These benchmarks measure what is done for each line. None of it may allocate,
// apart from stratum.SetClean and the handshake, which happen once per link:
//
//	go test -run '^$' -bench HotPath . ./internal/stratum

var (
	benchShare  = []byte(stratumtest.UsualShare)
	benchAnswer = []byte(stratumtest.UsualAnswer)
	benchJob    = stratumtest.JobOfSize("btc-815", 1400, false)
)

// benchSession returns a relaying session on a loop that does not run. Its sockets
// are ends of socket pairs, whose other ends are the returned miner and pool. With
// still, they accept what is written and forget it.
func benchSession(b testing.TB, still bool) (s *Session, miner, pool int) {
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
			l.Close()
		}
	})
	s = &Session{manager: m, loop: l, addr: netip.MustParseAddrPort("127.0.0.1:1"), phase: phaseRelaying, link: &link{pool: m.pools["btc"]}, account: &subAccount{shares: new(hashrate.Counter)}}
	end := func(into **relay.Socket) int {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(pair[1]) })
		if *into, err = l.Adopt(relay.Handle(pair[0]), s); err != nil {
			b.Fatal(err)
		}
		if still {
			// After a write that fails, a socket forgets whatever else is written.
			unix.Shutdown(pair[0], unix.SHUT_WR)
			(*into).Write([]byte("\n"))
		}
		return pair[1]
	}
	return s, end(&s.miner), end(&s.link.socket)
}

// readNow reads without the scheduler's bookkeeping, as the relay does.
func readNow(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

// benchTen returns the shares and answers of a busy moment: ten lines in one read.
func benchTen() (shares, answers []byte) {
	for i := range 10 {
		shares = fmt.Appendf(shares, `{"id":%d,"method":"mining.submit","params":["alice.w1234","btc-815","0000000000a1b2%02x","69201234","deadbeef"]}`+"\n", 100+i, i)
		answers = fmt.Appendf(answers, `{"id":%d,"result":true,"error":null}`+"\n", 100+i)
	}
	return shares, answers
}

// BenchmarkHotPathRelay relays whole lines. "dispatch" is everything except the
// system calls, and "socket" includes one write on each side and a read at the
// other end.
func BenchmarkHotPathRelay(b *testing.B) {
	shares, answers := benchTen()
	cases := []struct {
		name       string
		fromMiner  []byte // nil means nothing
		fromPool   []byte
		difficulty hashrate.Difficulty
	}{
		{name: "share and answer", fromMiner: benchShare, fromPool: benchAnswer},
		{name: "share of known difficulty and answer", fromMiner: benchShare, fromPool: benchAnswer, difficulty: 4096},
		{name: "ten shares and answers", fromMiner: shares, fromPool: answers},
		{name: "job", fromPool: benchJob},
		{name: "two jobs", fromPool: append(stratumtest.JobOfSize("btc-816", 1400, false), benchJob...)}, // neither is a repetition of the previous one
	}
	for _, c := range cases {
		for _, still := range []bool{true, false} {
			name := c.name + "/socket"
			if still {
				name = c.name + "/dispatch"
			}
			b.Run(name, func(b *testing.B) {
				s, miner, pool := benchSession(b, still)
				s.link.work.SetDifficulty(c.difficulty, 0)
				buf := make([]byte, 64<<10)
				expect := func(fd int, want []byte) {
					if n, errno := readNow(fd, buf); !still && (errno != 0 || n != len(want)) {
						b.Fatalf("only %d of %d bytes were relayed: %v", n, len(want), errno)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					s.loop.BeginRound() // each iteration is a round of the loop
					if c.fromMiner != nil {
						s.minerReceived(c.fromMiner)
					}
					s.poolReceived(c.fromPool)
					if still {
						continue
					}
					if c.fromMiner != nil {
						expect(pool, c.fromMiner)
					}
					expect(miner, c.fromPool)
				}
				if s.phase != phaseRelaying || s.requests.Size() > 0 {
					b.Fatalf("the session is %s with %d bytes of requests left", s.phase, s.requests.Size())
				}
			})
		}
	}
}

// Nothing that is done for a relayed line allocates.
func TestHotPathAllocatesNothing(t *testing.T) {
	s, _, _ := benchSession(t, true)
	shares, answers := benchTen()
	for name, relay := range map[string]func(){
		"share and answer":       func() { s.minerReceived(benchShare); s.poolReceived(benchAnswer) },
		"ten shares and answers": func() { s.minerReceived(shares); s.poolReceived(answers) },
		"job":                    func() { s.poolReceived(benchJob) },
		"kinds": func() {
			stratum.PoolLineKind(benchAnswer)
			stratum.PoolLineKind(benchJob)
			stratum.MinerLineKind(benchShare)
		},
	} {
		if n := testing.AllocsPerRun(100, relay); n > 0 {
			t.Errorf("%s: got %v allocations, want none", name, n)
		}
	}
}
