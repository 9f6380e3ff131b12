package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A pool that picks its own extranonce gets one request after the other, and
// suggestions when it has taken the worker.
func TestSessionOwnPoolIsAskedInTurn(t *testing.T) {
	p := testkit.StartScriptedPool(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: p.Addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
	})
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(rawSubscribe, `{"id":7,"method":"mining.suggest_difficulty","params":[512]}`, rawAuthorize))
	link := p.Next()
	subscribe := link.ExpectMethod("mining.subscribe")
	expectQuiet(t, link)
	link.SendLine(fmt.Sprintf(`{"id":%s,"result":[[],"aaaaaaaa",4],"error":null}`, stratum.LineID([]byte(subscribe))))
	authorize := link.ExpectMethod("mining.authorize")
	expectQuiet(t, link)
	link.SendLine(goodAnswer(string(stratum.LineID([]byte(authorize)))))
	suggestion := link.ExpectMethod("mining.suggest_difficulty")
	link.SendLine(goodAnswer(string(stratum.LineID([]byte(suggestion)))))
	link.SendLine(ownJob("j", "01", "02", true))
	miner.Line(stratumtest.Patience)
	miner.ExpectLine(`{"id":7,"result":true,"error":null}`)
	miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	miner.ExpectLine(ownJob("j", "01aaaaaaaa", "02", true))
}

// expectQuiet wants the peer to say nothing for a moment.
func expectQuiet(t *testing.T, r *stratumtest.Raw) {
	t.Helper()
	r.Conn().SetReadDeadline(time.Now().Add(3 * authorizeGap))
	if n, err := r.Conn().Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the pool got more than it was to get")
	}
	r.Conn().SetReadDeadline(time.Time{})
}

// What miners ask for right behind mining.authorize counts for the link that is
// prepared: in the same packet, or in one of its own where the relay can look at
// what it has not read (looksAhead).
func TestSessionLooksAhead(t *testing.T) {
	p := testkit.StartScriptedPool(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.ExtraNonce2Size = 3
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: p.Addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
	})
	const (
		xnsub     = `{"id":3,"method":"mining.extranonce.subscribe","params":[]}`
		configure = `{"id":4,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`
	)
	for _, together := range looksAhead {
		miner := stratumtest.DialRaw(t, sw.addr)
		if together {
			miner.Send(joinLines(rawSubscribe, rawAuthorize, xnsub, configure))
		} else {
			miner.Send(joinLines(rawSubscribe, rawAuthorize))
		}
		link := p.Next()
		if together {
			asked := link.ExpectMethod("mining.configure")
			link.SendLine(fmt.Sprintf(`{"id":%s,"result":{"version-rolling":true,"version-rolling.mask":"00ffe000"},"error":null}`, stratum.LineID([]byte(asked))))
		}
		subscribe := link.ExpectMethod("mining.subscribe")
		if !together {
			miner.SendLine(xnsub)
			eventually(t, "the request waits", func() bool { return sw.waitingBytes() > 0 })
		}
		// There is no room for the miner's own extranonce: it must take the pool's.
		link.SendLine(fmt.Sprintf(`{"id":%s,"result":[[],"aaaaaaaa",3],"error":null}`, stratum.LineID([]byte(subscribe))))
		authorize := link.ExpectMethod("mining.authorize")
		link.SendLine(goodAnswer(string(stratum.LineID([]byte(authorize)))))
		link.SendLine(ownJob("j", "01", "02", true))
		miner.Line(stratumtest.Patience)
		miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
		miner.ExpectLine(`{"id":null,"method":"mining.set_extranonce","params":["aaaaaaaa",3]}`)
		miner.ExpectLine(ownJob("j", "01", "02", true))
		miner.ExpectLine(`{"id":3,"result":true,"error":null}`)
		if together {
			miner.ExpectLine(`{"id":4,"result":{"version-rolling":true,"version-rolling.mask":"00ffe000"},"error":null}`)
		}
		miner.Close()
		link.Close()
	}
}

// waitingBytes is how much of miners that are routed waits to be read.
func (m *testSwitcher) waitingBytes() (n int) {
	for _, l := range m.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				if s.phase == phaseRouting {
					n += len(s.miner.Peek(maxLookAhead))
				}
			}
		})
	}
	return n
}

// A mining.configure after the authorization goes to the pool, and to each next
// one. What a pool says of it late is told.
func TestSessionConfigureLate(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	const configure = `{"id":9,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`
	sc.Miner.SendLine(configure)
	asked := btc.ExpectMethod("mining.configure")
	answer := fmt.Sprintf(`{"id":%s,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}`, stratum.LineID([]byte(asked)))
	btc.SendLine(answer)
	sc.Miner.ExpectLine(answer)

	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Pools["bcc"].Next()
	id := stratum.LineID([]byte(bcc.ExpectMethod("mining.configure")))
	subscribe := stratum.LineID([]byte(bcc.ExpectMethod("mining.subscribe")))
	authorize := stratum.LineID([]byte(bcc.ExpectMethod("mining.authorize")))
	bcc.Send(joinLines(fmt.Sprintf(`{"id":%s,"result":[[],"01000080",8],"error":null}`, subscribe), goodAnswer(string(authorize)), jobLine("bcc-1", false)))
	sc.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00000000"]}`) // after the grace
	sc.Miner.ExpectMethod("mining.notify")
	bcc.SendLine(fmt.Sprintf(`{"id":%s,"result":{"version-rolling":true,"version-rolling.mask":"00ffe000"},"error":null}`, id))
	sc.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}`)
	sc.Miner.SendLine(`{"id":12,"method":"mining.submit","params":["alice.1","bcc-1","00","00","00","00002000"]}`)
	bcc.ExpectLine(`{"id":12,"method":"mining.submit","params":["alice.1","bcc-1","00","00","00","00002000"]}`)
}
