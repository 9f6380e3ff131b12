package stratumtest

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"
)

func TestMinerOnPool(t *testing.T) {
	tests := []struct {
		name  string
		pool  PoolOptions
		miner MinerOptions
	}{
		{"plain", PoolOptions{ShareBits: 6}, MinerOptions{}},
		{"pipelined", PoolOptions{ShareBits: 6}, MinerOptions{Pipelined: true, SuggestDifficulty: 16, ExtranonceSubscribe: true}},
		{"version rolling", PoolOptions{ShareBits: 6, VersionMask: 0x1fffe000}, MinerOptions{Configure: 0x1fff0000, Pipelined: true}},
		{"version rolling refused", PoolOptions{ShareBits: 6}, MinerOptions{Configure: 0x1fff0000}},
		{"mask by notification", PoolOptions{ShareBits: 4, VersionMask: 0x1fffe000, Modes: Modes{SendVersionMask: true}}, MinerOptions{Configure: 0xffffffff, SuggestDifficulty: 4}},
		{"string ids", PoolOptions{ShareBits: 3}, MinerOptions{IDs: IDStrings, ExtranonceSubscribe: true}},
		{"same ids", PoolOptions{ShareBits: 3}, MinerOptions{IDs: IDSame, Pipelined: true, Configure: 0x1fffe000}},
		{"jobs of 4 KB", PoolOptions{ShareBits: 5, JobSize: 4096, JobIDs: JobIDCounting}, MinerOptions{}},
		{"cheating", PoolOptions{SkipWork: true, ShareBits: 60, VersionMask: 0x1fffe000}, MinerOptions{CheatHash: true, Configure: 0x1fffe000}},
		{"paced", PoolOptions{ShareBits: 4, JobInterval: 5 * time.Millisecond}, MinerOptions{Rate: 500}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPool(t, tt.pool)
			tt.miner.Addr = p.Addr()
			m := startMiner(t, tt.miner)
			must(t, p.WaitConnections(within(t), 1))
			must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Accepted >= 20 }))
			p.NewJob(true)
			p.SetShareBits(tt.pool.ShareBits+1, false)
			must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Accepted >= 60 }))
			s := m.Stats()
			for code := range s.RejectedByCode {
				if code != 21 { // a share and the clean job may have crossed on the way
					t.Errorf("unexpected statistics of the miner: %+v", s)
				}
			}
			if len(s.Violations) > 0 || s.Doubled+s.Unknown+s.OutOfOrder > 0 {
				t.Errorf("unexpected statistics of the miner: %+v", s)
			}
			checkNoFaults(t, p)
			if got := p.Workers()["miner.1"]; got < 60 {
				t.Errorf("the worker has %d accepted shares, want at least 60", got)
			}
			info := p.Conns()
			if len(info) != 1 || info[0].Extranonce != m.Extranonce1() {
				t.Errorf("the pool has connections %+v, but the miner has extranonce %s", info, m.Extranonce1())
			}
			m.Close()
			must(t, p.WaitConnections(within(t), 0))
		})
	}
}

func TestTamperedShares(t *testing.T) {
	p := startPool(t, PoolOptions{Name: "a", ShareBits: 16, VersionMask: 0x1fffe000})
	m := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true, Configure: 0x1fffe000})
	var good Share
	if code := submit(t, m, func(s *Share) { good = *s }); code != 0 {
		t.Fatalf("a good share was rejected with code %d", code)
	}
	tests := []struct {
		name   string
		tamper func(*Share)
		code   int
	}{
		{"same again", func(s *Share) { *s = good }, 22},
		{"nonce", func(s *Share) { s.Nonce = "00000000" }, 23},
		{"extranonce2", func(s *Share) { s.Extranonce2 = "0000000000000001" }, 23},
		{"time", func(s *Share) { s.NTime = fmt.Sprintf("%08x", mustHex(s.NTime)+1) }, 23},
		{"version bits", func(s *Share) { s.VersionBits = fmt.Sprintf("%08x", mustHex(s.VersionBits)^0x2000) }, 23},
		{"version bits outside of the mask", func(s *Share) { s.VersionBits = "20000000" }, 20},
		{"short extranonce2", func(s *Share) { s.Extranonce2 = "00000001" }, 20},
		{"time too early", func(s *Share) { s.NTime = "00000000" }, 20},
		{"job of another pool", func(s *Share) { s.Job = "b-1" }, 21},
		{"worker", func(s *Share) { s.Worker = "someone.else" }, 24},
		{"no hex", func(s *Share) { s.Nonce = "zzzzzzzz" }, 20},
	}
	want := map[int]uint64{}
	for _, tt := range tests {
		if code := submit(t, m, tt.tamper); code != tt.code {
			t.Errorf("%s: got code %d, want %d", tt.name, code, tt.code)
		}
		want[tt.code]++
	}
	// A share for a job that a clean job has replaced is stale.
	var stale Share
	submit(t, m, func(s *Share) { stale = *s; s.Nonce = "00000000" })
	want[23]++
	p.NewJob(true)
	if code := submit(t, m, func(s *Share) { *s = stale }); code != 21 {
		t.Errorf("a stale share got code %d, want 21", code)
	}
	want[21]++
	s := p.Stats()
	for code, n := range want {
		if s.RejectedByCode[code] != n {
			t.Errorf("the pool rejected %d shares with code %d, want %d", s.RejectedByCode[code], code, n)
		}
	}
	if got := len(p.Rejects()); got != int(s.Rejected) || p.Rejects()[0].Reason == "" {
		t.Errorf("%d of %d rejected shares are in the list", got, s.Rejected)
	}
}

