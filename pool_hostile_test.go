package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// hostileScene has a good pool with a miner that must not notice anything, and a
// bad pool for the miner alice.
type hostileScene struct {
	sw   *testSwitcher
	bad  *testkit.ScriptedPool
	good *stratumtest.Miner
}

func startHostilePool(t *testing.T, extranonce string) *hostileScene {
	t.Helper()
	good := startPool(t, stratumtest.PoolOptions{Name: "good", ShareBits: 4})
	h := &hostileScene{bad: testkit.StartScriptedPool(t)}
	h.sw = startSwitcher(t, newMemoryCoins(map[string]string{"alice": "bad", "bob": "good"}), []*stratumtest.Pool{good}, func(c *Config) {
		c.StratumServerMap["bad"] = StratumServerInfo{URL: h.bad.Addr(), ExtraNonce: extranonce}
	})
	h.good = startMiner(t, stratumtest.MinerOptions{Addr: h.sw.addr, Worker: "bob.1", Rate: 100})
	waitAccepted(t, h.good, 1)
	t.Cleanup(func() {
		waitAccepted(t, h.good, 3)
		checkMiner(t, h.good)
		if st := h.good.Stats(); st.Switches > 0 {
			t.Errorf("the good pool's miner was moved %d times", st.Switches)
		}
	})
	return h
}

const (
	subscribed = `{"id":2147400000,"result":[[["mining.set_difficulty","01000081"],["mining.notify","01000081"]],"01000081",8],"error":null}` + "\n"
	ownAnswer  = `{"id":2147400000,"result":[[],"aabbccdd",8],"error":null}` + "\n"
)

