package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// scene is one raw miner, alice.1, and scripted pools, so that a test has each
// line in its hands.
type scene struct {
	t     *testing.T
	sw    *testSwitcher
	pools map[string]*testkit.ScriptedPool
	miner *stratumtest.Raw
}

// startScene has the miner at the first pool, with the job NAME-1.
func startScene(t *testing.T, chain string, change func(*Config), pools ...string) (*scene, *stratumtest.Raw) {
	t.Helper()
	sc := &scene{t: t, pools: make(map[string]*testkit.ScriptedPool)}
	servers := make(map[string]StratumServerInfo)
	for _, name := range pools {
		sc.pools[name] = testkit.StartScriptedPool(t)
		servers[name] = StratumServerInfo{URL: sc.pools[name].Addr(), UserSuffix: name}
	}
	sc.sw = startSwitcher(t, newMemoryCoins(map[string]string{"alice": pools[0]}), nil, func(c *Config) {
		c.ChainType = chain
		c.StratumServerMap = servers
		if change != nil {
			change(c)
		}
	})
	sc.miner = stratumtest.DialRaw(t, sc.sw.addr)
	if chain == "bitcoin" {
		return sc, sc.begin(pools[0])
	}
	return sc, nil
}

// begin does the miner's handshake at the pool, which gives the job NAME-1.
func (sc *scene) begin(pool string) *stratumtest.Raw {
	sc.t.Helper()
	sc.miner.SendLine(rawSubscribe)
	sc.miner.Line(stratumtest.Patience)
	sc.miner.SendLine(rawAuthorize)
	link := sc.serve(pool, pool+"-1")
	sc.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	sc.expectWork(pool + "-1")
	return link
}

func goodAnswer(id string) string { return fmt.Sprintf(`{"id":%s,"result":true,"error":null}`, id) }

func lostAnswer(id string) string {
	return fmt.Sprintf(`{"id":%s,"result":null,"error":[20,"Pool connection lost",1]}`, id)
}

const difficultyLine = `{"id":null,"method":"mining.set_difficulty","params":[1]}`

// accept takes the next connection to the pool and answers its handshake, but
// sends no work.
func (sc *scene) accept(name string) *stratumtest.Raw {
	sc.t.Helper()
	r := sc.pools[name].Next()
	var subscribe struct{ Params []any }
	if err := json.Unmarshal([]byte(r.Line(stratumtest.Patience)), &subscribe); err != nil || len(subscribe.Params) < 2 {
		sc.t.Fatalf("subscribe: %v %v", subscribe, err)
	}
	r.ExpectMethod("mining.authorize")
	x := subscribe.Params[1]
	r.SendLine(fmt.Sprintf(`{"id":2147400000,"result":[[["mining.set_difficulty","%v"],["mining.notify","%v"]],"%v",8],"error":null}`, x, x, x))
	r.SendLine(`{"id":2147400001,"result":true,"error":null}`)
	return r
}

// serve is accept and the first job.
func (sc *scene) serve(name, job string) *stratumtest.Raw {
	sc.t.Helper()
	r := sc.accept(name)
	r.SendLine(difficultyLine)
	r.SendLine(jobLine(job, true))
	return r
}

func (sc *scene) expectWork(job string) {
	sc.t.Helper()
	sc.miner.ExpectLine(difficultyLine)
	sc.miner.ExpectLine(jobLine(job, true))
}

// switchTo moves the miner to a pool, whose link is returned.
func (sc *scene) switchTo(name, job string) *stratumtest.Raw {
	sc.t.Helper()
	sc.sw.coins.set("alice", name)
	link := sc.serve(name, job)
	sc.expectWork(job)
	return link
}

// share sends one and wants it to come to the link.
func (sc *scene) share(link *stratumtest.Raw, id, job string) {
	sc.t.Helper()
	line := shareLine(id, job)
	sc.miner.SendLine(line)
	link.ExpectLine(line)
}

// shareAs is share for a job that the miner knows by another ID than the pool.
func (sc *scene) shareAs(link *stratumtest.Raw, id, told, own string) {
	sc.t.Helper()
	sc.miner.SendLine(shareLine(id, told))
	link.ExpectLine(shareLine(id, own))
}

// answered has the link accept a request, and wants the miner to hear of it.
func (sc *scene) answered(link *stratumtest.Raw, id string) {
	sc.t.Helper()
	link.SendLine(goodAnswer(id))
	sc.miner.ExpectLine(goodAnswer(id))
}

// nothing wants that the miner gets nothing from what was sent until now: a
// share's way to the link and back comes after it.
func (sc *scene) nothing(link *stratumtest.Raw, job string) {
	sc.t.Helper()
	sc.share(link, `"barrier"`, job)
	sc.answered(link, `"barrier"`)
}

