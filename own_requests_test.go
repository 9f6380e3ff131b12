package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// The scene's own ids are 2147400000 for subscribe, ...1 for the suggestion and
// ...2 for authorize. The suggestion stays unanswered.
func startSuggested(t *testing.T) (sw *testSwitcher, miner, link *stratumtest.Raw, bcc *testkit.ScriptedPool) {
	t.Helper()
	sw, pool, bcc := startScripted(t, "bitcoin", nil)
	miner = stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(textSubscribe, `{"id":3,"method":"mining.suggest_difficulty","params":[1]}`, textAuthorize))
	expectLines(miner, textSubscribed, `{"id":3,"result":true,"error":null}`)
	link = pool.Next()
	expectLines(link, textPoolSubscribe, `{"id":2147400001,"method":"mining.suggest_difficulty","params":[1]}`, withOwnID(textPoolAuthorize, 2))
	link.Send(joinLines(textPoolSubscribed, withOwnID(textPoolAuthorized, 2), textJob))
	expectLines(miner, `{"id":2,"result":true,"error":null}`, textJob)
	return sw, miner, link, bcc
}

func requestLine(id, method string) string {
	return fmt.Sprintf(`{"id":%s,"method":"%s","params":["alice.rig1","j1","00","00","00"]}`, id, method)
}

// A miner that happens to use the id of an unanswered request of the switcher gets
// its own answer, whatever the order of the answers, and the pool sees each id
// once.
func TestMinerUsesOwnIDs(t *testing.T) {
	sw, miner, link, _ := startSuggested(t)
	const suggested = "2147400001"
	forms := []string{suggested, `"2147400001"`, "2147400001.0", suggested}
	for i, id := range forms {
		method := "mining.submit"
		if i == 3 {
			method = "mining.get_transactions"
		}
		miner.SendLine(requestLine(id, method))
		link.ExpectLine(requestLine(fmt.Sprint(stratum.FirstOwnID+3+i), method))
	}
	// This id is one that the switcher has put in place of another unanswered one.
	miner.SendLine(requestLine("2147400004", "mining.submit"))
	link.ExpectLine(requestLine("2147400007", "mining.submit"))
	// This is a further worker.
	miner.SendLine(`{"id":2147400001,"method":"mining.authorize","params":["alice.rig2"]}`)
	link.ExpectLine(`{"id":2147400008,"method":"mining.authorize","params":["alice.rig2"]}`)

	link.SendLine(goodAnswer("2147400004"))
	miner.ExpectLine(goodAnswer(forms[1]))
	link.SendLine(`{"id":2147400001,"result":true,"error":null}`) // the suggestion's answer, at last
	link.SendLine(goodAnswer("2147400001"))                       // the same again, which nobody asked for
	link.SendLine(goodAnswer(`"2147400003"`))
	miner.ExpectLine(goodAnswer(forms[0]))
	link.SendLine(goodAnswer("2147400005.0"))
	miner.ExpectLine(goodAnswer(forms[2]))
	link.SendLine(goodAnswer("2147400007"))
	miner.ExpectLine(goodAnswer("2147400004"))
	link.SendLine(goodAnswer("2147400008"))
	miner.ExpectLine(goodAnswer("2147400001"))
	// Now that the switcher's own request is answered, its id is free for the
	// miner.
	miner.SendLine(requestLine(suggested, "mining.submit"))
	link.ExpectLine(requestLine(suggested, "mining.submit"))
	link.SendLine(goodAnswer(suggested))
	miner.ExpectLine(goodAnswer(suggested))
	link.Close()
	miner.ExpectLine(lostAnswer(suggested)) // get_transactions
	if p := sw.pools["btc"].totals(); p.Submitted != 5 || p.Accepted != 5 {
		t.Errorf("%d shares are submitted and %d accepted", p.Submitted, p.Accepted)
	}
}

// After a switch, late answers of the former pool to the switcher's own requests
// are dropped. Late answers to a miner's request under such an id still reach the
// miner with its id.
func TestMinerUsesOwnIDsAcrossSwitch(t *testing.T) {
	sw, miner, link, bcc := startSuggested(t)
	miner.SendLine(requestLine("2147400001", "mining.submit"))
	link.ExpectLine(requestLine("2147400003", "mining.submit"))
	sw.coins.set("alice", "bcc")
	next := bcc.Next()
	expectLines(next, textPoolSubscribe, `{"id":2147400001,"method":"mining.suggest_difficulty","params":[1]}`, withOwnID(textPoolAuthorize, 2))
	job2 := strings.Replace(textCleanJob, `"j1"`, `"j2"`, 1)
	next.Send(joinLines(textPoolSubscribed, withOwnID(textPoolAuthorized, 2), job2))
	miner.ExpectLine(job2)
	miner.SendLine(requestLine("2147400001", "mining.submit")) // this is late: j1 is the former pool's job
	link.ExpectLine(requestLine("2147400004", "mining.submit"))
	link.SendLine(goodAnswer("2147400001"))
	link.SendLine(goodAnswer("2147400003"))
	miner.ExpectLine(goodAnswer("2147400001"))
	link.SendLine(goodAnswer("2147400004"))
	miner.ExpectLine(goodAnswer("2147400001"))
	next.SendLine(goodAnswer("2147400001"))
	expectNoMore(t, sw, miner, next)
}

