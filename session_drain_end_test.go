package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// With DrainSeconds 0 the old link ends at once, and its unanswered requests are
// answered.
func TestDrainOff(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", func(c *Config) { c.DrainSeconds = 0 }, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Serve("bcc", "bcc-1")
	sc.Miner.ExpectLine(lostAnswer("10"))
	sc.ExpectWork("bcc-1")
	btc.ExpectClosed()
	sc.Share(bcc, "11", "btc-1")
	sc.Share(bcc, "12", "bcc-1")
	sc.Answered(bcc, "12")
	sc.Answered(bcc, "11")
	if n := sc.sw.draining.Load(); n != 0 {
		t.Errorf("%d links drain, want none", n)
	}
}

// When the time is up, the link ends at once if it owes no answers, and otherwise
// when all requests are answered.
func TestDrainEnds(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv")
	sc.setDrain(50 * time.Millisecond)
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	eventually(t, "the drain is ending", func() bool { return sc.drainsEnding() == 1 })
	sc.Share(btc, "11", "btc-1") // for as long as the link exists
	sc.Answered(btc, "10")
	sc.Answered(btc, "11")
	btc.ExpectClosed()
	bsv := sc.switchTo("bsv", "bsv-1")
	bcc.ExpectClosed()
	sc.Share(bsv, "12", "bsv-1")
	sc.Answered(bsv, "12")
	eventually(t, "no link drains", func() bool { return sc.sw.draining.Load() == 0 })
	sc.Miner.Close()
	sc.sw.wantNothingLeft(t)
}

func (sc *scene) drainsEnding() int {
	n := 0
	sc.sw.eachSession(func(s *Session) {
		for _, d := range s.drains {
			if d.ending {
				n++
			}
		}
	})
	return n
}

// ETHProxy has no job IDs and no mining.notify. Jobs come as answers, and shares
// identify them by the header.
func TestDrainETHProxy(t *testing.T) {
	sc, _ := startScene(t, "ethereum", nil, "etc", "eth")
	job := func(header string) string {
		return `{"id":0,"jsonrpc":"2.0","result":["0x` + header + `","0x00","0xff"]}`
	}
	share := func(id int, header string) string {
		return fmt.Sprintf(`{"id":%d,"jsonrpc":"2.0","method":"eth_submitWork","params":["0x0000000000000001","0x%s","0x02"]}`, id, header)
	}
	answer := func(id int) string { return fmt.Sprintf(`{"id":%d,"jsonrpc":"2.0","result":true}`, id) }
	serve := func(name, header string) *stratumtest.Raw {
		t.Helper()
		r := sc.Pools[name].Next()
		r.ExpectMethod("mining.subscribe")
		r.ExpectMethod("eth_submitLogin")
		r.SendLine(`{"id":2147400000,"jsonrpc":"2.0","result":true}`)
		r.SendLine(`{"id":2147400001,"jsonrpc":"2.0","result":true}`)
		r.SendLine(job(header))
		return r
	}
	sc.Miner.SendLine(`{"id":1,"jsonrpc":"2.0","method":"eth_submitLogin","params":["alice","x"],"worker":"1"}`)
	etc := serve("etc", "aa01")
	sc.Miner.ExpectJSON(answer(1))
	sc.Miner.ExpectLine(job("aa01"))
	sc.sw.coins.set("alice", "eth")
	eth := serve("eth", "bb01")
	sc.Miner.ExpectLine(job("bb01"))
	to := func(link *stratumtest.Raw, id int, header string) {
		t.Helper()
		sc.Miner.SendLine(share(id, header))
		link.ExpectLine(share(id, header))
	}
	to(eth, 10, "bb01")
	to(etc, 11, "aa01")
	etc.SendLine(job("aa02")) // this is dropped
	eth.SendLine(job("bb02"))
	sc.Miner.ExpectLine(job("bb02"))
	to(eth, 12, "bb02")
	eth.SendLine(answer(12))
	sc.Miner.ExpectLine(answer(12))
	etc.SendLine(answer(11))
	sc.Miner.ExpectLine(answer(11))
	eth.SendLine(answer(10))
	sc.Miner.ExpectLine(answer(10))

	// A job that comes as an answer is a job, so the pool is not silent.
	before := sc.jobSeen(func(s *Session) { s.link.jobSeen = 1 << 31 })
	eth.SendLine(job("bb03"))
	sc.Miner.ExpectLine(job("bb03"))
	if after := sc.jobSeen(nil); after == 1<<31 {
		t.Errorf("the job was not noticed; the last one was at %d", before)
	}
}

func (sc *scene) jobSeen(change func(*Session)) (seen uint32) {
	sc.sw.eachSession(func(s *Session) {
		seen = s.link.jobSeen
		if change != nil {
			change(s)
		}
	})
	return seen
}

// listenScriptedPool is startScriptedPool at a given address.
func listenScriptedPool(t testing.TB, addr string) *testkit.ScriptedPool {
	t.Helper()
	ln, err := testport.ListenAgain(addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &testkit.ScriptedPool{T: t, Ln: ln, Conns: make(chan net.Conn, 64)}
	t.Cleanup(func() { ln.Close() })
	go p.Accept()
	return p
}
