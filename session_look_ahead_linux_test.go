//go:build linux && !portable_relay

package main

import (
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// looksAhead says which requests behind mining.authorize are seen: those in the
// same packet (true), and those in packets of their own (false).
var looksAhead = []bool{true, false}

// answerHandshake answers subscribe and authorize of a link whose requests the test reads
// in between, and sends the first job.
func (sc *scene) answerHandshake(link *stratumtest.Raw, configured, job string) {
	sc.T.Helper()
	configure := link.ExpectMethod("mining.configure")
	subscribe := stratum.LineID([]byte(link.ExpectMethod("mining.subscribe")))
	suggestion := link.ExpectMethod("mining.suggest_difficulty")
	authorize := stratum.LineID([]byte(link.ExpectMethod("mining.authorize")))
	if want := fmt.Sprintf(`{"id":%s,"method":"mining.suggest_difficulty","params":[512]}`, stratum.LineID([]byte(suggestion))); suggestion != want {
		sc.T.Errorf("the pool got %s, want %s", suggestion, want)
	}
	link.Send(joinLines(configureAnswer(configure, configured), fmt.Sprintf(`{"id":%s,"result":[[],"01000080",8],"error":null}`, subscribe),
		goodAnswer(string(stratum.LineID([]byte(suggestion)))), goodAnswer(string(authorize)), difficultyLine, jobLine(job, true)))
}

// Requests that come while a lost link is replaced take effect on the next link, and each
// is answered once.
func TestRequestsWhileReconnecting(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	sc.sw.setTiming(impatient)
	const (
		old          = `{"id":6,"method":"mining.suggest_difficulty","params":[64]}`
		suggest      = `{"id":7,"method":"mining.suggest_difficulty","params":[512]}`
		transactions = `{"id":8,"method":"mining.get_transactions","params":["btc-1"]}`
		xnsub        = `{"id":3,"method":"mining.extranonce.subscribe","params":[]}`
	)
	sc.Miner.SendLine(old)
	btc.ExpectLine(old)
	sc.Answered(btc, "6")
	btc.Close()
	failing := sc.Pools["btc"].Next() // the session is reconnecting
	failing.ExpectMethod("mining.subscribe")
	share := stratumtest.ShareLine("20", "btc-1")
	sc.Miner.Send(joinLines(share, configureRequest, suggest, authorizeFurther("5", "alice.2"), transactions, xnsub))
	eventually(t, "the requests wait", func() bool { return sc.sw.waitingBytes() > 0 })
	failing.Close()

	btc = sc.Pools["btc"].Next()
	sc.answerHandshake(btc, "00ffe000", "btc-2")
	sc.ExpectWork("btc-2")
	expectLines(btc, share, suggest, authorizeFurther("5", "alice.2"), transactions)
	expectLines(sc.Miner, configureAnswer(configureRequest, "00ffe000"), goodAnswer("3"))
	for _, id := range []string{"20", "7", "5", "8"} {
		sc.Answered(btc, id)
	}
	sc.nothing(btc, "btc-2")
}

// A miner that accepts another extranonce while a lost link is replaced can go to a pool
// that leaves no room for a translation.
func TestExtranonceSubscribeWhileReconnecting(t *testing.T) {
	t.Parallel()
	s := startPickingScene(t)
	s.sw.setTiming(impatient)
	s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(goodAnswer("2"))
	s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
	s.Pool.Close()
	s.Pool = s.Scripted.Next()
	s.Miner.SendLine(`{"id":3,"method":"mining.extranonce.subscribe","params":[]}`)
	eventually(t, "the request waits", func() bool { return s.sw.waitingBytes() > 0 })
	s.Handshake("bbbbbbbb", 3, nil, []string{sceneJob("b", "01", "02", true)})
	expectLines(s.Miner, setExtranonce("bbbbbbbb", 3), sceneJob("b", "01", "02", true), goodAnswer("3"))
}