// Answers in another form are counted once and passed on with the miner's id, from
// the pool in use and from a former one. Nothing is refused again when the pool is
// lost.
func TestAnswersInOtherForms(t *testing.T) {
	for _, c := range []struct{ id, answer, want string }{
		{`7`, `{"id":"7","result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":7.0,"result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":"7.0","result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":7e0,"result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":" 7 ","result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":"007","result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":007,"result":true,"error":null}`, goodAnswer("7")},
		{`"007"`, `{"id":7,"result":true,"error":null}`, goodAnswer(`"007"`)},
		{`7`, `{"id":"0x7","result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"result":{"id":99,"ok":true},"error":null,"id":7}`, `{"result":{"id":99,"ok":true},"error":null,"id":7}`},
		{`7`, `{"id":7,"result":true,"error":null,"info":{"method":"submit","id":8}}`, `{"id":7,"result":true,"error":null,"info":{"method":"submit","id":8}}`},
		{`7`, `{"id":7,"method":"mining.submit","result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":7,"method":"client.reconnect","params":["evil",1],"result":true,"error":null}`, goodAnswer("7")},
		{`7`, `{"id":7,"\u0072esult":true,"error":null}`, goodAnswer("7")},
		{`"a"`, `{"id":a,"result":true,"error":null}`, goodAnswer(`"a"`)},
		{`"a\/b"`, `{"id":"a/b","result":true,"error":null}`, goodAnswer(`"a\/b"`)},
		{`[1,2]`, `{"id":[1, 2],"result":true,"error":null}`, goodAnswer(`[1,2]`)},
		{`"7"`, `{"id":7,"result":true,"error":[]}`, `{"id":"7","result":true,"error":[]}`},
	} {
		t.Run(c.answer, func(t *testing.T) {
			t.Parallel()
			sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
			sc.sw.setTiming(impatient)
			sc.Share(btc, c.id, "btc-1")
			sc.Share(btc, c.id, "btc-1")
			btc.SendLine(c.answer)
			sc.Miner.ExpectLine(c.want)
			bcc := sc.switchTo("bcc", "bcc-1")
			btc.SendLine(c.answer)
			sc.Miner.ExpectLine(c.want)
			btc.Close()
			sc.nothing(bcc, "bcc-1")
			if p := sc.sw.pools["btc"].totals(); p.Accepted != 2 || p.RefusedShares() != 0 {
				t.Errorf("%d shares are accepted and %d refused", p.Accepted, p.RefusedShares())
			}
		})
	}
}

// The id of an answer is written exactly as one of two requests, and has the value of the
// other one too.
func TestAnswerInTheFormOfAnotherRequest(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	forms := []string{`7`, `"7"`, `"007"`, `"0x7"`, `" 7 "`, `7.0`}
	for _, id := range forms {
		sc.Share(btc, id, "btc-1")
	}
	for _, id := range []string{`" 7 "`, `"0x7"`, `"7"`, `7.0`, `"007"`, `7`} {
		sc.Answered(btc, id)
	}
	if p := sc.sw.pools["btc"].totals(); p.Accepted != uint64(len(forms)) {
		t.Errorf("%d shares are accepted, want %d", p.Accepted, len(forms))
	}
}

// An answer whose id may stand for several values answers no request. The miner gets it as
// it is from the pool in use, and not from a former one. Its requests are answered once and
// are counted when that happens.
func TestAnswersOfNoClearRequest(t *testing.T) {
	for _, form := range []string{`[1]`, `["1"]`, `[49]`, `true`, `"true"`, `{"id":1}`, `""`, `" "`, `"1x"`, `"0x"`, `"- 1"`, `null`} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
			sc.sw.setTiming(impatient)
			totals := func() [3]uint64 {
				p := sc.sw.pools["btc"].totals()
				return [3]uint64{p.Submitted, p.Accepted, p.RefusedShares()}
			}
			sc.Share(btc, "1", "btc-1")
			sc.Share(btc, "2", "btc-1")
			sc.Share(btc, "1", "btc-1")
			unclear := `{"id":` + form + `,"result":true,"error":null}`
			btc.SendLine(unclear)
			sc.Miner.ExpectLine(unclear)
			if got := totals(); got != [3]uint64{3, 0, 0} {
				t.Errorf("%v shares are submitted, accepted and refused", got)
			}
			sc.Answered(btc, "1")
			bcc := sc.switchTo("bcc", "bcc-1")
			btc.SendLine(unclear) // the former pool's
			sc.Answered(btc, "2")
			if got := totals(); got != [3]uint64{3, 2, 0} {
				t.Errorf("%v shares are submitted, accepted and refused", got)
			}
			btc.SendLine(unclear)
			btc.Close()
			sc.Miner.ExpectLine(lostAnswer("1"))
			sc.nothing(bcc, "bcc-1")
			if got := totals(); got != [3]uint64{3, 2, 0} {
				t.Errorf("%v shares are submitted, accepted and refused", got)
			}
		})
	}
}