// A pool is hostile before its link is ready. The miner gets an error, little is
// stored meanwhile, and another pool's miner continues to mine.
func TestHostilePoolBeforeLinkIsReady(t *testing.T) {
	t.Parallel()
	notification := `{"id":null,"method":"client.show_message","params":["` + strings.Repeat("m", 900) + `"]}` + "\n"
	for _, c := range []struct {
		name, extranonce string
		behave           func(net.Conn)
		want             string // the reason of the failure
	}{
		{"a line without end", "session", func(nc net.Conn) { flood(nc, strings.Repeat("x", 64<<10), 1000) }, relay.ErrLineTooLong.Error()},
		{"notifications without end", "session", func(nc net.Conn) { flood(nc, notification, 100000) }, errPoolTooMuch.Error()},
		{"jobs without end", "session", func(nc net.Conn) { flood(nc, jobLine("j", true)+"\n", 1000000) }, errPoolTooMuch.Error()},
		{"answers to nobody", "session", func(nc net.Conn) {
			flood(nc, `{"id":4711,"result":true,"error":null}`+"\n"+`{"id":null,"result":[],"error":null}`+"\n", 1000000)
		}, errPoolTimeout.Error()},
		{"a job of a megabyte", "session", func(nc net.Conn) { flood(nc, subscribed+jobLine(strings.Repeat("j", 1<<20), true)+"\n", 1) }, relay.ErrLineTooLong.Error()},
		{"an extranonce that is not asked for", "session", func(nc net.Conn) {
			flood(nc, `{"id":null,"method":"mining.set_extranonce","params":["ffffffff",4]}`+"\n", 1000)
		}, "pool changed the extranonce"},
		{"extranonces at will", "pool", func(nc net.Conn) {
			flood(nc, ownAnswer+strings.Repeat(notification, 500), 1)
			flood(nc, `{"id":null,"method":"mining.set_extranonce","params":["ffffffff",8]}`+"\n", 100000)
		}, errPoolTooMuch.Error()},
		{"a huge extranonce", "pool", func(nc net.Conn) {
			flood(nc, `{"id":2147400000,"result":[[],"`+strings.Repeat("ab", 1000)+`",8],"error":null}`+"\n", 1)
		}, "pool gave extranonce"},
		{"a size beyond all", "pool", func(nc net.Conn) {
			flood(nc, `{"id":2147400000,"result":[[],"aabbccdd",1000000],"error":null}`+"\n", 1)
		}, ""},
		{"reconnect", "session", func(nc net.Conn) {
			flood(nc, `{"id":null,"method":"client.reconnect","params":["evil.example.com",1,0]}`+"\n", 1000)
		}, errPoolReconnect.Error()},
		{"noise", "session", func(nc net.Conn) { flood(nc, "\x00\xff{\n", 100000) }, errPoolNoise.Error()},
		{"a deep bomb", "session", func(nc net.Conn) {
			flood(nc, `{"id":2147400000,"result":`+strings.Repeat("[", 100000)+strings.Repeat("]", 100000)+"}\n", 1)
		}, ""},
		{"terminal controls in a refusal", "session", func(nc net.Conn) {
			flood(nc, subscribed+`{"id":2147400001,"result":null,"error":[24,"`+"\u009b2J\u202e\x7f"+`<b>",null]}`+"\n", 1)
			flood(nc, `{"id":2147400002,"result":null,"error":[24,"`+"\u009b2J\u202e\x7f"+`<b>",null]}`+"\n", 1)
		}, `[24,"?2J??<b>",null]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHostilePool(t, c.extranonce)
			if c.want == errPoolTimeout.Error() {
				h.sw.setTiming(func(tm *timing) { tm.poolHandshake = time.Second })
			}
			go func() {
				for nc := range h.bad.Conns {
					go func() { c.behave(nc); io.Copy(io.Discard, nc); nc.Close() }()
				}
			}()
			r := dialSubscribed(t, h.sw.addr)
			r.SendLine(rawAuthorize)
			if answer := r.Line(testkit.LongWait); !strings.Contains(answer, `"error":[302,`) && !strings.Contains(answer, `"error":[24,`) {
				t.Errorf("the miner was answered %.200s", answer)
			}
			found := ""
			for _, e := range h.sw.monitor.events.All() {
				if e.Account == "alice" && e.Kind == journal.Refusal {
					found = e.Detail
				}
			}
			if found == "" || !strings.Contains(found, c.want) {
				t.Errorf("the reason is recorded as %q, want %q", found, c.want)
			}
			r.Close()
			eventually(t, "only the good pool's miner is left", func() bool { return h.sw.sessionCount() == 1 })
		})
	}
}

// A pool is hostile while a miner mines there.
func TestHostilePoolWhileMining(t *testing.T) {
	for _, c := range []struct {
		name   string
		behave func(*stratumtest.Raw)
		lost   bool // whether the link is given up
	}{
		{"a line without end", func(link *stratumtest.Raw) { flood(link.Conn(), strings.Repeat("x", 64<<10), 1000) }, true},
		{"a job of a megabyte", func(link *stratumtest.Raw) {
			flood(link.Conn(), jobLine(strings.Repeat("j", 1<<20), true)+"\n", 1)
		}, true},
		{"another extranonce", func(link *stratumtest.Raw) {
			link.SendLine(`{"id":null,"method":"mining.set_extranonce","params":["ffffffff",4]}`)
		}, true},
		{"version masks that are none", func(link *stratumtest.Raw) {
			for _, params := range []string{`[]`, `{}`, `["x"]`, `[1e999]`, `[null]`, `"ffffffff"`} {
				link.SendLine(`{"id":null,"method":"mining.set_version_mask","params":` + params + `}`)
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc, link := startScene(t, "bitcoin", nil, "btc")
			sc.sw.setTiming(impatient)
			c.behave(link)
			job := "btc-1"
			if c.lost {
				eventually(t, "the link is given up", func() bool { return sc.sw.linksLost.Load() == 1 })
				link = sc.Serve("btc", "btc-2")
				sc.ExpectWork("btc-2")
				job = "btc-2"
			}
			sc.nothing(link, job)
		})
	}
}

// A pool that asks to reconnect on every connection is not dialled endlessly.
func TestHostilePoolReconnectsForever(t *testing.T) {
	sc, link := startScene(t, "bitcoin", func(c *Config) { c.DrainSeconds = 0 }, "btc")
	const reconnect = `{"id":null,"method":"client.reconnect","params":[]}`
	for i := range maxRenewals {
		link.SendLine(reconnect)
		link = sc.Serve("btc", fmt.Sprintf("btc-%d", 2+i))
		sc.ExpectWork(fmt.Sprintf("btc-%d", 2+i))
	}
	for range 100 {
		link.SendLine(reconnect)
	}
	sc.nothing(link, fmt.Sprintf("btc-%d", 1+maxRenewals))
	sc.sw.eachSession(func(s *Session) {
		if s.phase != phaseRelaying || s.linking != nil {
			t.Errorf("one more link is being prepared in phase %s", s.phase)
		}
	})
	if n := sc.sw.linksMade.Load(); n != 1+maxRenewals {
		t.Errorf("there were %d links, want %d", n, 1+maxRenewals)
	}
	// After a minute the request takes effect again.
	sc.sw.eachSession(func(s *Session) {
		s.renewedAt -= 60
	})
	link.SendLine(reconnect)
	sc.Serve("btc", "btc-x")
	sc.ExpectWork("btc-x")
}

// What a session stores about its pools is bounded, whatever they send.
func TestHostilePoolsAreNotRemembered(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.setDrain(time.Minute)
	sc.Share(btc, "1", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(bcc, "1", "bcc-1")

	// The answer to the second request has to wait for the answer to the first, and
	// comes endlessly. So do jobs with IDs as long as lines.
	answer := `{"id":1,"result":true,"error":null,"x":"` + strings.Repeat("x", 10000) + `"}` + "\n"
	longJob := strings.Repeat("j", 100<<10)
	go io.Copy(io.Discard, sc.Miner.Conn())
	noted := func() (held, jobs, short int) {
		sc.sw.eachSession(func(s *Session) {
			held = s.heldBytes()
			ids, _, _ := s.link.jobs.State()
			for _, id := range ids {
				jobs += len(id)
				if strings.HasPrefix(id, "short-") {
					short++
				}
			}
		})
		return held, jobs, short
	}
	bcc.Send(answer)
	eventually(t, "the answer is held", func() bool { held, _, _ := noted(); return held == len(answer) })
	for i := range 50 {
		bcc.Send(answer)
		bcc.SendLine(jobLine(fmt.Sprint(i)+longJob, false))
		bcc.SendLine(jobLine(fmt.Sprint("short-", i), false))
	}
	eventually(t, "all jobs have come", func() bool { _, _, short := noted(); return short == 50 })
	held, jobs, _ := noted()
	if held > maxHeld {
		t.Errorf("%d bytes of answers are held, which is too much", held)
	}
	if jobs > 10000 {
		t.Errorf("%d bytes of job IDs are stored, which is too much", jobs)
	}
}

// A miner's further workers are bounded in number and in size.
func TestHostileWorkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, params string
		known        func(n int) bool
	}{
		{"long names", `"alice.%d` + strings.Repeat("n", 10000) + `"`, func(n int) bool { return n == maxWorkerBytes/10001 }},
		{"long passwords", `"alice.%d","` + strings.Repeat("p", 10000) + `"`, func(n int) bool { return n == maxWorkerBytes/10004 }},
		{"many parameters", `"alice.%d"` + strings.Repeat(`,1`, 7000), func(n int) bool { return n == 99 }},
		{"ordinary, one of them the first", `"alice.%d","x"`, func(n int) bool { return n == 99 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw, _ := startHostile(t)
			r := dialMining(t, sw.addr)
			go func() {
				for i := range 100 {
					fmt.Fprintf(r.Conn(), `{"id":%d,"method":"mining.authorize","params":[`+c.params+"]}\n", i, i)
				}
			}()
			for range 100 {
				r.Line(stratumtest.Patience)
			}
			sw.eachSession(func(s *Session) {
				size := 0
				for _, w := range s.workers {
					size += w.size()
					if len(w.rest) > maxWorkerParams {
						t.Errorf("%d parameters are stored, which is too many", len(w.rest))
					}
				}
				if !c.known(len(s.workers)) || size > maxWorkerBytes {
					t.Errorf("%d workers of %d bytes are stored", len(s.workers), size)
				}
			})
			// The connection continues.
			r.SendLine(`{"id":"next","method":"mining.extranonce.subscribe","params":[]}`)
			r.ExpectLine(`{"id":"next","result":true,"error":null}`)
		})
	}
}
