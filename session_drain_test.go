package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// scene is a testkit.Scene with the switcher inside the test process.
type scene struct {
	*testkit.Scene
	sw *testSwitcher
}

// startScene has the miner at the first pool, with the job NAME-1.
func startScene(t *testing.T, chain string, change func(*Config), pools ...string) (*scene, *stratumtest.Raw) {
	t.Helper()
	sc := &scene{Scene: testkit.NewScene(t, pools...)}
	servers := make(map[string]StratumServerInfo)
	for _, name := range pools {
		servers[name] = StratumServerInfo{URL: sc.Pools[name].Addr(), UserSuffix: name}
	}
	sc.sw = startSwitcher(t, newMemoryCoins(map[string]string{"alice": pools[0]}), nil, func(c *Config) {
		c.ChainType = chain
		c.StratumServerMap = servers
		if change != nil {
			change(c)
		}
	})
	sc.Miner = stratumtest.DialRaw(t, sc.sw.addr)
	if chain == "bitcoin" {
		return sc, sc.Begin(pools[0])
	}
	return sc, nil
}

func lostAnswer(id string) string {
	return fmt.Sprintf(`{"id":%s,"result":null,"error":[20,"Pool connection lost",1]}`, id)
}

// switchTo moves the miner to a pool, whose link is returned.
func (sc *scene) switchTo(name, job string) *stratumtest.Raw {
	sc.T.Helper()
	sc.sw.coins.set("alice", name)
	link := sc.Serve(name, job)
	sc.ExpectWork(job)
	return link
}

// nothing wants that the miner gets nothing from what was sent until now: a
// share's way to the link and back comes after it.
func (sc *scene) nothing(link *stratumtest.Raw, job string) {
	sc.T.Helper()
	sc.Share(link, `"barrier"`, job)
	sc.Answered(link, `"barrier"`)
}

func (sc *scene) setDrain(d time.Duration) {
	sc.sw.setTiming(func(*timing) { sc.sw.drainTime = d })
}

// Late shares go to the pool whose job it was, new ones to the new pool, and
// all answers come back.
func TestDrainRoutesSharesByJob(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Answered(btc, "10") // asked before the switch
	sc.Share(btc, "11", "btc-1")
	sc.Share(bcc, "12", "bcc-1")
	sc.Answered(bcc, "12")
	sc.Answered(btc, "11")
	bcc.SendLine(jobLine("bcc-2", false))
	sc.Miner.ExpectLine(jobLine("bcc-2", false))
	// All in one write, mixed.
	sc.Miner.Send(shareLine("13", "bcc-2") + "\n" + shareLine("14", "btc-1") + "\n" + shareLine("15", "bcc-1") + "\n" + shareLine("16", "btc-1") + "\n")
	bcc.ExpectLine(shareLine("13", "bcc-2"))
	bcc.ExpectLine(shareLine("15", "bcc-1"))
	btc.ExpectLine(shareLine("14", "btc-1"))
	btc.ExpectLine(shareLine("16", "btc-1"))
	reject := `{"id":14,"result":null,"error":[21,"Job not found",null]}`
	btc.SendLine(reject)
	sc.Miner.ExpectLine(reject)
	sc.Answered(btc, "16")
	sc.Answered(bcc, "13")
	sc.Answered(bcc, "15")
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
	sc.Share(btc, "10", "btc-1")
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
	sc.Answered(btc, "10")
	btc.SendLine(goodAnswer("10")) // a second time
	sc.nothing(bcc, "bcc-1")
	sc.Share(btc, "11", "btc-1")
	sc.Answered(btc, "11")
}