// The pool does not answer a day's worth of requests. Shares are counted and
// answered as usual, and a drain ends on time.
func TestUnansweredRequests(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", func(c *Config) { c.DrainSeconds = 1 }, "btc", "bcc")
	const n = 8640
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `{"id":%d,"method":"mining.hashrate","params":[]}`+"\n", 100000+i)
	}
	sc.Miner.Send(out.String())
	for i := range n {
		btc.ExpectLine(fmt.Sprintf(`{"id":%d,"method":"mining.hashrate","params":[]}`, 100000+i))
	}
	sc.Share(btc, "1", "btc-1")
	sc.Answered(btc, "1")
	sc.Share(btc, "2", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Answered(btc, "2")
	sc.Share(btc, "3", "btc-1")
	sc.Answered(btc, "3")
	if got := sc.sw.pools["btc"].totals().Accepted; got != 3 {
		t.Errorf("%d shares are accepted, want 3", got)
	}
	btc.ExpectClosed() // although none of the other requests was answered
	sc.Share(bcc, "4", "bcc-1")
}

// A refusal in which the pool repeats the request is a refusal. A job with a result
// is a job.
func TestDecoratedRefusalsAndJobs(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	sc.Share(btc, "7", "btc-1")
	btc.SendLine(`{"id":7,"method":"mining.submit","params":["alice.1","btc-1","00","00","00"],"result":null,"error":[21,"Job not found",null]}`)
	sc.Miner.ExpectLine(`{"id":7,"result":null,"error":[21,"Job not found",null]}`)
	if p := sc.sw.pools["btc"].totals(); p.RefusedShares() != 1 {
		t.Errorf("%d shares are refused", p.RefusedShares())
	}
	for _, line := range []string{
		strings.Replace(jobLine("btc-2", true), `"id":null`, `"id":1,"result":true,"error":null`, 1),
		`{"id":2,"method":"mining.set_difficulty","params":[8],"result":true,"error":null}`,
		`{"id":3,"method":"client.show_message","params":["x"],"result":null,"error":null}`,
	} {
		btc.SendLine(line)
		sc.Miner.ExpectLine(line)
	}
	sc.Share(btc, "8", "btc-2")
	sc.Answered(btc, "8")
}

// A request about a job that was renamed for the miner gets another id too, while a
// request of the switcher with the miner's id is unanswered.
func TestMinerUsesOwnIDAboutARenamedJob(t *testing.T) {
	t.Parallel()
	sw, miner, _, bcc := startSuggested(t)
	sw.coins.set("alice", "bcc")
	next := bcc.Next()
	expectLines(next, textPoolSubscribe, `{"id":2147400001,"method":"mining.suggest_difficulty","params":[1]}`, withOwnID(textPoolAuthorize, 2))
	next.Send(joinLines(textPoolSubscribed, withOwnID(textPoolAuthorized, 2), textJob))
	miner.ExpectLine(strings.Replace(textCleanJob, `"j1"`, `"j10"`, 1))
	ask := `{"id":%s,"method":"mining.get_transactions","params":["%s"]}`
	miner.SendLine(fmt.Sprintf(ask, "2147400001", "j10"))
	next.ExpectLine(fmt.Sprintf(ask, "2147400003", "j1"))
	next.SendLine(goodAnswer("2147400001")) // the suggestion's answer
	next.SendLine(goodAnswer("2147400003"))
	miner.ExpectLine(goodAnswer("2147400001"))
}

// A miner uses ids of answered requests of the switcher, and then has more requests
// unanswered than are stored. It gets the answers to all requests of the first kind, each
// once, and with its own id, also from a former pool.
func TestOwnIDsBeyondTheLimit(t *testing.T) {
	for name, method := range map[string]string{"requests": "mining.hashrate", "shares": "mining.submit"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
			request := func(id string) string {
				return fmt.Sprintf(`{"id":%s,"method":"%s","params":["alice.rig1","btc-1","00","00","00"]}`, id, method)
			}
			send := func(id, wire string) {
				t.Helper()
				sc.Miner.SendLine(request(id))
				btc.ExpectLine(request(wire))
			}
			const first, second = "2147400000", `"2147400001"`
			again := first
			if method == "mining.hashrate" { // the oldest ones are forgotten
				send(first, first)
				send(first, again)
				send(second, second)
			}
			for i := range stratum.MaxRequests / len(`123`+`10000`) {
				id := fmt.Sprint(10000 + i)
				send(id, id)
			}
			if method == "mining.submit" { // there is no room for these
				again = "2147400002" // the first one is known to be unanswered
				send(first, first)
				send(first, again)
				send(second, second)
			}
			sc.Answered(btc, first)
			btc.SendLine(goodAnswer(again))
			sc.Miner.ExpectLine(goodAnswer(first))
			btc.SendLine(goodAnswer(first)) // nobody asked for this
			sc.nothing(btc, "btc-1")
			bcc := sc.switchTo("bcc", "bcc-1")
			sc.Answered(btc, second)
			btc.SendLine(goodAnswer(second))
			sc.nothing(bcc, "bcc-1")
		})
	}
}