func mustHex(s string) uint32 {
	n, err := parseHex32(s)
	if err != nil {
		panic(err)
	}
	return n
}

// A share mined with one miner's extranonce must not be valid for another miner, and a
// job that was sent before a connection existed must not be valid on that connection.
func TestSharesOfOthers(t *testing.T) {
	p := startPool(t, PoolOptions{ShareBits: 16, JobIDs: JobIDCounting})
	a := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true})
	var share Share
	submit(t, a, func(s *Share) { share = *s })
	id := p.NewJob(false)
	must(t, a.WaitFor(within(t), func(s MinerStats) bool { return s.LastJobID == id }))
	b := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true})
	if code := submit(t, a, func(s *Share) { s.Job = share.Job }); code != 23 {
		t.Errorf("a share submitted for the wrong job got code %d, want 23", code)
	}
	if code := submit(t, b, func(s *Share) { *s = share }); code != 21 {
		t.Errorf("a share for a job that was never sent on this connection got code %d, want 21", code)
	}
	submit(t, a, func(s *Share) { share = *s })
	if code := submit(t, b, func(s *Share) { *s = share }); code != 23 {
		t.Errorf("a share mined with another extranonce1 got code %d, want 23", code)
	}
	// Both pools count their jobs from 1, so only the proof of work distinguishes them.
	other := startPool(t, PoolOptions{ShareBits: 16, JobIDs: JobIDCounting})
	c := startMiner(t, MinerOptions{Addr: other.Addr(), Manual: true})
	if code := submit(t, c, func(s *Share) { share.Job, share.NTime = s.Job, s.NTime; *s = share }); code != 23 {
		t.Errorf("a share for another pool's job got code %d, want 23", code)
	}
}

func TestLateShares(t *testing.T) {
	p := startPool(t, PoolOptions{ShareBits: 4})
	m := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true, LateShares: 1, LateAfter: time.Millisecond})
	p.NewJob(true)
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.RejectedByCode[21] == 1 }))
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.RejectedByCode[21] == 1 && s.Late == 1 }))
}

// The server in this test breaks the protocol in many ways, and the miner must notice.
func TestMinerNoticesFaults(t *testing.T) {
	l := listen(t)
	m, err := NewMiner(MinerOptions{Addr: l.Addr().String(), Manual: true, Pipelined: true})
	must(t, err)
	defer m.Close()
	nc, err := l.Accept()
	must(t, err)
	r := NewRaw(t, nc)
	r.ExpectMethod("mining.subscribe")
	r.ExpectMethod("mining.authorize")
	job := func(id string, clean bool) string {
		j := newBitcoinJob(1, id, 4, clean, 0)
		return string(j.line)
	}
	r.Send("nonsense\n")
	r.Send(`{"id":null,"method":"mining.set_difficulty","params":[1e-9]}` + "\n")
	r.Send(`{"id":1,"result":[[],"00000001",8],"error":null}` + "\n")
	r.Send(`{"id":2,"result":true,"error":null}` + "\n")
	r.Send(`{"id":2,"result":true,"error":null}` + "\n")
	r.Send(`{"id":99,"result":true,"error":null}` + "\n")
	r.Send(job("a-1", true) + job("b-1", false) + job("b-1", false))
	r.Send(`{"id":null,"method":"mining.set_extranonce","params":["00000002",8]}` + "\n")
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return len(s.Violations) == 5 }))
	must(t, m.SubmitOne())
	must(t, m.SubmitOne())
	r.Send(`{"id":4,"result":true,"error":null}` + "\n" + `{"id":3,"result":null,"error":null}` + "\n")
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.RejectedByCode[-1] == 1 }))
	s := m.Stats()
	if s.Doubled != 1 || s.Unknown != 1 || s.OutOfOrder != 1 || s.Switches != 1 || s.Accepted != 1 || len(s.Violations) != 6 || s.Clean() {
		t.Errorf("unexpected statistics of the miner: %+v", s)
	}
	r.Close()
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.Disconnected }))
}

