//go:build linux && !portable_relay

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
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
	s = &Session{manager: m, loop: l, addr: netip.MustParseAddrPort("127.0.0.1:1"), phase: phaseRelaying, link: &link{pool: m.pools["btc"]}, account: &subAccount{}}
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

// benchTen are the shares and answers of a busy moment: ten lines in one read.
func benchTen() (shares, answers []byte) {
	for i := range 10 {
		shares = fmt.Appendf(shares, `{"id":%d,"method":"mining.submit","params":["alice.w1234","btc-815","0000000000a1b2%02x","69201234","deadbeef"]}`+"\n", 100+i, i)
		answers = fmt.Appendf(answers, `{"id":%d,"result":true,"error":null}`+"\n", 100+i)
	}
	return shares, answers
}

// BenchmarkHotPathRelay relays whole lines: "dispatch" is all but the system
// calls, "socket" is with one write on each side and a read at the other end.
func BenchmarkHotPathRelay(b *testing.B) {
	shares, answers := benchTen()
	cases := []struct {
		name      string
		fromMiner []byte // nil: nothing
		fromPool  []byte
	}{
		{name: "share and answer", fromMiner: benchShare, fromPool: benchAnswer},
		{name: "ten shares and answers", fromMiner: shares, fromPool: answers},
		{name: "job", fromPool: benchJob},
	}
	for _, c := range cases {
		for _, still := range []bool{true, false} {
			name := c.name + "/socket"
			if still {
				name = c.name + "/dispatch"
			}
			b.Run(name, func(b *testing.B) {
				s, miner, pool := benchSession(b, still)
				buf := make([]byte, 64<<10)
				expect := func(fd int, want []byte) {
					if n, errno := readNow(fd, buf); !still && (errno != 0 || n != len(want)) {
						b.Fatalf("%d of %d bytes were relayed: %v", n, len(want), errno)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					s.loop.BeginRound() // each time is a round of the loop
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
				if s.phase != phaseRelaying || len(s.requests.b) > 0 {
					b.Fatalf("phase %s, %d bytes of requests left", s.phase, len(s.requests.b))
				}
			})
		}
	}
}

// BenchmarkHotPathScan finds members of lines.
func BenchmarkHotPathScan(b *testing.B) {
	lines := []struct {
		name string
		line []byte
	}{{"share", benchShare}, {"answer", benchAnswer}, {"job", benchJob}}
	scans := []struct {
		name string
		do   func(line []byte)
	}{
		{"memberValue", func(line []byte) { memberValue(line, memberResult) }},
		{"lineMethod", func(line []byte) { lineMethod(line) }},
		{"lineID", func(line []byte) { lineID(line) }},
		{"poolLineKind", func(line []byte) { poolLineKind(line) }},
		{"minerLineKind", func(line []byte) { minerLineKind(line) }},
	}
	for _, scan := range scans {
		for _, l := range lines {
			b.Run(scan.name+"/"+l.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(l.line)))
				for b.Loop() {
					scan.do(l.line)
				}
			})
		}
	}
}

// BenchmarkHotPathRequests keeps requests until they are answered, with as
// many others under way.
func BenchmarkHotPathRequests(b *testing.B) {
	for _, waiting := range []int{0, 1, 10, 100} {
		b.Run(fmt.Sprintf("push find remove/%d waiting", waiting), func(b *testing.B) {
			var q requestQueue
			for i := range waiting {
				q.push(1, fmt.Appendf(nil, "%d", 100000+i), true)
			}
			id := []byte("4711")
			b.ReportAllocs()
			for b.Loop() {
				q.push(1, id, true)
				at, after := q.find(1, id)
				if at < 0 || after || !q.remove(at) {
					b.Fatalf("found at %d, after another %t", at, after)
				}
			}
		})
	}
}

// BenchmarkHotPathHandshake is for what comes once a connection; it decodes,
// so it allocates.
func BenchmarkHotPathHandshake(b *testing.B) {
	for _, text := range []string{
		`{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}]}`,
		`{"id":2,"method":"mining.subscribe","params":["cgminer/4.12.0"]}`,
		`{"id":3,"method":"mining.authorize","params":["alice.w1234","x"]}`,
	} {
		line := []byte(text + "\n")
		b.Run("parseRequest/"+strings.TrimPrefix(string(lineMethod(line)), "mining."), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseRequest(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	clean := benchNotify("btc-816", 1400, true)
	for name, job := range map[string][]byte{"other job": benchJob, "clean job": clean} {
		b.Run("setClean/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(setClean(chainBitcoin, job)) == 0 {
					b.Fatal("no line")
				}
			}
		})
	}
}

// None of what is done for each relayed line allocates.
func TestHotPathAllocatesNothing(t *testing.T) {
	s, _, _ := benchSession(t, true)
	shares, answers := benchTen()
	for name, relay := range map[string]func(){
		"share and answer":       func() { s.minerReceived(benchShare); s.poolReceived(benchAnswer) },
		"ten shares and answers": func() { s.minerReceived(shares); s.poolReceived(answers) },
		"job":                    func() { s.poolReceived(benchJob) },
		"kinds":                  func() { poolLineKind(benchAnswer); poolLineKind(benchJob); minerLineKind(benchShare) },
	} {
		if n := testing.AllocsPerRun(100, relay); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
