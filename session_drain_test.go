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

// startScene starts a scene whose miner is at the first pool, with the job NAME-1.
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

// switchTo moves the miner to a pool and returns the new link.
func (sc *scene) switchTo(name, job string) *stratumtest.Raw {
	sc.T.Helper()
	sc.sw.coins.set("alice", name)
	link := sc.Serve(name, job)
	sc.ExpectWork(job)
	return link
}

// nothing wants the miner to get nothing of what was sent until now: a share's way
// to the link and back takes longer.
func (sc *scene) nothing(link *stratumtest.Raw, job string) {
	sc.T.Helper()
	sc.Share(link, `"barrier"`, job)
	sc.Answered(link, `"barrier"`)
}

func (sc *scene) setDrain(d time.Duration) {
	sc.sw.setTiming(func(*timing) { sc.sw.drainTime = d })
}

// Late shares go to the pool of their job, new ones to the new pool, and all
// answers reach the miner.
func TestDrainRoutesSharesByJob(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Answered(btc, "10") // this is sent before the switch
	sc.Share(btc, "11", "btc-1")
	sc.Share(bcc, "12", "bcc-1")
	sc.Answered(bcc, "12")
	sc.Answered(btc, "11")
	bcc.SendLine(jobLine("bcc-2", false))
	sc.Miner.ExpectLine(jobLine("bcc-2", false))
	// All are sent in one write, in mixed order.
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
		t.Errorf("%d shares are counted for btc, want 4", got)
	}
	if got := sc.sw.pools["bcc"].totals().Accepted; got != 3 {
		t.Errorf("%d accepted shares are counted for bcc, want 3", got)
	}
}

// The miner gets nothing that the former pool sends, except answers.
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
		goodAnswer("999"),         // nobody has asked for this
		goodAnswer(`"suggest"`),   // belongs to a handshake
		goodAnswer(`"configure"`), //
		`{"id":0,"jsonrpc":"2.0","result":["0x00","0x01","0x02"]}`,
		goodAnswer("null"), ``, `noise`, `{"id":998`, "",
	}, "\n"))
	sc.nothing(bcc, "bcc-1")
	btc.SendLine(jobLine("btc-3", true))
	sc.Answered(btc, "10")
	btc.SendLine(goodAnswer("10")) // this is the second time
	sc.nothing(bcc, "bcc-1")
	sc.Share(btc, "11", "btc-1")
	sc.Answered(btc, "11")
}

// Both pools use the same job IDs. The miner knows the later pool's jobs by other
// IDs, even when the former link has ended, until the pool uses new ones.
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
	bcc.SendLine(jobLine("3", false)) // the same job again
	sc.Miner.ExpectLine(jobLine("30", false))
	sc.ShareAs(bcc, "12", "30", "3")
	sc.Share(btc, "13", "2")
	sc.Share(btc, "14", "btc-1")
	sc.Share(bcc, "15", "unheard-of") // this may be neither pool's, so it goes to the pool in use
	for id, link := range map[string]*stratumtest.Raw{"10": bcc, "11": btc, "12": bcc, "13": btc, "14": btc, "15": bcc} {
		sc.Answered(link, id)
	}
	btc.Close()
	eventually(t, "the former link is gone", func() bool { return sc.sw.draining.Load() == 0 })
	sc.ShareAs(bcc, "16", "30", "3")
	// This is an ID of the pool that the miner knows as another job.
	bcc.SendLine(jobLine("30", false))
	sc.Miner.ExpectLine(jobLine("300", false))
	sc.ShareAs(bcc, "17", "300", "30")
	sc.ShareAs(bcc, "18", "30", "3")
	bcc.SendLine(jobLine("4", false))
	sc.Miner.ExpectLine(jobLine("4", false))
	sc.Share(bcc, "19", "4")
}

// There are several switches in a row. Each former link gets its own late shares.
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
	// A link that ends does not affect the others.
	bcc.Close()
	eventually(t, "bcc's link is given up", func() bool { return sc.sw.draining.Load() == 2 })
	sc.Share(btc, "50", "btc-1")
	sc.Share(bsv, "51", "bsv-1")
	sc.Share(ltc, "52", "ltc-1")
	sc.Answered(btc, "50")
	sc.Answered(bsv, "51")
	sc.Answered(ltc, "52")
}

// There are more switches than links that are kept. Requests that the oldest link
// owes are answered all the same, once, and shares for its jobs are not given to
// another pool.
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
		t.Errorf("got %d links that drain, want %d", n, maxDrains)
	}
	for i, name := range names[:len(names)-1-maxDrains] {
		sc.Miner.SendLine(shareLine(fmt.Sprint(30+i), name+"-1"))
		sc.Miner.ExpectLine(lostAnswer(fmt.Sprint(30 + i)))
	}
	sc.nothing(link, "g-1")
}

