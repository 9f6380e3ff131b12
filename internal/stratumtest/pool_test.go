package stratumtest

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

const (
	subscribeLine = `{"id":"subscribe","method":"mining.subscribe","params":["cgminer/4","01000080",203569230]}`
	authorizeLine = `{"id":"auth","method":"mining.authorize","params":["acc.w1","x"]}`
	configureLine = `{"id":"configure","method":"mining.configure","params":[["version-rolling","other"],{"version-rolling.mask":"ffffffff"}]}`

	subscribed = `{"id":"subscribe","result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`
	authorized = `{"id":"auth","result":true,"error":null}`
)

// The lines in this test are byte for byte those that a switcher sends and receives.
func TestSwitcherHandshake(t *testing.T) {
	p := startPool(t, PoolOptions{Name: "btc", VersionMask: 0x1fffe000, ShareBits: 32, RecordLines: true})
	r := DialRaw(t, p.Addr())
	r.Send(configureLine + "\n" + subscribeLine + "\n" + authorizeLine + "\n")
	r.ExpectLine(`{"id":"configure","result":{"other":false,"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}`)
	r.ExpectLine(subscribed)
	r.ExpectLine(authorized)
	r.ExpectLine(`{"id":null,"method":"mining.set_difficulty","params":[1]}`)
	if job := r.ExpectMethod("mining.notify"); !strings.Contains(job, `["btc-1",`) || !strings.HasSuffix(job, "true]}") {
		t.Errorf("the first job is unexpected: %s", job)
	}
	r.ExpectNothing(20 * time.Millisecond)
	// A second authorize request, for the name with a suffix, triggers no second job.
	r.SendLine(strings.Replace(authorizeLine, "acc", "acc_btc", 1))
	r.ExpectLine(authorized)
	r.ExpectNothing(20 * time.Millisecond)
	p.NewJob(false)
	if job := r.ExpectMethod("mining.notify"); !strings.HasSuffix(job, "false]}") {
		t.Errorf("the second job is unexpected: %s", job)
	}
	p.SendReconnect("h", 1, 2)
	r.ExpectLine(`{"id":null,"method":"client.reconnect","params":["h",1,2]}`)
	p.SendSetExtranonce("01020304", 4)
	r.ExpectLine(`{"id":null,"method":"mining.set_extranonce","params":["01020304",4]}`)
	p.SendVersionMask(0x00ffe000)
	r.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}`)
	r.ExpectMethod("mining.notify")
	if got := fmt.Sprint(p.Authorized()); got != "[acc.w1 acc_btc.w1]" {
		t.Errorf("the authorized workers are unexpected: %s", got)
	}
	if got := p.Subscribes(); len(got) != 1 || got[0] != `["cgminer/4","01000080",203569230]` {
		t.Errorf("the subscribe requests are unexpected: %q", got)
	}
	if got := p.Lines(); len(got) != 4 || got[0] != configureLine {
		t.Errorf("the recorded lines are unexpected: %q", got)
	}
	if got := p.Conns(); len(got) != 1 || got[0].Extranonce != "01000080" || len(got[0].Workers) != 2 {
		t.Errorf("the connections are unexpected: %+v", got)
	}
	checkNoFaults(t, p)
	p.CloseConnections()
	r.ExpectClosed()
}

func TestPoolModes(t *testing.T) {
	both := subscribeLine + "\n" + authorizeLine + "\n"
	tests := []struct {
		name  string
		modes Modes
		check func(*Raw)
	}{
		{"hang", Modes{Hang: true}, func(r *Raw) { r.ExpectNothing(50 * time.Millisecond) }},
		{"close at accept", Modes{CloseAt: StageAccept}, func(r *Raw) { r.ExpectClosed() }},
		{"close at subscribe", Modes{CloseAt: StageSubscribe}, func(r *Raw) {
			if line, err := r.TryLine(Patience); err == nil { // a reset may discard the line
				if line != subscribed {
					panic(line)
				}
				r.ExpectClosed()
			}
		}},
		{"close at authorize request", Modes{CloseAt: StageAuthorizeRequest}, func(r *Raw) { r.ExpectLine(subscribed); r.ExpectClosed() }},
		{"close after authorize", Modes{CloseAt: StageAuthorize}, func(r *Raw) { r.ExpectLine(subscribed); r.ExpectLine(authorized); r.ExpectClosed() }},
		{"refuse the worker", Modes{RefuseWorker: true}, func(r *Raw) {
			r.ExpectLine(subscribed)
			r.ExpectLine(`{"id":"auth","result":null,"error":[24,"Unauthorized worker",null]}`)
			r.ExpectNothing(20 * time.Millisecond)
		}},
		{"other extranonce", Modes{OtherExtranonce: true}, func(r *Raw) { r.ExpectLine(strings.ReplaceAll(subscribed, "01000080", "01000081")) }},
		{"extranonce size", Modes{Extranonce2Size: 4}, func(r *Raw) { r.ExpectLine(strings.Replace(subscribed, ",8]", ",4]", 1)) }},
		{"no job", Modes{NoJob: true}, func(r *Raw) {
			r.ExpectLine(subscribed)
			r.ExpectLine(authorized)
			r.ExpectNothing(20 * time.Millisecond)
		}},
		{"authorize first", Modes{AuthorizeFirst: true}, func(r *Raw) {
			r.ExpectLine(authorized)
			r.ExpectLine(subscribed)
			r.ExpectMethod("mining.set_difficulty")
		}},
		{"early notifications", Modes{EarlyNotify: true}, func(r *Raw) {
			r.ExpectLine(subscribed)
			r.ExpectMethod("mining.set_difficulty")
			r.ExpectMethod("mining.notify")
			r.ExpectLine(authorized)
			r.ExpectNothing(20 * time.Millisecond)
		}},
		{"slow", Modes{HandshakeDelay: 30 * time.Millisecond}, func(r *Raw) {
			r.ExpectNothing(15 * time.Millisecond)
			r.ExpectLine(subscribed)
			r.ExpectLine(authorized)
		}},
		{"byte by byte", Modes{Trickle: 10 * time.Microsecond}, func(r *Raw) {
			r.ExpectLine(subscribed)
			r.ExpectLine(authorized)
			r.ExpectMethod("mining.set_difficulty")
		}},
		{"first job not clean", Modes{FirstJobNotClean: true}, func(r *Raw) {
			r.ExpectLine(subscribed)
			r.ExpectLine(authorized)
			r.ExpectMethod("mining.set_difficulty")
			if line := r.ExpectMethod("mining.notify"); !strings.HasSuffix(line, "false]}") {
				panic(line)
			}
		}},
		{"no answer to configure", Modes{IgnoreConfigure: true}, func(r *Raw) {
			r.ExpectLine(subscribed)
			r.ExpectLine(authorized)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := startPool(t, PoolOptions{VersionMask: 1, Modes: tt.modes})
			p.NewJob(false)
			r := DialRaw(t, p.Addr())
			text := both
			if tt.modes.IgnoreConfigure {
				text = configureLine + "\n" + both
			}
			r.Conn().Write([]byte(text)) // the write may fail if the pool closes the connection at once
			tt.check(r)
			// The pool can be made to behave well while it runs.
			p.SetModes(Modes{})
			m := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true, Configure: 1})
			if code := submit(t, m, nil); code != 0 {
				t.Errorf("a share was rejected with code %d", code)
			}
			checkClean(t, m)
		})
	}
}

// A treatment applies to the matching workers, and all others are served normally.
func TestPoolTreatments(t *testing.T) {
	p := startPool(t, PoolOptions{Name: "btc"})
	p.SetTreatments(map[string]Treatment{
		"refused": TreatRefuseAndClose, "closed": TreatClose, "hung": TreatHang, "flapping": TreatFlap, "acc.flapping": TreatFlap,
	})
	authorize := func(name string) *Raw {
		r := DialRaw(t, p.Addr())
		r.SendLine(subscribeLine)
		r.ExpectLine(subscribed)
		r.SendLine(strings.Replace(authorizeLine, "acc.w1", name, 1))
		return r
	}
	r := authorize("refused_btc.w1")
	r.ExpectLine(`{"id":"auth","result":null,"error":[24,"Unauthorized worker",null]}`)
	r.ExpectClosed()
	authorize("closed.w1").ExpectClosed()
	authorize("hung.w1").ExpectNothing(50 * time.Millisecond)
	for _, name := range []string{"flapping.w1", "acc.flapping", "acc_btc.flapping"} {
		r = authorize(name)
		r.ExpectLine(authorized)
		r.ExpectMethod("mining.set_difficulty")
		r.ExpectMethod("mining.notify")
		r.ExpectClosed()
	}
	r = authorize("acc.w1")
	r.ExpectLine(authorized)
	r.ExpectMethod("mining.set_difficulty")
	r.ExpectMethod("mining.notify")
	r.ExpectNothing(2 * flapAfter)
	checkNoFaults(t, p)
}

func TestShareModes(t *testing.T) {
	p := startPool(t, PoolOptions{VersionMask: 0x1fffe000, Modes: Modes{NoVersionRolling: true}})
	m := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true, Configure: 0x1fffe000})
	p.Change(func(m *Modes) { m.RejectShares = true })
	if code := submit(t, m, nil); code != 20 {
		t.Errorf("the share got code %d, want 20", code)
	}
	p.SetModes(Modes{NoShareAnswers: true})
	must(t, m.SubmitOne())
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Submits == 2 }))
	// Answers are delayed but stay in order, and a job overtakes them.
	p.SetModes(Modes{AnswerDelay: 50 * time.Millisecond})
	must(t, m.SubmitOne())
	must(t, m.SubmitOne())
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Submits == 4 }))
	id := p.NewJob(true)
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.LastJobID == id }))
	if s := m.Stats(); s.Unanswered != 3 {
		t.Errorf("%d shares are unanswered, want 3", s.Unanswered)
	}
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.Unanswered == 1 && s.Accepted == 2 }))
}

func TestStopAndRestart(t *testing.T) {
	p := startPool(t, PoolOptions{JobInterval: time.Millisecond})
	m := startMiner(t, MinerOptions{Addr: p.Addr()})
	addr := p.Addr()
	p.Close()
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.Disconnected }))
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("a stopped pool accepts connections")
	}
	p.NewJob(true) // NewJob must not fail while the pool is closed
	must(t, p.Restart())
	if p.Addr() != addr {
		t.Errorf("the address is %s after the restart, want %s", p.Addr(), addr)
	}
	m = startMiner(t, MinerOptions{Addr: addr})
	must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.Accepted > 10 && s.Jobs > 3 }))
	if s := p.Stats(); s.Connections != 1 || s.ConnectionsTotal != 2 || s.Handshakes != 2 {
		t.Errorf("unexpected statistics of the pool: %+v", s)
	}
}

func TestPoolNoticesFaults(t *testing.T) {
	tests := []struct{ name, text, fault string }{
		{"not JSON", "hello\n", "not JSON"},
		{"session ID", `{"id":1,"method":"mining.subscribe","params":["x","1000080",1]}` + "\n", "session ID"},
		{"no address", `{"id":1,"method":"mining.subscribe","params":["x","01000080"]}` + "\n", "parameters, not 3"},
		{"address as text", `{"id":1,"method":"mining.subscribe","params":["x","01000080","1.2.3.4"]}` + "\n", "32-bit"},
		{"authorize first", authorizeLine + "\n", "authorize before subscribe"},
		{"subscribe twice", subscribeLine + "\n" + subscribeLine + "\n", "subscribe twice"},
		{"configure late", subscribeLine + "\n" + configureLine + "\n", "configure twice or after"},
		{"method", `{"id":1,"method":"mining.dig","params":[]}` + "\n", "unknown method"},
		{"binary", "\x7f\x01\x06\x00\x00\x00", "binary message"},
		{"long line", strings.Repeat("x", maxLine+2000), "line of more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := startPool(t, PoolOptions{})
			DialRaw(t, p.Addr()).Send(tt.text)
			must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Faults > 0 }))
			if f := p.Faults(); !strings.Contains(f[0], tt.fault) {
				t.Errorf("got faults %q, want the first to contain %q", f, tt.fault)
			}
		})
	}
}

func TestSameExtranonceTwice(t *testing.T) {
	p := startPool(t, PoolOptions{})
	for range 2 {
		r := DialRaw(t, p.Addr())
		r.SendLine(subscribeLine)
		r.ExpectLine(subscribed)
	}
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.DuplicateExtranonces == 1 }))
}

func TestSubmitTooEarly(t *testing.T) {
	p := startPool(t, PoolOptions{})
	r := DialRaw(t, p.Addr())
	submit := `{"id":7,"method":"mining.submit","params":["acc.w1","pool-1","0000000000000000","00000000","00000000"]}`
	r.SendLine(submit)
	r.ExpectLine(`{"id":7,"result":null,"error":[25,"Not subscribed",null]}`)
	r.SendLine(subscribeLine)
	r.ExpectLine(subscribed)
	r.SendLine(submit)
	r.ExpectLine(`{"id":7,"result":null,"error":[24,"Unauthorized worker acc.w1",null]}`)
}

func TestAcceptWorker(t *testing.T) {
	p := startPool(t, PoolOptions{AcceptWorker: func(name string) bool { return strings.Contains(name, "_btc.") }})
	r := DialRaw(t, p.Addr())
	r.Send(subscribeLine + "\n" + authorizeLine + "\n")
	r.ExpectLine(subscribed)
	r.ExpectLine(`{"id":"auth","result":null,"error":[24,"Unauthorized worker",null]}`)
	r.SendLine(strings.Replace(authorizeLine, "acc.", "acc_btc.", 1))
	r.ExpectLine(authorized)
	r.ExpectMethod("mining.set_difficulty")
	if got := fmt.Sprint(p.RefusedNames(), p.Authorized()); got != "[acc.w1] [acc_btc.w1]" {
		t.Errorf("the workers are unexpected: %v", got)
	}
}

// A miner that reads nothing must not delay the other miners.
func TestBroadcastPastSlowReader(t *testing.T) {
	p := startPool(t, PoolOptions{JobSize: 60000})
	r := DialRaw(t, p.Addr())
	r.Conn().(*net.TCPConn).SetReadBuffer(4096)
	r.Send(subscribeLine + "\n" + authorizeLine + "\n")
	m := startMiner(t, MinerOptions{Addr: p.Addr(), Manual: true})
	must(t, p.WaitConnections(within(t), 2))
	// The other miner gets every job until the slow one exceeds the limit and is
	// disconnected.
	for range 1000 {
		id := p.NewJob(false)
		must(t, m.WaitFor(within(t), func(s MinerStats) bool { return s.LastJobID == id }))
		if p.Stats().Connections == 1 {
			break
		}
	}
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Connections == 1 }))
	checkClean(t, m)
}

func TestOtherChains(t *testing.T) {
	sub := func(params string) string {
		return `{"id":"subscribe","method":"mining.subscribe","params":` + params + "}\n"
	}
	const auth = `{"id":"auth","method":"mining.authorize","params":["acc.w1","x"]}` + "\n"
	tests := []struct {
		name, hello string
		chain       Chain
		answers     []string
		difficulty  bool
		share       func(params []any) string
	}{
		{"decred-normal", sub(`["gominer","01000080",1]`) + auth, DecredNormal,
			[]string{`{"id":"subscribe","result":[[["mining.set_difficulty","000000000000000080000001"],["mining.notify","000000000000000080000001"]],"000000000000000080000001",8],"error":null}`, authorized}, true,
			func(p []any) string {
				return fmt.Sprintf(`"acc.w1",%q,"000000000000000000000001",%q,"00000001"`, p[0], p[7])
			}},
		{"decred-gominer", sub(`["gominer","01000080",1]`) + auth, DecredGominer,
			[]string{`{"id":"subscribe","result":[[["mining.set_difficulty","80000001"],["mining.notify","80000001"]],"80000001",8],"error":null}`, authorized}, true,
			func(p []any) string { return fmt.Sprintf(`"acc.w1",%q,"00000001",%q,"00000001"`, p[0], p[7]) }},
		{"ethereum stratum", sub(`["eth","Stratum","010080",1]`) + auth, Ethereum,
			[]string{`{"id":"subscribe","result":true,"error":null}`, authorized}, false,
			func(p []any) string { return fmt.Sprintf(`"acc.w1",%q,"0x0000000000000001",%q,"0x00"`, p[0], p[1]) }},
		{"ethereum nicehash", sub(`["nicehash/1","EthereumStratum/1.0.0","010080",1]`) + auth, Ethereum,
			[]string{`{"id":"subscribe","result":[["mining.notify","010080","EthereumStratum/1.0.0"],"0100"],"error":null}`, authorized}, true,
			func(p []any) string { return fmt.Sprintf(`"acc.w1",%q,"000000000001"`, p[0]) }},
		{"ethereum stratum v1", sub(`["x","EthereumStratum/1.0.0","010080",1]`) + auth, Ethereum,
			[]string{`{"id":"subscribe","result":[["mining.notify","010080","EthereumStratum/1.0.0"],"010080"],"error":null}`, authorized}, true,
			func(p []any) string { return fmt.Sprintf(`"acc.w1",%q,"0000000001"`, p[0]) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := startPool(t, PoolOptions{Chain: tt.chain})
			r := DialRaw(t, p.Addr())
			r.Send(tt.hello)
			for _, want := range tt.answers {
				r.ExpectLine(want)
			}
			if tt.difficulty {
				r.ExpectMethod("mining.set_difficulty")
			}
			line := r.ExpectMethod("mining.notify")
			var params []any
			must(t, json.Unmarshal(paramsOf(t, []byte(line)), &params))
			share := `{"id":5,"method":"mining.submit","params":[` + tt.share(params) + `]}`
			r.SendLine(share)
			r.ExpectLine(`{"id":5,"result":true,"error":null}`)
			r.SendLine(share)
			r.ExpectLine(`{"id":5,"result":null,"error":[22,"Duplicate share",null]}`)
			params[0] = "nope"
			r.SendLine(`{"id":5,"method":"mining.submit","params":[` + tt.share(params) + `]}`)
			r.ExpectLine(`{"id":5,"result":null,"error":[21,"Job not found: nope",null]}`)
			checkNoFaults(t, p)
		})
	}
}

func TestETHProxy(t *testing.T) {
	for _, direct := range []bool{true, false} {
		p := startPool(t, PoolOptions{Chain: Ethereum, ShareBits: 8})
		r := DialRaw(t, p.Addr())
		if !direct {
			r.SendLine(`{"id":"subscribe","method":"mining.subscribe","params":["ETHProxy","ETHProxy/1.0.0","010080",1]}`)
			r.ExpectLine(`{"id":"subscribe","jsonrpc":"2.0","result":true}`)
		}
		r.SendLine(`{"id":1,"jsonrpc":"2.0","method":"eth_submitLogin","params":["acc"],"worker":"w1"}`)
		r.ExpectLine(`{"id":1,"jsonrpc":"2.0","result":true}`)
		var job struct{ Result []string }
		must(t, json.Unmarshal([]byte(r.Line(Patience)), &job))
		r.SendLine(`{"id":2,"jsonrpc":"2.0","method":"eth_getWork","params":[]}`)
		r.ExpectJSON(fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"result":[%q,%q,%q]}`, job.Result[0], job.Result[1], job.Result[2]))
		r.SendLine(`{"id":3,"jsonrpc":"2.0","method":"eth_submitHashrate","params":["0x1","0x2"]}`)
		r.ExpectLine(`{"id":3,"jsonrpc":"2.0","result":true}`)
		work := fmt.Sprintf(`{"id":4,"jsonrpc":"2.0","method":"eth_submitWork","params":["0x0000000000000001",%q,"0x00"]}`, job.Result[0])
		r.SendLine(work)
		r.ExpectLine(`{"id":4,"jsonrpc":"2.0","result":true}`)
		r.SendLine(work)
		r.ExpectLine(`{"id":4,"jsonrpc":"2.0","error":{"code":22,"message":"Duplicate share","data":null}}`)
		if got := p.Workers()["acc.w1"]; got != 1 {
			t.Errorf("the workers are unexpected: %v", p.Workers())
		}
		checkNoFaults(t, p)
	}
}
