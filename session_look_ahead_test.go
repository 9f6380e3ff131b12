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
// suggestions after it has accepted the worker.
func TestSessionPickingPoolIsAskedInTurn(t *testing.T) {
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
	link.SendLine(sceneJob("j", "01", "02", true))
	miner.Line(stratumtest.Patience)
	miner.ExpectLine(`{"id":7,"result":true,"error":null}`)
	miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	miner.ExpectLine(sceneJob("j", "01aaaaaaaa", "02", true))
}

// Such a pool gets mining.subscribe in another packet than mining.configure: after the
// answer to it, or after a short while if there is none.
func TestSessionPickingPoolGetsConfigureAlone(t *testing.T) {
	for name, c := range map[string]struct {
		wait     time.Duration
		answered bool
		id       string // of the answer
	}{
		"answered":                  {time.Minute, true, ""},
		"answered under another id": {time.Minute, true, "7"},
		"not answered":              {time.Millisecond, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testkit.StartScriptedPool(t)
			sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(config *Config) {
				config.StratumServerMap = map[string]StratumServerInfo{"own": {URL: p.Addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
			})
			sw.setTiming(func(tm *timing) { tm.configureGap = c.wait })
			miner := stratumtest.DialRaw(t, sw.addr)
			miner.Send(joinLines(configureRequest, rawSubscribe, rawAuthorize))
			link := p.Next()
			configure := link.ExpectMethod("mining.configure")
			if c.answered {
				expectQuiet(t, link)
				answer := configureAnswer(configure, "1fffe000")
				if c.id != "" {
					answer = configureAnswer(`{"id":`+c.id+`}`, "1fffe000")
				}
				link.SendLine(answer)
			}
			subscribe := link.ExpectMethod("mining.subscribe")
			link.SendLine(fmt.Sprintf(`{"id":%s,"result":[[],"aaaaaaaa",4],"error":null}`, stratum.LineID([]byte(subscribe))))
			authorize := link.ExpectMethod("mining.authorize")
			link.Send(joinLines(goodAnswer(string(stratum.LineID([]byte(authorize)))), sceneJob("j", "01", "02", true)))
			miner.Line(stratumtest.Patience)
			miner.Line(stratumtest.Patience)
			miner.ExpectLine(goodAnswer("2"))
		})
	}
}

// expectQuiet wants the peer to send nothing for a moment.
func expectQuiet(t *testing.T, r *stratumtest.Raw) {
	t.Helper()
	r.Conn().SetReadDeadline(time.Now().Add(3 * authorizeGap))
	if n, err := r.Conn().Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the pool got more than it should have")
	}
	r.Conn().SetReadDeadline(time.Time{})
}

// Requests that miners send directly behind mining.authorize take effect on the
// link that is being prepared: those in the same packet, and those in a packet of
// their own where the relay can look at what it has not read (looksAhead).
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
		// There is no room for the miner's own extranonce, so it must take the
		// pool's.
		link.SendLine(fmt.Sprintf(`{"id":%s,"result":[[],"aaaaaaaa",3],"error":null}`, stratum.LineID([]byte(subscribe))))
		authorize := link.ExpectMethod("mining.authorize")
		link.SendLine(goodAnswer(string(stratum.LineID([]byte(authorize)))))
		link.SendLine(sceneJob("j", "01", "02", true))
		miner.Line(stratumtest.Patience)
		miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
		miner.ExpectLine(`{"id":null,"method":"mining.set_extranonce","params":["aaaaaaaa",3]}`)
		miner.ExpectLine(sceneJob("j", "01", "02", true))
		miner.ExpectLine(`{"id":3,"result":true,"error":null}`)
		if together {
			miner.ExpectLine(`{"id":4,"result":{"version-rolling":true,"version-rolling.mask":"00ffe000"},"error":null}`)
		}
		miner.Close()
		link.Close()
	}
}

// waitingBytes returns how many bytes from miners without a link wait to be read.
func (m *testSwitcher) waitingBytes() (n int) {
	m.eachSession(func(s *Session) {
		if s.phase == phaseRouting || s.phase == phaseReconnecting {
			n += len(s.miner.Peek(maxLookAhead))
		}
	})
	return n
}