// The miner returns to the first pool while its former link still drains.
func TestDrainSwitchBack(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(bcc, "11", "bcc-1")
	btc2 := sc.switchTo("btc", "btc-2")
	// The old link to btc owes an answer, so it is kept, but it takes no new
	// shares.
	sc.Share(btc2, "12", "btc-2")
	sc.Share(btc2, "17", "btc-1")
	sc.Answered(btc2, "17")
	sc.Share(bcc, "13", "bcc-1")
	sc.Answered(btc, "10")
	btc.ExpectClosed()
	sc.Answered(bcc, "11")
	sc.Answered(btc2, "12")
	sc.Answered(bcc, "13")
	// On the next switch no answer is owed. The former link ends before the new
	// handshake, because the pool would otherwise see one extranonce twice.
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

// On the way back to the first pool, its former link, which owes an answer, still
// takes shares for its jobs, because the pool in use does not know them.
func TestDrainTakesSharesUntilBack(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.sw.coins.set("alice", "btc")
	btc2 := sc.Accept("btc")
	if n := sc.drainsEnding(); n != 1 {
		t.Fatalf("%d drains are about to end, want 1", n)
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

// The pool in use is lost and recovers while another link drains. Shares for its
// new jobs go to it, and shares for the former pool's jobs go to the former pool.
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
	sc.Share(bcc2, "13", "bcc-1") // a job of the lost link, which the same pool may know
	sc.Share(btc, "14", "btc-1")
	sc.Answered(btc, "10")
	sc.Answered(btc, "14")
	sc.Answered(bcc2, "13")
	sc.Answered(bcc2, "12")
}

// The pool is lost and the miner continues at another one. Shares for the lost
// pool's jobs are answered and not given to a pool that can only refuse them. When
// the miner is back at the lost pool, they go to it again.
func TestDrainLostPool(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(impatient)
	sc.Share(btc, "10", "btc-1")
	sc.Pools["btc"].Ln.Close()
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Accept("bcc")
	btc.Close()
	sc.Miner.ExpectLine(lostAnswer("10"))
	sc.Miner.SendLine(shareLine("11", "btc-1")) // this waits for a link
	bcc.SendLine(difficultyLine)
	bcc.SendLine(jobLine("bcc-1", true))
	sc.ExpectWork("bcc-1")
	sc.Miner.ExpectLine(lostAnswer("11"))
	sc.Share(bcc, "12", "bcc-1")
	sc.Miner.SendLine(shareLine("12", "btc-1")) // it has the same id, so it is answered after the first
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

	// If there is no time for late shares, nothing is kept.
	sc.setDrain(0)
	sc.sw.coins.set("alice", "bcc")
	bcc = sc.Accept("bcc")
	again.Close()
	bcc.SendLine(difficultyLine)
	bcc.SendLine(jobLine("bcc-2", true))
	sc.ExpectWork("bcc-2")
}

// A miner is not read while its pool is lost. A share that it has sent meanwhile
// still goes to the former pool of its job, however long that took.
func TestDrainOutlastsAReconnect(t *testing.T) {
	t.Parallel()
	const linger = 300 * time.Millisecond
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.setTiming(func(tm *timing) { impatient(tm); tm.poolHandshake = testWait })
	sc.setDrain(linger)
	bcc := sc.switchTo("bcc", "bcc-1")
	bcc.Close()
	sc.Miner.SendLine(shareLine("20", "btc-1"))
	time.Sleep(3 * linger) // nothing shows that the time is over
	sc.Serve("bcc", "bcc-2")
	btc.ExpectLine(shareLine("20", "btc-1"))
	sc.ExpectWork("bcc-2")
	sc.Answered(btc, "20")
}

// The pool moves to another of its addresses and back. The miner's shares that are
// on their way are not given to the other address.
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
	sc.renew(sc.sw.pools["btc"].addresses[1]) // makes a second link at the backup, like client.reconnect
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

// renew gives the only session a new link, as the sweep does.
func (sc *scene) renew(a *poolAddress) {
	sc.T.Helper()
	sc.sw.eachSession(func(s *Session) {
		if s.phase != phaseRelaying {
			sc.T.Errorf("the session is %s", s.phase)
		}
		s.renew(a)
	})
}

// reopen listens at the pool's address again.
func (sc *scene) reopen(name string) string {
	sc.T.Helper()
	sc.Pools["reopened "+name] = listenScriptedPool(sc.T, sc.Pools[name].Addr())
	return "reopened " + name
}