func (sc *scene) setDrain(d time.Duration) {
	sc.sw.setTiming(func(*timing) { sc.sw.drainTime = d })
}

// Late shares go to the pool whose job it was, new ones to the new pool, and
// all answers come back.
func TestDrainRoutesSharesByJob(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.answered(btc, "10") // asked before the switch
	sc.share(btc, "11", "btc-1")
	sc.share(bcc, "12", "bcc-1")
	sc.answered(bcc, "12")
	sc.answered(btc, "11")
	bcc.SendLine(jobLine("bcc-2", false))
	sc.miner.ExpectLine(jobLine("bcc-2", false))
	// All in one write, mixed.
	sc.miner.Send(shareLine("13", "bcc-2") + "\n" + shareLine("14", "btc-1") + "\n" + shareLine("15", "bcc-1") + "\n" + shareLine("16", "btc-1") + "\n")
	bcc.ExpectLine(shareLine("13", "bcc-2"))
	bcc.ExpectLine(shareLine("15", "bcc-1"))
	btc.ExpectLine(shareLine("14", "btc-1"))
	btc.ExpectLine(shareLine("16", "btc-1"))
	reject := `{"id":14,"result":null,"error":[21,"Job not found",null]}`
	btc.SendLine(reject)
	sc.miner.ExpectLine(reject)
	sc.answered(btc, "16")
	sc.answered(bcc, "13")
	sc.answered(bcc, "15")
	if got := sc.sw.pools["btc"].totals().Submitted; got != 4 {
		t.Errorf("%d shares counted for btc, want 4", got)
	}
	if got := sc.sw.pools["bcc"].totals().Accepted; got != 3 {
		t.Errorf("%d accepted shares counted for bcc, want 3", got)
	}
}

// Whatever the former pool says beside answers, the miner hears nothing of it.
func TestDrainDropsNotifications(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	btc.Send(strings.Join([]string{
		jobLine("btc-2", true), difficultyLine,
		`{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["deadbeef",4]}`,
		`{"id":null,"method":"client.reconnect","params":["h",1,0]}`,
		`{"id":77,"method":"client.get_version","params":[]}`,
		`{"id":null,"method":"client.show_message","params":["hello"]}`,
		goodAnswer("999"),         // never asked for
		goodAnswer(`"suggest"`),   // of a handshake
		goodAnswer(`"configure"`), //
		`{"id":0,"jsonrpc":"2.0","result":["0x00","0x01","0x02"]}`,
		goodAnswer("null"), ``, `noise`, `{"id":998`, "",
	}, "\n"))
	sc.nothing(bcc, "bcc-1")
	btc.SendLine(jobLine("btc-3", true))
	sc.answered(btc, "10")
	btc.SendLine(goodAnswer("10")) // a second time
	sc.nothing(bcc, "bcc-1")
	sc.share(btc, "11", "btc-1")
	sc.answered(btc, "11")
}

// Both pools use the same job IDs: the miner knows those of the later one by
// others, also when the former link has ended, until the pool has gone on.
func TestDrainSameJobIDs(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	for _, id := range []string{"2", "3"} {
		btc.SendLine(jobLine(id, false))
		sc.miner.ExpectLine(jobLine(id, false))
	}
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.serve("bcc", "2")
	sc.expectWork("20")
	sc.shareAs(bcc, "10", "20", "2")
	sc.share(btc, "11", "3")
	bcc.SendLine(jobLine("3", true))
	sc.miner.ExpectLine(jobLine("30", true))
	bcc.SendLine(jobLine("3", false)) // again
	sc.miner.ExpectLine(jobLine("30", false))
	sc.shareAs(bcc, "12", "30", "3")
	sc.share(btc, "13", "2")
	sc.share(btc, "14", "btc-1")
	sc.share(bcc, "15", "unheard-of") // which may be neither's: to the pool in use
	for id, link := range map[string]*stratumtest.Raw{"10": bcc, "11": btc, "12": bcc, "13": btc, "14": btc, "15": bcc} {
		sc.answered(link, id)
	}
	btc.Close()
	eventually(t, "the former link is gone", func() bool { return sc.sw.draining.Load() == 0 })
	sc.shareAs(bcc, "16", "30", "3")
	// An ID of the pool itself that the miner knows as another job.
	bcc.SendLine(jobLine("30", false))
	sc.miner.ExpectLine(jobLine("300", false))
	sc.shareAs(bcc, "17", "300", "30")
	sc.shareAs(bcc, "18", "30", "3")
	bcc.SendLine(jobLine("4", false))
	sc.miner.ExpectLine(jobLine("4", false))
	sc.share(bcc, "19", "4")
}

