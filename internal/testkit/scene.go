package testkit

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Scene is one miner, alice.1, and scripted pools. The test sends and reads each line of
// all of them.
type Scene struct {
	T     testing.TB
	Pools map[string]*ScriptedPool
	Miner *stratumtest.Raw
}

// NewScene starts pools with these names. The miner is connected later.
func NewScene(t testing.TB, pools ...string) *Scene {
	t.Helper()
	sc := &Scene{T: t, Pools: make(map[string]*ScriptedPool)}
	for _, name := range pools {
		sc.Pools[name] = StartScriptedPool(t)
	}
	return sc
}

// Begin completes the miner's handshake at the named pool. The pool's first job is NAME-1.
func (sc *Scene) Begin(pool string) *stratumtest.Raw {
	sc.T.Helper()
	sc.Miner.SendLine(RawSubscribe)
	sc.Miner.Line(stratumtest.Patience)
	sc.Miner.SendLine(RawAuthorize)
	link := sc.Serve(pool, pool+"-1")
	sc.Miner.ExpectLine(GoodAnswer("2"))
	sc.ExpectWork(pool + "-1")
	return link
}

func GoodAnswer(id string) string { return fmt.Sprintf(`{"id":%s,"result":true,"error":null}`, id) }

const DifficultyLine = `{"id":null,"method":"mining.set_difficulty","params":[1]}`

// WithOwnID replaces the id in a request to a pool, or in an answer from one, with the
// id that the switcher gives to request n of its own on that link. The first is request 0.
func WithOwnID(line string, n int) string {
	return regexp.MustCompile(`"id":\d+`).ReplaceAllString(line, fmt.Sprintf(`"id":%d`, stratum.FirstOwnID+n))
}

// Accept takes the next connection to the pool and answers its handshake, but sends
// no job.
func (sc *Scene) Accept(name string) *stratumtest.Raw {
	sc.T.Helper()
	r := sc.Pools[name].Next()
	var subscribe struct{ Params []any }
	if err := json.Unmarshal([]byte(r.Line(stratumtest.Patience)), &subscribe); err != nil || len(subscribe.Params) < 2 {
		sc.T.Fatalf("subscribe: %v %v", subscribe, err)
	}
	r.ExpectMethod("mining.authorize")
	x := subscribe.Params[1]
	r.SendLine(fmt.Sprintf(`{"id":2147400000,"result":[[["mining.set_difficulty","%v"],["mining.notify","%v"]],"%v",8],"error":null}`, x, x, x))
	r.SendLine(GoodAnswer("2147400001"))
	return r
}

// Serve is Accept, after which the pool sends the difficulty and its first job.
func (sc *Scene) Serve(name, job string) *stratumtest.Raw {
	sc.T.Helper()
	r := sc.Accept(name)
	r.SendLine(DifficultyLine)
	r.SendLine(stratumtest.JobLine(job, true))
	return r
}

// ExpectWork fails the test unless the miner's next lines are the difficulty and this job.
func (sc *Scene) ExpectWork(job string) {
	sc.T.Helper()
	sc.Miner.ExpectLine(DifficultyLine)
	sc.Miner.ExpectLine(stratumtest.JobLine(job, true))
}

// Share makes the miner submit a share and fails the test unless it reaches the link.
func (sc *Scene) Share(link *stratumtest.Raw, id, job string) {
	sc.T.Helper()
	sc.ShareAs(link, id, job, job)
}

// ShareAs is Share for a job whose ID the switcher has changed. The miner knows the job as
// told, and the pool knows it as own.
func (sc *Scene) ShareAs(link *stratumtest.Raw, id, told, own string) {
	sc.T.Helper()
	sc.Miner.SendLine(stratumtest.ShareLine(id, told))
	link.ExpectLine(stratumtest.ShareLine(id, own))
}

// Answered makes the link accept a request, and fails the test unless the miner gets the
// answer.
func (sc *Scene) Answered(link *stratumtest.Raw, id string) {
	sc.T.Helper()
	link.SendLine(GoodAnswer(id))
	sc.Miner.ExpectLine(GoodAnswer(id))
}

// VisitTwice moves the miner from btc to bcc, back to btc and on to bsv, and submits
// shares for jobs of all links. It calls between after each move.
func (sc *Scene) VisitTwice(move func(name, job string) *stratumtest.Raw, between func()) {
	sc.T.Helper()
	bcc := move("bcc", "bcc-1")
	between()
	btc := move("btc", "btc-2")
	between()
	sc.Share(btc, "10", "btc-1")
	sc.Share(bcc, "11", "bcc-1")
	bsv := move("bsv", "bsv-1")
	between()
	sc.Share(btc, "12", "btc-1")
	sc.Share(btc, "13", "btc-2")
	sc.Share(bcc, "14", "bcc-1")
	sc.Share(bsv, "15", "bsv-1")
	for id, link := range map[string]*stratumtest.Raw{"10": btc, "11": bcc, "12": btc, "13": btc, "14": bcc, "15": bsv} {
		sc.Answered(link, id)
	}
}