// A mining.configure after the authorization goes to the pool, and to each next
// one. A pool's late answer to it is passed on.
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
	sc.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00000000"]}`) // after the time that the pool has
	sc.Miner.ExpectMethod("mining.notify")
	bcc.SendLine(fmt.Sprintf(`{"id":%s,"result":{"version-rolling":true,"version-rolling.mask":"00ffe000"},"error":null}`, id))
	sc.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}`)
	sc.Miner.SendLine(`{"id":12,"method":"mining.submit","params":["alice.1","bcc-1","00","00","00","00002000"]}`)
	bcc.ExpectLine(`{"id":12,"method":"mining.submit","params":["alice.1","bcc-1","00","00","00","00002000"]}`)
}

const configureRequest = `{"id":9,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`

// configureAnswer answers a request for version rolling that a pool has got.
func configureAnswer(request, mask string) string {
	return fmt.Sprintf(`{"id":%s,"result":{"version-rolling":true,"version-rolling.mask":"%s"},"error":null}`, stratum.LineID([]byte(request)), mask)
}

const rolledShare = `{"id":12,"method":"mining.submit","params":["alice.1","%s","00","00","00","00002000"]}`

// A mining.configure that comes while the next link is being prepared also goes to
// that pool.
func TestSessionConfigureWhileSwitching(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Pools["bcc"].Next()
	subscribe := stratum.LineID([]byte(bcc.ExpectMethod("mining.subscribe")))
	authorize := stratum.LineID([]byte(bcc.ExpectMethod("mining.authorize")))
	sc.Miner.SendLine(configureRequest)
	btc.ExpectLine(configureRequest)
	answer := configureAnswer(configureRequest, "1fffe000")
	btc.SendLine(answer)
	sc.Miner.ExpectLine(answer)
	bcc.SendLine(configureAnswer(bcc.ExpectMethod("mining.configure"), "00ffe000"))
	bcc.Send(joinLines(fmt.Sprintf(`{"id":%s,"result":[[],"01000080",8],"error":null}`, subscribe), goodAnswer(string(authorize)), difficultyLine, jobLine("bcc-1", true)))
	sc.Miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}`)
	sc.ExpectWork("bcc-1")
	sc.Miner.SendLine(fmt.Sprintf(rolledShare, "bcc-1"))
	bcc.ExpectLine(fmt.Sprintf(rolledShare, "bcc-1"))
}

// If a pool did not answer mining.configure in time, it grants version rolling when
// the miner asks again. Shares then keep their version bits.
func TestSessionConfigureAgain(t *testing.T) {
	t.Parallel()
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	sw.setTiming(func(tm *timing) { tm.firstJobGrace = time.Millisecond })
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(configureRequest, rawSubscribe, rawAuthorize))
	miner.Line(stratumtest.Patience)
	miner.Line(stratumtest.Patience)
	btc := pool.Next()
	btc.ExpectMethod("mining.configure")
	subscribe := stratum.LineID([]byte(btc.ExpectMethod("mining.subscribe")))
	authorize := stratum.LineID([]byte(btc.ExpectMethod("mining.authorize")))
	btc.Send(joinLines(fmt.Sprintf(`{"id":%s,"result":[[],"01000080",8],"error":null}`, subscribe), goodAnswer(string(authorize)), jobLine("btc-1", true)))
	miner.ExpectLine(goodAnswer("2"))
	miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["00000000"]}`)
	miner.ExpectLine(jobLine("btc-1", true))
	miner.SendLine(configureRequest)
	btc.ExpectLine(configureRequest)
	answer := configureAnswer(configureRequest, "1fffe000")
	btc.SendLine(answer)
	miner.ExpectLine(answer)
	miner.SendLine(fmt.Sprintf(rolledShare, "btc-1"))
	btc.ExpectLine(fmt.Sprintf(rolledShare, "btc-1"))
}

// If a mining.configure was seen before the pool refused the worker, it is answered
// in the handshake. The pool's mask is sent after the next authorization.
func TestSessionConfigureAfterRefusal(t *testing.T) {
	t.Parallel()
	sw, pool, _ := startScripted(t, "bitcoin", func(c *Config) {
		c.StratumServerMap["btc"] = StratumServerInfo{URL: c.StratumServerMap["btc"].URL, Worker: "{account}.{miner}"}
	})
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(rawSubscribe, rawAuthorize, configureRequest, `{"id":4,"method":"mining.authorize","params":["alice.2","x"]}`))
	miner.Line(stratumtest.Patience)
	serve := func(authorized string) {
		link := pool.Next()
		configure := link.ExpectMethod("mining.configure")
		subscribe := stratum.LineID([]byte(link.ExpectMethod("mining.subscribe")))
		authorize := stratum.LineID([]byte(link.ExpectMethod("mining.authorize")))
		link.Send(joinLines(configureAnswer(configure, "00ffe000"), fmt.Sprintf(`{"id":%s,"result":[[],"01000080",8],"error":null}`, subscribe),
			fmt.Sprintf(`{"id":%s,%s}`, authorize, authorized), jobLine("btc-1", true)))
	}
	serve(`"result":false,"error":null`)
	miner.ExpectLine(`{"id":2,"result":false,"error":null}`)
	miner.ExpectLine(configureAnswer(configureRequest, "1fffe000"))
	serve(`"result":true,"error":null`)
	expectLines(miner, goodAnswer("4"), `{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}`, jobLine("btc-1", true))
}