// Both pools use the same job IDs: the miner knows those of the later one by
// others, also when the former link has ended, until the pool has gone on.
func TestDrainSameJobIDs(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	for _, id := range []string{"2", "3"} {
		btc.SendLine(jobLine(id, false))
		sc.Miner.ExpectLine(jobLine(id, false))
	}
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Serve("bcc", "2")
	sc.ExpectWork("20")
	sc.ShareAs(bcc, "10", "20", "2")
	sc.Share(btc, "11", "3")
	bcc.SendLine(jobLine("3", true))
	sc.Miner.ExpectLine(jobLine("30", true))
	bcc.SendLine(jobLine("3", false)) // again
	sc.Miner.ExpectLine(jobLine("30", false))
	sc.ShareAs(bcc, "12", "30", "3")
	sc.Share(btc, "13", "2")
	sc.Share(btc, "14", "btc-1")
	sc.Share(bcc, "15", "unheard-of") // which may be neither's: to the pool in use
	for id, link := range map[string]*stratumtest.Raw{"10": bcc, "11": btc, "12": bcc, "13": btc, "14": btc, "15": bcc} {
		sc.Answered(link, id)
	}
	btc.Close()
	eventually(t, "the former link is gone", func() bool { return sc.sw.draining.Load() == 0 })
	sc.ShareAs(bcc, "16", "30", "3")
	// An ID of the pool itself that the miner knows as another job.
	bcc.SendLine(jobLine("30", false))
	sc.Miner.ExpectLine(jobLine("300", false))
	sc.ShareAs(bcc, "17", "300", "30")
	sc.ShareAs(bcc, "18", "30", "3")
	bcc.SendLine(jobLine("4", false))
	sc.Miner.ExpectLine(jobLine("4", false))
	sc.Share(bcc, "19", "4")
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
			sc.Share(links[job], fmt.Sprint(n), job)
			n++
		}
	}
	for n--; n >= 10; n-- {
		job := []string{"bcc-1", "btc-1", "ltc-1", "bsv-1"}[(n-10)%4]
		sc.Answered(links[job], fmt.Sprint(n))
	}
	// One that ends takes nothing with it.
	bcc.Close()
	eventually(t, "bcc's link is given up", func() bool { return sc.sw.draining.Load() == 2 })
	sc.Share(btc, "50", "btc-1")
	sc.Share(bsv, "51", "bsv-1")
	sc.Share(ltc, "52", "ltc-1")
	sc.Answered(btc, "50")
	sc.Answered(bsv, "51")
	sc.Answered(ltc, "52")
}

// More switches than links are kept: what the oldest owes is answered all the
// same, once, and shares that come for its jobs are not another pool's.
func TestDrainTooMany(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	sc, link := startScene(t, "bitcoin", nil, names...)
	for i, name := range names[1:] {
		sc.Share(link, fmt.Sprint(10+i), names[i]+"-1")
		sc.sw.coins.set("alice", name)
		link = sc.Serve(name, name+"-1")
		if i >= maxDrains {
			sc.Miner.ExpectLine(lostAnswer(fmt.Sprint(10 + i - maxDrains)))
		}
		sc.ExpectWork(name + "-1")
	}
	if n := sc.sw.draining.Load(); n != maxDrains {
		t.Errorf("%d links drain, want %d", n, maxDrains)
	}
	for i, name := range names[:len(names)-1-maxDrains] {
		sc.Miner.SendLine(shareLine(fmt.Sprint(30+i), name+"-1"))
		sc.Miner.ExpectLine(lostAnswer(fmt.Sprint(30 + i)))
	}
	sc.nothing(link, "g-1")
}

// Back to the first pool while its former link still drains.
func TestDrainSwitchBack(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(bcc, "11", "bcc-1")
	btc2 := sc.switchTo("btc", "btc-2")
	// The old link to btc owes an answer, so it stays; it takes no new shares.
	sc.Share(btc2, "12", "btc-2")
	sc.Share(btc2, "17", "btc-1")
	sc.Answered(btc2, "17")
	sc.Share(bcc, "13", "bcc-1")
	sc.Answered(btc, "10")
	btc.ExpectClosed()
	sc.Answered(bcc, "11")
	sc.Answered(btc2, "12")
	sc.Answered(bcc, "13")
	// Once more, nothing owed: the former link ends before the new handshake,
	// because the pool would see one extranonce twice.
	sc.sw.coins.set("alice", "bcc")
	bcc2 := sc.Accept("bcc")
	bcc.ExpectClosed()
	bcc2.SendLine(jobLine("bcc-5", true))
	sc.Miner.ExpectLine(jobLine("bcc-5", true))
	sc.Share(bcc2, "14", "bcc-5")
	sc.Share(btc2, "15", "btc-2")
	sc.Answered(btc2, "15")
	sc.Answered(bcc2, "14")
}

// On the way back to the first pool its former link, which owes an answer,
// still takes shares for its jobs: the pool in use does not know them.
func TestDrainTakesSharesUntilBack(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.sw.coins.set("alice", "btc")
	btc2 := sc.Accept("btc")
	if n := sc.drainsEnding(); n != 1 {
		t.Fatalf("%d drains are ending, want 1", n)
	}
	sc.Share(btc, "11", "btc-1")
	sc.Share(bcc, "12", "bcc-1")
	btc2.SendLine(jobLine("btc-2", true))
	sc.Miner.ExpectLine(jobLine("btc-2", true))
	sc.Share(btc2, "13", "btc-1")
	for id, link := range map[string]*stratumtest.Raw{"10": btc, "11": btc, "12": bcc, "13": btc2} {
		sc.Answered(link, id)
	}
	btc.ExpectClosed()
}

