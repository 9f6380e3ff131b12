package main

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func TestSessionAgentKeepsItsWorkers(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	pools := map[string]*stratumtest.Pool{"btc": btc, "bcc": bcc}
	coins := newMemoryCoins(map[string]string{"agent": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: sw.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatal(err)
	}

	const workers, rounds = 500, 60
	ran := make(chan error, 1)
	go func() { ran <- a.Run(longContext(t, 4*testkit.LongWait), workers, rounds) }()
	waitWorkers := func(p *stratumtest.Pool, jobs uint64) {
		t.Helper()
		err := p.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == workers })
		if err == nil {
			err = a.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.AgentStats) bool { return st.CleanJobs > jobs })
		}
		if err != nil {
			t.Fatalf("pool %s: %v: %+v, agent %+v", p.Name(), err, p.Stats(), a.Stats())
		}
	}
	waitWorkers(btc, 0)
	for _, coin := range []string{"bcc", "btc", "bcc", "btc", "bcc"} {
		jobs := a.Stats().CleanJobs
		coins.set("agent", coin)
		waitWorkers(pools[coin], jobs)
	}
	if err := <-ran; err != nil {
		t.Fatalf("not every share was answered: %v: %+v", err, a.Stats())
	}
	// A share for a job of a connection that the session has replaced by another
	// one to the same pool is answered with an error.
	if st := a.Stats(); st.Accepted+st.Refused[stratumtest.AgentUnknown] != workers*rounds || st.Accepted < workers*rounds*9/10 {
		t.Errorf("%d of %d shares were accepted, refused %v", st.Accepted, workers*rounds, st.Refused)
	}
	if st := sw.counts(t, "agent"); st[1] != a.Stats().Accepted {
		t.Errorf("got wrong counts of shares, %v", st)
	}

	// The pool fails, loses all that it knows about the agent, and recovers.
	bcc.Close()
	if err := bcc.Restart(); err != nil {
		t.Fatal(err)
	}
	err = bcc.WaitFor(waitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == workers })
	if err != nil {
		t.Fatalf("%v: %+v", err, bcc.Stats())
	}
	// A worker that has left is not registered at the next pool.
	if err := a.Unregister(7); err != nil {
		t.Fatal(err)
	}
	for w := range uint16(workers) {
		if w == 7 {
			continue
		}
		if err := a.Submit(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Fatal(err)
	}
	coins.set("agent", "btc")
	err = btc.WaitFor(waitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentWorkers == workers-1 })
	if err != nil {
		t.Errorf("%v: %+v", err, btc.Stats())
	}

	st := a.Stats()
	if st.Disconnected || len(st.Violations) > 0 || st.Doubled > 0 || st.Disordered > 0 {
		t.Errorf("unexpected statistics of the agent: %+v", st)
	}
	for _, p := range pools {
		if ps := p.Stats(); ps.AgentRejected > 0 || ps.Faults > 0 {
			t.Errorf("pool %s: unexpected statistics %+v or faults %q", p.Name(), ps, p.Faults())
		}
	}
}

// counts returns the submitted, accepted and refused shares of a sub-account.
func (sw *testSwitcher) counts(t *testing.T, account string) [3]uint64 {
	t.Helper()
	sw.accounts.mu.Lock()
	defer sw.accounts.mu.Unlock()
	a := sw.accounts.accounts[account]
	if a == nil {
		t.Fatalf("there is no sub-account %q", account)
	}
	counted := a.shares.Totals()
	return [3]uint64{counted.Submitted, counted.Accepted, counted.RefusedShares()}
}

// If a pool does not answer binary shares, the switcher answers them, once the
// agent was promised answers. Both kinds of agents get the version mask in time.
func TestSessionAgentAtAPoolThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old %v", old), func(t *testing.T) {
			btc, bcc := twoPools(t)
			bcc.SetModes(stratumtest.Modes{NoAgentAnswers: true})
			coins := newMemoryCoins(map[string]string{"agent": "btc"})
			sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
			a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: sw.addr, Old: old})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if err := a.WaitAuthorized(waitContext(t)); err != nil {
				t.Fatal(err)
			}
			if st := a.Stats(); !st.Answers || st.VersionMask == 0 {
				t.Errorf("the agent got unexpected capabilities: %+v", st)
			}
			if err := a.Run(waitContext(t), 20, 5); err != nil {
				t.Fatal(err)
			}
			jobs := a.Stats().CleanJobs
			coins.set("agent", "bcc")
			if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.CleanJobs > jobs }); err != nil {
				t.Fatal(err)
			}
			for w := range uint16(20) {
				if err := a.Submit(w); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.Unanswered == 0 }); err != nil {
				t.Fatal(err)
			}
			if err := bcc.WaitFor(waitContext(t), func(st stratumtest.PoolStats) bool { return st.AgentAccepted == 20 }); err != nil {
				t.Fatal(err)
			}
			if st := a.Stats(); st.Accepted != 120 || len(st.Violations) > 0 || st.Doubled > 0 {
				t.Errorf("unexpected statistics of the agent: %+v", st)
			}
			if got, want := sw.counts(t, "agent"), [3]uint64{120, 100, 0}; got != want {
				t.Errorf("got counts %v, want %v", got, want)
			}
		})
	}
}

