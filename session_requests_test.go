package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The miner's ids are sent back as they came, from the pool in use and from a
// former one, whatever type they have.
func TestRequestIDsOfEveryType(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	ids := []string{
		`0`, `-1`, `1.50`, `1e3`, `123456789012345678901234567890`, `true`,
		`""`, `"1"`, `"a\"b\\c\/d"`, `"\u0041\ud83d\ude00"`, `"ü"`, `"{\"method\":\"mining.submit\"}"`,
		`[]`, `[1,"2"]`, `{}`, `{"a":{"b":[1,2,{"c":null}]}}`,
		`"` + strings.Repeat("i", stratum.MaxRequestID-2) + `"`,
		`"` + strings.Repeat("i", stratum.MaxRequestID-1) + `"`,
		`"` + strings.Repeat("i", 4000) + `"`,
	}
	for _, id := range ids {
		sc.Share(btc, id, "btc-1")
		sc.Answered(btc, id)
		sc.Share(btc, id, "btc-1") // this is answered after the switch
	}
	bcc := sc.switchTo("bcc", "bcc-1")
	for _, id := range ids {
		sc.Answered(btc, id)
	}
	for _, id := range ids {
		sc.Share(btc, id, "btc-1")
		sc.Answered(btc, id)
		sc.Share(bcc, id, "bcc-1")
		sc.Answered(bcc, id)
	}
}

// A miner that uses one id for everything matches answers by their order. Answers
// of two pools come in the order of the requests.
func TestRequestsOfOneIDKeepTheirOrder(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	reject := `{"id":1,"result":null,"error":[23,"Low difficulty share",null]}`
	other := `{"id":1,"result":null,"error":[22,"Duplicate share",null]}`
	sc.Share(btc, "1", "btc-1") // A
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(bcc, "1", "bcc-1") // B
	sc.Share(bcc, "1", "bcc-1") // C
	sc.Share(btc, "1", "btc-1") // D
	sc.Share(bcc, "2", "bcc-1")
	bcc.SendLine(reject)          // B
	bcc.SendLine(other)           // C
	sc.Answered(bcc, "2")         // nobody waits for this answer
	btc.SendLine(goodAnswer("1")) // A
	for _, want := range []string{goodAnswer("1"), reject, other} {
		sc.Miner.ExpectLine(want)
	}
	sc.Share(bcc, "1", "bcc-1") // E
	bcc.SendLine(reject)
	sc.nothing(bcc, "bcc-1")
	btc.SendLine(other) // D
	sc.Miner.ExpectLine(other)
	sc.Miner.ExpectLine(reject)
	sc.nothing(bcc, "bcc-1")
}

// Of two links with requests of one id, the newer one is lost. Its errors also wait
// for the older link's answer.
func TestRequestsOfOneIDAfterLoss(t *testing.T) {
	reject := `{"id":1,"result":null,"error":[23,"Low difficulty share",null]}`
	t.Run("upstream lost", func(t *testing.T) {
		sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
		sc.sw.setTiming(impatient)
		sc.Share(btc, "1", "btc-1") // A
		bcc := sc.switchTo("bcc", "bcc-1")
		sc.Share(bcc, "1", "bcc-1") // B
		sc.Share(bcc, "1", "bcc-1") // C
		sc.Share(bcc, "2", "bcc-1")
		bcc.SendLine(reject) // B
		bcc.Close()
		sc.Miner.ExpectLine(lostAnswer("2"))
		bcc2 := sc.Serve("bcc", "bcc-2")
		sc.ExpectWork("bcc-2")
		sc.nothing(bcc2, "bcc-2")
		btc.SendLine(goodAnswer("1")) // A
		for _, want := range []string{goodAnswer("1"), reject, lostAnswer("1")} {
			sc.Miner.ExpectLine(want)
		}
		sc.nothing(bcc2, "bcc-2")
	})
	t.Run("former link lost", func(t *testing.T) {
		sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
		sc.Share(btc, "1", "btc-1") // A
		bcc := sc.switchTo("bcc", "bcc-1")
		sc.Share(bcc, "1", "bcc-1") // B
		sc.Share(btc, "1", "btc-1") // C
		bcc.SendLine(reject)
		sc.nothing(bcc, "bcc-1")
		btc.Close()
		for _, want := range []string{lostAnswer("1"), reject, lostAnswer("1")} {
			sc.Miner.ExpectLine(want)
		}
		sc.nothing(bcc, "bcc-1")
	})
	t.Run("both lost", func(t *testing.T) {
		sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
		sc.sw.setTiming(impatient)
		sc.Share(btc, "1", "btc-1")
		bcc := sc.switchTo("bcc", "bcc-1")
		sc.Share(bcc, "1", "bcc-1")
		bcc.SendLine(reject)
		sc.nothing(bcc, "bcc-1")
		bcc.Close()
		bcc2 := sc.Serve("bcc", "bcc-2")
		sc.ExpectWork("bcc-2")
		btc.Close()
		sc.Miner.ExpectLine(lostAnswer("1"))
		sc.Miner.ExpectLine(reject)
		sc.nothing(bcc2, "bcc-2")
	})
}

