//go:build linux && e2e

package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

func startProxy(t testing.TB, to string) *zktest.Proxy {
	t.Helper()
	p, err := zktest.NewProxy(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// fullListener is a listener that answers no SYN until it is opened, so whoever
// connects is stuck in connect.
type fullListener struct {
	t  testing.TB
	fd int
	to string
}

func newFullListener(t testing.TB, to string) *fullListener {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &fullListener{t: t, fd: fd, to: to}
	// It is full when two dials in a row are stuck: one may only be late.
	for stuck, dials := 0, 0; stuck < 2; dials++ {
		if dials == 10 {
			t.Fatal("the listener is not full")
		}
		if c, err := net.DialTimeout("tcp", l.addr(), 200*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
			stuck = 0
		} else {
			stuck++
		}
	}
	return l
}

func (l *fullListener) addr() string {
	sa, err := syscall.Getsockname(l.fd)
	if err != nil {
		l.t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
}

// open lets connections through.
func (l *fullListener) open() {
	l.t.Helper()
	f := os.NewFile(uintptr(l.fd), "listener")
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			pool, err := net.Dial("tcp", l.to)
			if err != nil {
				c.Close()
				return
			}
			go func() { io.Copy(c, pool); c.Close() }()
			go func() { io.Copy(pool, c); pool.Close() }()
		}
	}()
}

// inPhase reads the number of sessions in a phase from the summary line.
func inPhase(summary, phase string) string {
	m := regexp.MustCompile(` ` + phase + `=(\d+)`).FindStringSubmatch(summary)
	if m == nil {
		return "0"
	}
	return m[1]
}

// TestUpgradePhases carries a session in each phase over two upgrades. Afterwards
// each must become a mining miner.
func TestUpgradePhases(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	newPool := func(name string) *stratumtest.Pool {
		return testkit.StartPool(t, stratumtest.PoolOptions{Name: name, ShareBits: 4, VersionMask: 0x1fffe000})
	}
	slow, target, away, late, silent := newPool("slow"), newPool("target"), newPool("away"), newPool("late"), newPool("silent")
	frozen, frozenTarget, cut := startProxy(t, slow.Addr()), startProxy(t, target.Addr()), startProxy(t, away.Addr())
	full := newFullListener(t, silent.Addr())

	c := daemontest.FileConfig(btc, bcc, late)
	for coin, addr := range map[string]string{"slow": frozen.Addr(), "target": frozenTarget.Addr(), "away": cut.Addr(), "silent": full.addr()} {
		c.StratumServerMap[coin] = daemontest.PoolConfig{URL: addr, UserSuffix: coin}
	}
	coins := map[string]string{"alice": "btc", "slow": "slow", "mover": "btc", "away": "away", "late": "late", "dialler": "silent", "agent": "btc"}
	p := daemontest.Start(t, c, coins)

	// These are handshakes with the miner, and what is sent before and after the
	// upgrades.
	type handshake struct {
		name, before string
		answers      int // how many answers there are to what was sent before
		after        string
		conn         *stratumtest.Raw
	}
	const subscribe, authorize = `{"id":"s","method":"mining.subscribe","params":["x"]}` + "\n", `{"id":"a","method":"mining.authorize","params":["alice.%s","x"]}` + "\n"
	const configure = `{"id":"c","method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}` + "\n"
	handshakes := []*handshake{
		{name: "silent", after: subscribe + authorize},
		{name: "onebyte", before: "{", after: subscribe[1:] + authorize},
		{name: "halfline", before: subscribe[:30], after: subscribe[30:] + authorize},
		{name: "alineless", before: subscribe[:len(subscribe)-1], after: "\n" + authorize},
		{name: "badline", before: "{no json}\n{\"id\"", after: `:1,"method":"mining.suggest_difficulty","params":[1]}` + "\n" + subscribe + authorize},
		{name: "configured", before: configure, answers: 1, after: subscribe + authorize},
		{name: "subscribed", before: subscribe, answers: 1, after: authorize},
		{name: "half", before: configure + subscribe + authorize[:20], answers: 2, after: authorize[20:]},
	}
	for _, h := range handshakes {
		h.conn = stratumtest.DialRaw(t, p.Addr)
		h.conn.Send(strings.ReplaceAll(h.before, "%s", h.name))
		for range h.answers {
			h.conn.Line(testkit.LongWait)
		}
	}

	alice := testkit.StartMiners(t, p.Addr, "alice", 3)
	movers := testkit.StartMiners(t, p.Addr, "mover", 3)
	lost := testkit.StartMiners(t, p.Addr, "away", 3)
	lates := testkit.StartMiners(t, p.Addr, "late", 1)[0]
	lates.Close()
	lates = testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "late.w", Manual: true})
	if err := lates.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.LastJobID != "" }); err != nil {
		t.Fatal(err)
	}

	// This is a connection with several workers.
	several := stratumtest.DialRaw(t, p.Addr)
	several.Send(subscribe + fmt.Sprintf(authorize, "first"))
	readUntil(t, several, `"id":"a"`)
	several.Send(`{"id":"second","method":"mining.authorize","params":["alice.second","y"]}` + "\n")
	readUntil(t, several, `"id":"second"`)

	// This is an agent that has sent half a message.
	agent := stratumtest.DialRaw(t, p.Addr)
	agent.Send(`{"id":0,"method":"agent.get_capabilities","params":[["verrol","subres"]]}` + "\n" +
		`{"id":1,"method":"mining.subscribe","params":["btccom-agent/1"]}` + "\n" + `{"id":2,"method":"mining.authorize","params":["agent.a"]}` + "\n")
	readUntil(t, agent, `mining.notify"`) // it is in the answer to subscribe
	_, job, _ := strings.Cut(readUntil(t, agent, `mining.notify"`), `"params":["0","`)
	nonce, err := strconv.ParseUint(job[:8], 16, 32) // the nonce that simulated pools want
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint16(3) {
		agent.Send(agentMessage(agentRegister, i, "sim\x00w\x00"))
	}
	share := binary.LittleEndian.AppendUint32([]byte{0, 1, 0, 0, 0}, uint32(nonce)) // miner 1, then the extranonce2 that it counts
	submit := agentMessage(agentSubmitMask, 1<<8, string(share)+"\n\n{\"")
	agent.Send(submit[:9])
	if err := btc.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == 3 }); err != nil {
		t.Fatal(err)
	}

	// These pools do not answer, have gone, or answer late.
	const answersAfter = 4 * time.Second
	frozen.Freeze()
	frozenTarget.Freeze()
	cut.Cut()
	late.Change(func(m *stratumtest.Modes) { m.AnswerDelay = answersAfter })
	var waiting []*stratumtest.Miner
	for _, account := range []string{"slow", "dialler"} {
		for i := range 2 {
			waiting = append(waiting, testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: fmt.Sprintf("%s.w%d", account, i), Rate: 20, Pipelined: i == 0}))
		}
	}
	submitted := time.Now()
	if err := lates.SubmitOne(); err != nil {
		t.Fatal(err)
	}
	if err := late.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.Submits == late.Stats().Accepted && st.Submits > 1 }); err != nil {
		t.Fatal(err)
	}
	coins["mover"], coins["late"] = "target", "bcc"
	p.SetCoins(coins)
	if err := lates.WaitPool(testkit.LongWaitContext(t), "bcc"); err != nil {
		t.Fatal(err)
	}
	for _, m := range waiting[:2] { // only those whose handshake is not pipelined are subscribed at this point
		testkit.WaitUntil(t, "subscribed "+m.Worker(), func() bool { return m.Stats().Extranonce1 != "" })
	}
	time.Sleep(100 * time.Millisecond) // for the last requests, which are not answered yet

	for i := range 2 {
		n := p.Logged()
		p.GoodUpgrade()
		summary := p.WaitLogFrom(n, `upgraded version=.*`)[0]
		t.Log(summary)
		for phase, want := range map[string]string{"handshaking": "8", "routing": "4", "reconnecting": "3"} {
			if got := inPhase(summary, phase); got != want {
				t.Errorf("upgrade %d: %s=%s, want %s", i, phase, got, want)
			}
		}
		if got := inPhase(summary, "switching"); got != "3" && i == 0 {
			t.Errorf("upgrade %d: switching=%s, want 3", i, got)
		}
		testkit.WantMining(t, alice, "btc")
		testkit.WantMining(t, movers, "btc")
	}

	if st := lates.Stats(); st.Unanswered != 1 && time.Since(submitted) < answersAfter { // unless the upgrades take longer
		t.Errorf("the late answer has come already: %+v", st)
	}
	frozen.Thaw()
	frozenTarget.Thaw()
	cut.Restore()
	full.open()
	for _, h := range handshakes {
		h.conn.Send(strings.ReplaceAll(h.after, "%s", h.name))
		answer := readUntil(t, h.conn, `"id":"a"`)
		if !strings.Contains(answer, "true") {
			t.Errorf("%s: authorize was answered with %s", h.name, answer)
		}
		readUntil(t, h.conn, `"mining.notify"`)
	}
	testkit.WantMining(t, waiting, "")
	testkit.WantMining(t, movers, "target")
	testkit.WantMiningAfterLoss(t, lost, "away")
	testkit.WantMining(t, alice, "btc")
	if err := lates.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Errorf("the former pool's answer has not come: %v", err)
	}
	testkit.CheckMiner(t, lates)

	agent.Send(submit[9:])
	for { // binary answers come between the lines
		first := agent.Read(1)
		if first[0] == agentMagic {
			break
		}
		agent.Line(testkit.LongWait)
	}
	if answer := agent.Read(agentAnswerSize - 1); answer[0] != agentAnswer || binary.LittleEndian.Uint32(answer[5:]) != uint32(statusAccept) {
		t.Errorf("the agent's share was answered with %x", answer)
	}
	coins["agent"], coins["alice"] = "bcc", "bcc"
	p.SetCoins(coins)
	err = bcc.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == 3 })
	if err != nil {
		t.Errorf("the agent's workers are not all at the pool: %+v", bcc.Stats())
	}
	testkit.WaitUntil(t, "the second worker at the other pool", func() bool {
		for _, name := range bcc.Authorized() {
			if name == "alice.second" {
				return true
			}
		}
		return false
	})
	testkit.WantMining(t, alice, "bcc")
	for _, pool := range []*stratumtest.Pool{btc, bcc, slow, target, away, late, silent} {
		testkit.CheckPool(t, pool)
	}
}