// A stopped fleet submits no more shares, even if late shares are due and new jobs
// arrive.
func TestFleetStops(t *testing.T) {
	p := startPool(t, PoolOptions{Name: "a", SkipWork: true, JobInterval: 10 * time.Millisecond, CleanEvery: 1})
	f := NewFleet(FleetOptions{N: 20, Addr: p.Addr(), SharesPerSecond: 2000,
		Miner: MinerOptions{CheatHash: true, LateShares: 1, LateAfter: 15 * time.Millisecond}})
	defer f.Close()
	for round := range 3 {
		before := f.Stats().Submitted
		must(t, f.WaitFor(within(t), func(s FleetStats) bool { return s.Authorized == 20 && s.Submitted > before+200 }))
		f.SetRate(0)
		submitted, jobs := f.Stats().Submitted, f.Stats().Jobs
		must(t, f.WaitFor(within(t), func(s FleetStats) bool { return s.Jobs > jobs+100 && s.Unanswered == 0 }))
		if now := f.Stats().Submitted; now != submitted {
			t.Errorf("round %d: the stopped fleet submitted %d shares", round, now-submitted)
		}
		f.SetRate(2000)
	}
}

func TestFleet(t *testing.T) {
	for _, cheat := range []bool{false, true} {
		t.Run(fmt.Sprintf("cheat %v", cheat), func(t *testing.T) {
			p := startPool(t, PoolOptions{Name: "a", ShareBits: 3, SkipWork: cheat, JobSize: 1400})
			f := NewFleet(FleetOptions{N: 200, Addr: p.Addr(), SharesPerSecond: 2000, Miner: MinerOptions{CheatHash: cheat, Pipelined: cheat}})
			defer f.Close()
			must(t, f.WaitAuthorized(within(t)))
			must(t, p.WaitConnections(within(t), 200))
			if _, err := f.WaitPool(within(t), "a"); err != nil {
				t.Fatal(err)
			}
			p.NewJob(false)
			must(t, f.WaitFor(within(t), func(s FleetStats) bool { return s.Accepted >= 600 && s.Jobs == 400 }))
			f.SetRate(0)
			must(t, f.WaitFor(within(t), func(s FleetStats) bool { return s.Unanswered == 0 }))
			s := f.Stats()
			if s.Rejected > 0 || s.Violations > 0 || s.Doubled+s.Unknown+s.OutOfOrder > 0 || s.ByPool["a"] != 200 || s.Disconnected > 0 {
				t.Errorf("unexpected statistics of the fleet: %+v", s)
			}
			if ps := p.Stats(); ps.Accepted != s.Accepted || ps.DuplicateExtranonces > 0 || len(p.Workers()) != 200 {
				t.Errorf("unexpected statistics of the pool: %+v", ps)
			}
			if f.Latency.Count() != s.Accepted || f.Latency.Quantile(0.5) <= 0 || f.Latency.Mean() <= 0 {
				t.Errorf("the fleet has %d latencies with median %v", f.Latency.Count(), f.Latency.Quantile(0.5))
			}
			p.Close()
			must(t, f.WaitFor(within(t), func(s FleetStats) bool { return s.Disconnected == 200 }))
		})
	}
}

func TestExtranonceInHex(t *testing.T) {
	p := startPool(t, PoolOptions{})
	m := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true, LocalIP: "127.0.0.1"})
	if b, err := hex.DecodeString(m.Extranonce1()); err != nil || len(b) != 4 {
		t.Errorf("the miner has extranonce %q", m.Extranonce1())
	}
	checkClean(t, m)
}
