package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// authorizeFurther returns the mining.authorize of a further worker.
func authorizeFurther(id, worker string) string {
	return fmt.Sprintf(`{"id":%s,"method":"mining.authorize","params":["%s","x"]}`, id, worker)
}

// acceptWith is Accept for a pool that is asked for further workers too, and returns
// the ids of these requests. The pool answers none of them.
func (sc *scene) acceptWith(name string, workers ...string) (link *stratumtest.Raw, ids []string) {
	sc.T.Helper()
	link = sc.Accept(name)
	for _, worker := range workers {
		var asked struct {
			ID     json.RawMessage
			Params []string
		}
		mustDo(sc.T, json.Unmarshal([]byte(link.ExpectMethod("mining.authorize")), &asked))
		if asked.Params[0] != worker {
			sc.T.Fatalf("pool %s was asked for %q, want %q", name, asked.Params[0], worker)
		}
		ids = append(ids, string(asked.ID))
	}
	return link, ids
}

// A pool that the miner leaves has not answered for a further worker. The answer of the
// next pool is the miner's answer, whether it comes before the switch or after it.
func TestUnansweredWorkersMove(t *testing.T) {
	t.Parallel()
	const refusal = `[24,"Unauthorized worker",null]`
	for _, drain := range []int{0, 10} {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprintf("drain %d s, early %v", drain, early), func(t *testing.T) {
				t.Parallel()
				sc, btc := startScene(t, "bitcoin", func(c *Config) { c.DrainSeconds = drain }, "btc", "bcc")
				// The third one has the value of one of the switcher's ids.
				requests := []string{"5", `"six"`, "2147400000"}
				workers := []string{"alice.2", "alice.3", "alice.4"}
				for i, id := range requests {
					sc.Miner.SendLine(authorizeFurther(id, workers[i]))
					btc.ExpectLine(authorizeFurther(id, workers[i]))
				}
				sc.sw.coins.set("alice", "bcc")
				bcc, ids := sc.acceptWith("bcc", workers...)
				answer := func() {
					bcc.SendLine(goodAnswer(ids[0]))
					bcc.SendLine(fmt.Sprintf(`{"id":%s,"result":null,"error":%s}`, ids[1], refusal))
					bcc.SendLine(fmt.Sprintf(`{"id":%s,"result":null,"error":null}`, ids[2]))
				}
				expect := func() {
					sc.Miner.ExpectLine(goodAnswer("5"))
					sc.Miner.ExpectLine(`{"id":"six","result":null,"error":` + refusal + `}`)
					sc.Miner.ExpectLine(goodAnswer("2147400000"))
				}
				if early {
					answer()
				}
				bcc.Send(joinLines(difficultyLine, jobLine("bcc-1", true)))
				if early {
					expect()
				}
				sc.ExpectWork("bcc-1")
				if drain > 0 {
					btc.SendLine(goodAnswer("5")) // too late: the miner is at the next pool
				}
				if !early {
					sc.nothing(bcc, "bcc-1")
					answer()
					expect()
				}
				sc.nothing(bcc, "bcc-1")
			})
		}
	}
}

// The same holds for a pool that is lost, and if several pools leave the miner's request
// unanswered.
func TestUnansweredWorkersOutliveLostPools(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	sc.Miner.SendLine(authorizeFurther("5", "alice.2"))
	btc.ExpectLine(authorizeFurther("5", "alice.2"))
	sc.Share(btc, "6", "btc-1")
	btc.Close()
	sc.Miner.ExpectLine(lostAnswer("6"))
	for i := range 2 {
		btc, _ = sc.acceptWith("btc", "alice.2")
		work := fmt.Sprintf("btc-%d", 2+i)
		btc.Send(joinLines(difficultyLine, jobLine(work, true)))
		sc.ExpectWork(work)
		btc.Close()
	}
	btc, ids := sc.acceptWith("btc", "alice.2")
	btc.Send(joinLines(difficultyLine, jobLine("btc-4", true)))
	sc.ExpectWork("btc-4")
	btc.SendLine(goodAnswer(ids[0]))
	sc.Miner.ExpectLine(goodAnswer("5"))
	sc.nothing(btc, "btc-4")
}