// startAgent returns an agent of which so many miners have submitted so many shares each, all of
// them answered.
func startAgent(t *testing.T, sw *testSwitcher, miners, shares int) *stratumtest.Agent {
	t.Helper()
	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: sw.addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if err := a.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(waitContext(t), miners, shares); err != nil {
		t.Fatal(err)
	}
	return a
}

// If a pool answers some binary shares only, the switcher answers the others, so that the
// next pool's answers do not wait for them until the former link is closed.
func TestSessionAgentAtAPoolThatAnswersSome(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	bcc.SetModes(stratumtest.Modes{HalfAgentAnswers: true})
	coins := newMemoryCoins(map[string]string{"agent": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	a := startAgent(t, sw, 5, 1)
	for _, coin := range []string{"bcc", "btc"} {
		jobs := a.Stats().CleanJobs
		coins.set("agent", coin)
		if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.CleanJobs > jobs }); err != nil {
			t.Fatal(err)
		}
		for w := range uint16(5) {
			if err := a.Submit(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.AgentStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Fatal(err)
	}
	if st := a.Stats(); st.Accepted != 15 || st.Doubled > 0 || len(st.Violations) > 0 {
		t.Errorf("unexpected statistics of the agent: %+v", st)
	}
	if got, want := sw.counts(t, "agent"), [3]uint64{15, 13, 0}; got != want {
		t.Errorf("got counts %v, want %v", got, want)
	}
}

// Late shares go to the pool of their job. The answers to all shares have the
// agent's numbers and its order.
func TestSessionAgentLateShares(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"agent": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	a := startAgent(t, sw, 3, 1)
	job, nonce := a.Job()
	jobs := a.Stats().CleanJobs
	coins.set("agent", "bcc")
	if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.CleanJobs > jobs }); err != nil {
		t.Fatal(err)
	}
	if again, _ := a.Job(); again == job || again < firstJobNumber {
		t.Errorf("the second pool's job is sent as %d, the first pool's as %d", again, job)
	}
	btc.Change(func(m *stratumtest.Modes) { m.AnswerDelay = 300 * time.Millisecond })
	for range 4 {
		for w := range uint16(3) {
			if err := a.SubmitFor(w, job, nonce); err != nil {
				t.Fatal(err)
			}
			if err := a.Submit(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.WaitFor(waitContext(t), func(st stratumtest.AgentStats) bool { return st.Unanswered == 0 }); err != nil {
		t.Fatal(err)
	}
	if st := a.Stats(); st.Accepted != 27 || st.Doubled > 0 || st.Disordered > 0 || len(st.Violations) > 0 {
		t.Errorf("unexpected statistics of the agent: %+v", st)
	}
	for p, want := range map[*stratumtest.Pool]uint64{btc: 15, bcc: 12} {
		if ps := p.Stats(); ps.AgentAccepted != want || ps.Faults > 0 {
			t.Errorf("pool %s: unexpected statistics %+v or faults %q", p.Name(), ps, p.Faults())
		}
	}
	sw.accounts.mu.Lock()
	defer sw.accounts.mu.Unlock()
	if late := sw.accounts.accounts["agent"].costing.Load().lateOf(); late != [lateEnds]uint64{lateFormerAccepted: 12} {
		t.Errorf("unexpected counts of late shares: %v", late)
	}
}

// Forks of the agent have other names. A miner that is not an agent is not told
// that it may send binary messages.
func TestSessionAgentByAnotherName(t *testing.T) {
	btc, _ := twoPools(t)
	coins := newMemoryCoins(map[string]string{"agent": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc}, func(c *Config) { c.AgentUserAgents = []string{"farm-agent"} })
	for userAgent, result := range map[string]string{"Farm-Agent/3": `"result":{"capabilities":["verrol","subres"]}}`, "cgminer/4": `"result":null,"error":[20,"Unknown method",1]}`} {
		r := stratumtest.DialRaw(t, sw.addr)
		r.SendLine(`{"id":1,"method":"mining.subscribe","params":["` + userAgent + `"]}`)
		r.Line(stratumtest.Patience)
		const ask = `{"id":"c","method":"agent.get_capabilities","params":["verrol","subres"]}`
		r.SendLine(ask)
		r.ExpectLine(`{"id":"c",` + result)
		r.SendLine(`{"id":2,"method":"mining.authorize","params":["agent","x"]}`)
		r.ExpectLine(goodAnswer("2"))
		r.ExpectMethod("mining.set_difficulty")
		r.ExpectMethod("mining.notify")
		r.SendLine(ask)
		r.ExpectLine(`{"id":"c",` + result)
		if strings.Contains(result, "error") {
			r.Send(agentMessage(stratum.AgentRegister, 1, "c\x00w\x00"))
			r.ExpectClosed() // its shares would be lost
		}
	}
}

func TestSessionAgentStaysIfRefused(t *testing.T) {
	btc, bcc := twoPools(t)
	bcc.SetModes(stratumtest.Modes{RefuseWorker: true})
	coins := newMemoryCoins(map[string]string{"agent": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	a, err := stratumtest.NewAgent(stratumtest.AgentOptions{Addr: sw.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.WaitAuthorized(waitContext(t)); err != nil {
		t.Fatal(err)
	}
	coins.set("agent", "bcc")
	err = bcc.WaitFor(waitContext(t), func(st stratumtest.PoolStats) bool { return st.Refused >= 2 })
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(waitContext(t), 20, 5); err != nil {
		t.Fatal(err)
	}
	if st := btc.Stats(); st.AgentAccepted != 100 || a.Stats().Disconnected {
		t.Errorf("unexpected statistics of the pool %+v or the agent %+v", st, a.Stats())
	}
}

func TestSessionFurtherWorkers(t *testing.T) {
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	r := stratumtest.DialRaw(t, sw.addr)
	r.Send(`{"id":1,"method":"mining.subscribe","params":["m"]}` + "\n" +
		`{"id":2,"method":"mining.authorize","params":["alice.one","x"]}` + "\n")
	r.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`)
	r.ExpectLine(`{"id":2,"result":true,"error":null}`)
	r.ExpectMethod("mining.set_difficulty")
	r.ExpectMethod("mining.notify")

	r.SendLine(`{"id":"w2","method":"mining.authorize","params":["alice.two","y"]}`)
	r.ExpectLine(`{"id":"w2","result":true,"error":null}`)
	r.SendLine(`{"id":3,"method":"mining.authorize","params":["bob.one","y"]}`)
	r.ExpectLine(`{"id":3,"result":null,"error":[201,"Invalid Sub-account Name (this connection is for alice)",1]}`)
	r.SendLine(`{"id":4,"method":"mining.authorize","params":[7]}`)
	r.ExpectLine(`{"id":4,"result":null,"error":[104,"Worker Name Must be a String",1]}`)

	coins.set("alice", "bcc")
	r.ExpectMethod("mining.set_difficulty")
	r.ExpectMethod("mining.notify")
	eventually(t, "both workers known to the new pool", func() bool {
		conns := bcc.Conns()
		return len(conns) == 1 && len(conns[0].Workers) == 2
	})
	// The pool's answer to the repeated request does not go to the miner.
	r.SendLine(`{"id":5,"method":"mining.extranonce.subscribe","params":[]}`)
	r.ExpectLine(`{"id":5,"result":true,"error":null}`)
	checkPool(t, bcc)
}

// agentMessage returns a binary message of an agent.
func agentMessage(kind byte, session uint16, body string) string {
	b := []byte{stratum.AgentMagic, kind, 0, 0}
	b = binary.LittleEndian.AppendUint16(b, session)
	b = append(b, body...)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
	return string(b)
}

// Whatever binary data comes, messages are cut where their length says, and what is
// stored is bounded.
func FuzzAgentMessages(f *testing.F) {
	f.Add([]byte("\x7f\x01\x0b\x00\x07\x00cgm\x00w"))
	f.Add([]byte("\x7f\x04\x06\x00\x07\x00{\"id\":1}\n\x7f\x02\x06\x00\x00\x00"))
	f.Add([]byte("\x7f\x01\x03\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Session{agent: newAgentWorkers()}
		end, err := s.completeEnd(b)
		if end > len(b) {
			t.Fatalf("a message ends at %d of %d bytes", end, len(b))
		}
		size := 0
		for at := 0; at < end; {
			message := s.nextMessage(b[at:end])
			if len(message) == 0 {
				t.Fatal("there is an empty message")
			}
			at += len(message)
			if message[0] == stratum.AgentMagic && (message[1] == stratum.AgentRegister || message[1] == stratum.AgentUnregister) && s.agent.remember(message) != nil {
				return
			}
		}
		for _, message := range s.agent.messages {
			size += len(message)
		}
		if size != s.agent.size {
			t.Errorf("%d bytes are counted as %d", size, s.agent.size)
		}
		if next, nextErr := stratum.NextAgentMessage(b[end:]); next != nil || (err == nil) != (nextErr == nil) {
			t.Errorf("%d bytes are left out, with errors %v and %v", len(next), err, nextErr)
		}
	})
}

// A proxy may bring a farm's miners on one connection. All of them are authorized
// at the next pool.
func TestSessionManyFurtherWorkers(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	r := dialMining(t, sw.addr)
	go func() {
		for i := range maxWorkers + 1 {
			fmt.Fprintf(r.Conn(), `{"id":%d,"method":"mining.authorize","params":["alice.w%d","x"]}`+"\n", i+10, i)
		}
	}()
	accepted := 0
	for range maxWorkers + 1 {
		if strings.Contains(r.Line(testkit.LongWait), `"result":true`) {
			accepted++
		}
	}
	if accepted != maxWorkers {
		t.Errorf("only %d workers were accepted", accepted)
	}
	coins.set("alice", "bcc")
	testkit.WaitUntil(t, "all workers known to the new pool", func() bool {
		conns := bcc.Conns()
		return len(conns) == 1 && len(conns[0].Workers) == maxWorkers+1
	})
}