// Requests that a lost pool did not answer are answered at once, each once, and so
// are requests other than shares.
func TestRequestsAnsweredWhenPoolIsLost(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	sc.sw.setTiming(impatient)
	var want []string
	for i := range 30 {
		id := fmt.Sprint(10 + i)
		if i%2 == 0 {
			id = fmt.Sprintf(`"s-%d"`, i)
		}
		sc.Share(btc, id, "btc-1")
		if i%3 == 0 {
			sc.Answered(btc, id)
		} else {
			want = append(want, id)
		}
	}
	other := `{"id":"t","method":"mining.get_transactions","params":["btc-1"]}`
	sc.Miner.SendLine(other)
	btc.ExpectLine(other)
	notification := `{"id":null,"method":"mining.hashrate","params":[1]}`
	sc.Miner.SendLine(notification)
	btc.ExpectLine(notification)
	btc.Close()
	for _, id := range append(want, `"t"`) {
		sc.Miner.ExpectLine(lostAnswer(id))
	}
	btc2 := sc.Serve("btc", "btc-2")
	sc.ExpectWork("btc-2")
	sc.nothing(btc2, "btc-2")
}

// There are more requests than are stored. Those that are stored are answered. The
// others are answered as long as their link is in use.
func TestRequestsBeyondTheLimit(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	const n = 2600
	id := func(i int) string { return fmt.Sprint(10000 + i) }
	for i := range n {
		sc.Share(btc, id(i), "btc-1")
	}
	kept := stratum.MaxRequests / len(`123`+`10000`) // tag, size and work of each request
	for _, i := range []int{n - 1, 0, n - 2, kept + 1} {
		sc.Answered(btc, id(i))
	}
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.nothing(bcc, "bcc-1")
	for i := 1; i < kept; i++ {
		btc.SendLine(goodAnswer(id(i)))
	}
	for i := 1; i < kept; i++ {
		sc.Miner.ExpectLine(goodAnswer(id(i)))
	}
	sc.nothing(bcc, "bcc-1")
}

// A miner's answer to a request of a pool goes to the pool that has asked, and to
// no other.
func TestMinerAnswersThePoolThatAsks(t *testing.T) {
	t.Parallel()
	ask := func(id string) string { return fmt.Sprintf(`{"id":%s,"method":"client.get_version","params":[]}`, id) }
	answer := func(id string) string { return fmt.Sprintf(`{"id":%s,"result":"cgminer/4.11.1","error":null}`, id) }
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	for _, id := range []string{"70", "71"} {
		btc.SendLine(ask(id))
		sc.Miner.ExpectLine(ask(id))
	}
	sc.Miner.SendLine(answer("70"))
	btc.ExpectLine(answer("70"))
	sc.Miner.SendLine(`{"id":null,"result":true}`)
	btc.ExpectLine(`{"id":null,"result":true}`)
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Miner.SendLine(answer("71"))
	btc.ExpectLine(answer("71"))
	sc.Miner.SendLine(answer("71"))
	sc.nothing(bcc, "bcc-1")
	sc.nothing(btc, "btc-1")
	bcc.SendLine(ask(`"a"`))
	sc.Miner.ExpectLine(ask(`"a"`))
	sc.Miner.SendLine(answer(`"a"`))
	bcc.ExpectLine(answer(`"a"`))
}

// A pool may ask before its link is ready, and the miner may answer after the pool
// was lost.
func TestMinerAnswersALostPool(t *testing.T) {
	t.Parallel()
	const ask, answer = `{"id":7,"method":"client.get_version","params":[]}`, `{"id":7,"result":"x","error":null}`
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Accept("bcc")
	bcc.Send(joinLines(ask, jobLine("bcc-1", true)))
	sc.Miner.ExpectLine(ask)
	sc.Miner.ExpectLine(jobLine("bcc-1", true))
	sc.Miner.SendLine(answer)
	bcc.ExpectLine(answer)
	bcc.SendLine(ask)
	sc.Miner.ExpectLine(ask)
	bcc.Close()
	bcc = sc.Serve("bcc", "bcc-2")
	sc.ExpectWork("bcc-2")
	sc.Miner.SendLine(answer)
	sc.nothing(bcc, "bcc-2")
}

// P2Pool's answer to the authorization of a further worker means consent.
func TestFurtherWorkerConsent(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	for answer, want := range map[string]string{
		`{"error": null, "jsonrpc": "2.0", "id": 5, "result": null}`: goodAnswer("5"),
		`{"id":"5","error":false}`:                                   goodAnswer("5"),
		`{"id":5,"result":null,"error":[24,"no",null]}`:              `{"id":5,"result":null,"error":[24,"no",null]}`,
		`{"id":5,"result":false,"error":null}`:                       `{"id":5,"result":false,"error":null}`,
	} {
		authorize := `{"id":5,"method":"mining.authorize","params":["alice.2","x"]}`
		sc.Miner.SendLine(authorize)
		btc.ExpectLine(authorize)
		btc.SendLine(answer)
		sc.Miner.ExpectLine(want)
	}
	// A result of null does not accept a share.
	sc.Share(btc, "6", "btc-1")
	btc.SendLine(`{"id":6,"result":null,"error":null}`)
	sc.Miner.ExpectLine(`{"id":6,"result":null,"error":null}`)
}