// Several switches in a row: each former link gets its own late shares.
func TestDrainSeveral(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv", "ltc")
	bcc := sc.switchTo("bcc", "bcc-1")
	bsv := sc.switchTo("bsv", "bsv-1")
	ltc := sc.switchTo("ltc", "ltc-1")
	links := map[string]*stratumtest.Raw{"btc-1": btc, "bcc-1": bcc, "bsv-1": bsv, "ltc-1": ltc}
	n := 10
	for range 2 {
		for _, job := range []string{"bcc-1", "btc-1", "ltc-1", "bsv-1"} {
			sc.share(links[job], fmt.Sprint(n), job)
			n++
		}
	}
	for n--; n >= 10; n-- {
		job := []string{"bcc-1", "btc-1", "ltc-1", "bsv-1"}[(n-10)%4]
		sc.answered(links[job], fmt.Sprint(n))
	}
	// One that ends takes nothing with it.
	bcc.Close()
	eventually(t, "bcc's link is given up", func() bool { return sc.sw.draining.Load() == 2 })
	sc.share(btc, "50", "btc-1")
	sc.share(bsv, "51", "bsv-1")
	sc.share(ltc, "52", "ltc-1")
	sc.answered(btc, "50")
	sc.answered(bsv, "51")
	sc.answered(ltc, "52")
}

// More switches than links are kept: what the oldest owes is answered all the
// same, once, and shares that come for its jobs are not another pool's.
func TestDrainTooMany(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	sc, link := startScene(t, "bitcoin", nil, names...)
	for i, name := range names[1:] {
		sc.share(link, fmt.Sprint(10+i), names[i]+"-1")
		sc.sw.coins.set("alice", name)
		link = sc.serve(name, name+"-1")
		if i >= maxDrains {
			sc.miner.ExpectLine(lostAnswer(fmt.Sprint(10 + i - maxDrains)))
		}
		sc.expectWork(name + "-1")
	}
	if n := sc.sw.draining.Load(); n != maxDrains {
		t.Errorf("%d links drain, want %d", n, maxDrains)
	}
	for i, name := range names[:len(names)-1-maxDrains] {
		sc.miner.SendLine(shareLine(fmt.Sprint(30+i), name+"-1"))
		sc.miner.ExpectLine(lostAnswer(fmt.Sprint(30 + i)))
	}
	sc.nothing(link, "g-1")
}

// Back to the first pool while its former link still drains.
func TestDrainSwitchBack(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.share(bcc, "11", "bcc-1")
	btc2 := sc.switchTo("btc", "btc-2")
	// The old link to btc owes an answer, so it stays; it takes no new shares.
	sc.share(btc2, "12", "btc-2")
	sc.share(btc2, "17", "btc-1")
	sc.answered(btc2, "17")
	sc.share(bcc, "13", "bcc-1")
	sc.answered(btc, "10")
	btc.ExpectClosed()
	sc.answered(bcc, "11")
	sc.answered(btc2, "12")
	sc.answered(bcc, "13")
	// Once more, nothing owed: the former link ends before the new handshake,
	// because the pool would see one extranonce twice.
	sc.sw.coins.set("alice", "bcc")
	bcc2 := sc.accept("bcc")
	bcc.ExpectClosed()
	bcc2.SendLine(jobLine("bcc-5", true))
	sc.miner.ExpectLine(jobLine("bcc-5", true))
	sc.share(bcc2, "14", "bcc-5")
	sc.share(btc2, "15", "btc-2")
	sc.answered(btc2, "15")
	sc.answered(bcc2, "14")
}

// On the way back to the first pool its former link, which owes an answer,
// still takes shares for its jobs: the pool in use does not know them.
func TestDrainTakesSharesUntilBack(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.sw.coins.set("alice", "btc")
	btc2 := sc.accept("btc")
	if n := sc.drainsEnding(); n != 1 {
		t.Fatalf("%d drains are ending, want 1", n)
	}
	sc.share(btc, "11", "btc-1")
	sc.share(bcc, "12", "bcc-1")
	btc2.SendLine(jobLine("btc-2", true))
	sc.miner.ExpectLine(jobLine("btc-2", true))
	sc.share(btc2, "13", "btc-1")
	for id, link := range map[string]*stratumtest.Raw{"10": btc, "11": btc, "12": bcc, "13": btc2} {
		sc.answered(link, id)
	}
	btc.ExpectClosed()
}

// The pool in use is lost and comes back while another link drains: shares for
// its new jobs are its own, those for the drained pool's go there.
func TestDrainOutlivesLoss(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.share(btc, "10", "btc-1")
	sc.share(bcc, "11", "bcc-1")
	bcc.Close()
	sc.miner.ExpectLine(lostAnswer("11"))
	bcc2 := sc.serve("bcc", "bcc-2")
	sc.expectWork("bcc-2")
	sc.share(bcc2, "12", "bcc-2")
	sc.share(bcc2, "13", "bcc-1") // of the lost link: the same pool may know it
	sc.share(btc, "14", "btc-1")
	sc.answered(btc, "10")
	sc.answered(btc, "14")
	sc.answered(bcc2, "13")
	sc.answered(bcc2, "12")
}