// readUntil reads lines up to one that contains a text.
func readUntil(t testing.TB, r *stratumtest.Raw, text string) string {
	t.Helper()
	for {
		if line := r.Line(testkit.LongWait); strings.Contains(line, text) {
			return line
		}
	}
}

// shake does the pool's part of the handshake.
func shake(t testing.TB, nc net.Conn) *bufio.Reader {
	t.Helper()
	nc.SetDeadline(time.Now().Add(testkit.LongWait))
	defer nc.SetDeadline(time.Time{})
	r := bufio.NewReaderSize(nc, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "mining.subscribe") {
			id := regexp.MustCompile(`"([0-9a-f]{8})"`).FindStringSubmatch(line)[1]
			fmt.Fprintf(nc, `{"id":2147400000,"result":[[],"%s",8],"error":null}`+"\n", id)
		}
		if strings.Contains(line, "mining.authorize") {
			io.WriteString(nc, `{"id":2147400001,"result":true,"error":null}`+"\n"+`{"id":null,"method":"mining.notify","params":["j",false]}`+"\n")
			return r
		}
	}
}

// TestUpgradeUnsent: what a peer does not read is not lost, doubled or reordered,
// in either direction, over upgrades during which it still does not read.
func TestUpgradeUnsent(t *testing.T) {
	t.Parallel()
	const total = 13 << 20 // more than the daemon's two sockets hold; those of the test are small
	pool := testkit.StartScriptedPool(t)
	c := daemontest.FileConfig()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: pool.Addr(), UserSuffix: "btc"}
	p := daemontest.Start(t, c, map[string]string{"*": "btc"})
	connect := func() (miner net.Conn, minerReader *bufio.Reader, upstream net.Conn, poolReader *bufio.Reader) {
		miner, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { miner.Close() })
		io.WriteString(miner, `{"id":1,"method":"mining.subscribe","params":["x"]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["a.b"]}`+"\n")
		select {
		case upstream = <-pool.Conns:
		case <-time.After(testkit.LongWait):
			t.Fatal("no connection to the pool")
		}
		t.Cleanup(func() { upstream.Close() })
		poolReader = shake(t, upstream)
		minerReader = bufio.NewReaderSize(miner, 64<<10)
		miner.SetReadDeadline(time.Now().Add(testkit.LongWait))
		for range 3 {
			if _, err := minerReader.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		return miner, minerReader, upstream, poolReader
	}
	line := map[string]string{
		"jobs":   `{"id":null,"method":"mining.notify","params":["%d","` + strings.Repeat("0123456789abcdef", 90) + `",false]}` + "\n",
		"shares": `{"id":%d,"method":"mining.submit","params":["a.b","j","` + strings.Repeat("0123456789abcdef", 20) + `"]}` + "\n",
	}
	type flow struct {
		name string
		to   net.Conn
		from *bufio.Reader
		nc   net.Conn
		sent chan error
	}
	var flows []*flow
	{
		miner, minerReader, upstream, poolReader := connect()
		for _, nc := range []net.Conn{miner, upstream} {
			nc.(*net.TCPConn).SetReadBuffer(64 << 10)
			nc.(*net.TCPConn).SetWriteBuffer(64 << 10)
		}
		flows = append(flows, &flow{"jobs", upstream, minerReader, miner, make(chan error, 1)}, &flow{"shares", miner, poolReader, upstream, make(chan error, 1)})
	}
	count := func(f *flow) int { return total / len(line[f.name]) }
	for _, f := range flows {
		go func() {
			w := bufio.NewWriterSize(f.to, 5000) // writes end in the middle of lines
			var err error
			for i := 0; i < count(f) && err == nil; i++ {
				_, err = fmt.Fprintf(w, line[f.name], i)
			}
			if err == nil {
				err = w.Flush()
			}
			f.sent <- err
		}()
	}
	// All are stuck when the daemon has nothing more to do.
	stuck := func() {
		t.Helper()
		for last := ""; ; {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
			if now := fields[11] + "+" + fields[12]; now == last {
				return
			} else {
				last = now
			}
			time.Sleep(250 * time.Millisecond)
		}
	}
	next := make(map[*flow]int)
	read := func(f *flow, n int) {
		t.Helper()
		f.nc.SetReadDeadline(time.Now().Add(testkit.LongWait))
		for ; n > 0; n-- {
			got, err := f.from.ReadString('\n')
			if want := fmt.Sprintf(line[f.name], next[f]); err != nil || got != want {
				t.Fatalf("%s: line %d: %v; got %.100q", f.name, next[f], err, got)
			}
			next[f]++
		}
	}
	stuck()
	for i := range 4 {
		p.GoodUpgrade()
		for _, f := range flows {
			read(f, 100*i)
		}
		stuck()
	}
	for _, f := range flows {
		select {
		case <-f.sent:
			t.Fatalf("%s: everything was sent, so the test should send more", f.name)
		default:
		}
	}
	// These upgrades happen while everything flows.
	results := make(chan error, len(flows))
	for _, f := range flows {
		go func(from int) {
			for i := from; i < count(f); i++ {
				f.nc.SetReadDeadline(time.Now().Add(2 * testkit.LongWait))
				got, err := f.from.ReadString('\n')
				if want := fmt.Sprintf(line[f.name], i); err != nil || got != want {
					results <- fmt.Errorf("%s: line %d: %v; got %.100q", f.name, i, err, got)
					return
				}
			}
			results <- <-f.sent
		}(next[f])
	}
	for range 3 {
		p.GoodUpgrade()
	}
	for range flows {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