// The pool in use is lost and comes back while another link drains: shares for
// its new jobs are its own, those for the drained pool's go there.
func TestDrainOutlivesLoss(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(btc, "10", "btc-1")
	sc.Share(bcc, "11", "bcc-1")
	bcc.Close()
	sc.Miner.ExpectLine(lostAnswer("11"))
	bcc2 := sc.Serve("bcc", "bcc-2")
	sc.ExpectWork("bcc-2")
	sc.Share(bcc2, "12", "bcc-2")
	sc.Share(bcc2, "13", "bcc-1") // of the lost link: the same pool may know it
	sc.Share(btc, "14", "btc-1")
	sc.Answered(btc, "10")
	sc.Answered(btc, "14")
	sc.Answered(bcc2, "13")
	sc.Answered(bcc2, "12")
}

// The pool is lost and the miner goes on at another one: shares for the lost
// pool's jobs are answered and not given to a pool that can only refuse them.
// Back at the lost one they are its own again.
func TestDrainLostPool(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	sc.Share(btc, "10", "btc-1")
	sc.Pools["btc"].Ln.Close()
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Accept("bcc")
	btc.Close()
	sc.Miner.ExpectLine(lostAnswer("10"))
	sc.Miner.SendLine(shareLine("11", "btc-1")) // waits for a link
	bcc.SendLine(difficultyLine)
	bcc.SendLine(jobLine("bcc-1", true))
	sc.ExpectWork("bcc-1")
	sc.Miner.ExpectLine(lostAnswer("11"))
	sc.Share(bcc, "12", "bcc-1")
	sc.Miner.SendLine(shareLine("12", "btc-1")) // the same id: answered after the first
	sc.nothing(bcc, "bcc-1")
	bcc.SendLine(goodAnswer("12"))
	sc.Miner.ExpectLine(goodAnswer("12"))
	sc.Miner.ExpectLine(lostAnswer("12"))

	back := sc.reopen("btc")
	sc.sw.coins.set("alice", "btc")
	again := sc.Serve(back, "btc-2")
	sc.ExpectWork("btc-2")
	sc.Share(again, "13", "btc-1")
	sc.Share(bcc, "14", "bcc-1")
	sc.Answered(again, "13")
	sc.Answered(bcc, "14")

	// Without time for late shares nothing is kept.
	sc.setDrain(0)
	sc.sw.coins.set("alice", "bcc")
	bcc = sc.Accept("bcc")
	again.Close()
	bcc.SendLine(difficultyLine)
	bcc.SendLine(jobLine("bcc-2", true))
	sc.ExpectWork("bcc-2")
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
	sc.Miner.SendLine(shareLine("20", "btc-1"))
	time.Sleep(3 * linger) // nothing tells that the time is over
	sc.Serve("bcc", "bcc-2")
	btc.ExpectLine(shareLine("20", "btc-1"))
	sc.ExpectWork("bcc-2")
	sc.Answered(btc, "20")
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
	sc.Pools["backup"] = backup
	sc.Pools["btc"].Ln.Close()
	first.Close()
	second := sc.Serve("backup", "backup-1")
	sc.ExpectWork("backup-1")
	sc.renew(sc.sw.pools["btc"].addresses[1]) // to a second link at the backup: like client.reconnect
	third := sc.Serve("backup", "backup-2")
	sc.ExpectWork("backup-2")
	second.ExpectClosed()

	back := sc.reopen("btc")
	sc.sw.health.forgetAll()
	sc.Share(third, "10", "backup-2")
	sc.renew(sc.sw.pools["btc"].addresses[0])
	again := sc.Serve(back, "btc-2")
	sc.ExpectWork("btc-2")
	sc.Share(third, "11", "backup-2")
	sc.Share(again, "12", "btc-2")
	sc.Answered(third, "11")
	sc.Answered(again, "12")
	sc.Answered(third, "10")
}

// renew has the one session get a new link as the sweep does.
func (sc *scene) renew(a *poolAddress) {
	sc.T.Helper()
	for _, l := range sc.sw.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				if s.phase != phaseRelaying {
					sc.T.Errorf("session is %s", s.phase)
				}
				s.renew(a)
			}
		})
	}
}

// reopen listens again at the pool's address.
func (sc *scene) reopen(name string) string {
	sc.T.Helper()
	sc.Pools["reopened "+name] = listenScriptedPool(sc.T, sc.Pools[name].Addr())
	return "reopened " + name
}