// The pool is lost and the miner goes on at another one: shares for the lost
// pool's jobs are answered and not given to a pool that can only refuse them.
// Back at the lost one they are its own again.
func TestDrainLostPool(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	sc.share(btc, "10", "btc-1")
	sc.pools["btc"].Ln.Close()
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.accept("bcc")
	btc.Close()
	sc.miner.ExpectLine(lostAnswer("10"))
	sc.miner.SendLine(shareLine("11", "btc-1")) // waits for a link
	bcc.SendLine(difficultyLine)
	bcc.SendLine(jobLine("bcc-1", true))
	sc.expectWork("bcc-1")
	sc.miner.ExpectLine(lostAnswer("11"))
	sc.share(bcc, "12", "bcc-1")
	sc.miner.SendLine(shareLine("12", "btc-1")) // the same id: answered after the first
	sc.nothing(bcc, "bcc-1")
	bcc.SendLine(goodAnswer("12"))
	sc.miner.ExpectLine(goodAnswer("12"))
	sc.miner.ExpectLine(lostAnswer("12"))

	back := sc.reopen("btc")
	sc.sw.coins.set("alice", "btc")
	again := sc.serve(back, "btc-2")
	sc.expectWork("btc-2")
	sc.share(again, "13", "btc-1")
	sc.share(bcc, "14", "bcc-1")
	sc.answered(again, "13")
	sc.answered(bcc, "14")

	// Without time for late shares nothing is kept.
	sc.setDrain(0)
	sc.sw.coins.set("alice", "bcc")
	bcc = sc.accept("bcc")
	again.Close()
	bcc.SendLine(difficultyLine)
	bcc.SendLine(jobLine("bcc-2", true))
	sc.expectWork("bcc-2")
}

// A miner is not read from while its pool is lost. A share it has sent meanwhile
// still goes to the former pool whose job it is for, however long that took.
func TestDrainOutlastsAReconnect(t *testing.T) {
	t.Parallel()
	const linger = 300 * time.Millisecond
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(func(tm *timing) { impatient(tm); tm.poolHandshake = testWait })
	sc.setDrain(linger)
	bcc := sc.switchTo("bcc", "bcc-1")
	bcc.Close()
	sc.miner.SendLine(shareLine("20", "btc-1"))
	time.Sleep(3 * linger) // nothing tells that the time is over
	sc.serve("bcc", "bcc-2")
	btc.ExpectLine(shareLine("20", "btc-1"))
	sc.expectWork("bcc-2")
	sc.answered(btc, "20")
}

// The pool moves to another of its addresses and back: the miner's shares on
// their way are not another address' business.
func TestDrainBetweenAddressesOfOnePool(t *testing.T) {
	backup := testkit.StartScriptedPool(t)
	sc, first := startScene(t, "bitcoin", func(c *Config) {
		btc := c.StratumServerMap["btc"]
		btc.BackupURLs = []string{backup.Addr()}
		c.StratumServerMap["btc"] = btc
	}, "btc")
	sc.sw.setTiming(impatient)
	sc.pools["backup"] = backup
	sc.pools["btc"].Ln.Close()
	first.Close()
	second := sc.serve("backup", "backup-1")
	sc.expectWork("backup-1")
	sc.renew(sc.sw.pools["btc"].addresses[1]) // to a second link at the backup: like client.reconnect
	third := sc.serve("backup", "backup-2")
	sc.expectWork("backup-2")
	second.ExpectClosed()

	back := sc.reopen("btc")
	sc.sw.health.forgetAll()
	sc.share(third, "10", "backup-2")
	sc.renew(sc.sw.pools["btc"].addresses[0])
	again := sc.serve(back, "btc-2")
	sc.expectWork("btc-2")
	sc.share(third, "11", "backup-2")
	sc.share(again, "12", "btc-2")
	sc.answered(third, "11")
	sc.answered(again, "12")
	sc.answered(third, "10")
}

// renew has the one session get a new link as the sweep does.
func (sc *scene) renew(a *poolAddress) {
	sc.t.Helper()
	for _, l := range sc.sw.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				if s.phase != phaseRelaying {
					sc.t.Errorf("session is %s", s.phase)
				}
				s.renew(a)
			}
		})
	}
}

// reopen listens again at the pool's address.
func (sc *scene) reopen(name string) string {
	sc.t.Helper()
	sc.pools["reopened "+name] = listenScriptedPool(sc.t, sc.pools[name].Addr())
	return "reopened " + name
}
