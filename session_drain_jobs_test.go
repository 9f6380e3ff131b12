package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// The pool's link is renewed while the link from before the switch still drains.
// Jobs of the renewed pool's former link belong to that pool.
func TestDrainKeepsJobsOfARenewedPool(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.switchTo("bcc", "bcc-1")
	sc.renew(nil)
	bcc := sc.Serve("bcc", "bcc-2")
	sc.ExpectWork("bcc-2")
	sc.Share(bcc, "10", "bcc-1")
	sc.Share(bcc, "11", "bcc-2")
	sc.Share(btc, "12", "btc-1")
	sc.Answered(bcc, "10")
	sc.Answered(btc, "12")
	sc.Answered(bcc, "11")
}

// The miner goes there, back, and there again. The jobs of the first visit belong
// to the link of the second visit, including those from before the first recorded
// one.
func TestDrainKeepsJobsOfAPoolVisitedTwice(t *testing.T) {
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv")
	sc.VisitTwice(sc.switchTo, func() {})
}

// Both pools give a job the same ID. The miner knows the later job by another ID,
// even when the session is back at the first pool.
func TestDrainSameJobAtAPoolVisitedTwice(t *testing.T) {
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.switchTo("bcc", "bcc-1")
	sc.switchTo("btc", "same")
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Serve("bcc", "same")
	sc.ExpectWork("samea")
	btc := sc.switchTo("btc", "btc-3")
	sc.ShareAs(bcc, "10", "samea", "same")
	sc.Share(btc, "11", "same")
	sc.Share(btc, "12", "btc-3")
	sc.Answered(bcc, "10")
	sc.Answered(btc, "11")
	sc.Answered(btc, "12")
}

// If descriptors are short, a former link is only kept for answers that it owes.
// Shares for its jobs are then answered with an error and not given to the next
// pool.
func TestDrainWithDescriptorsShort(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv")
	sc.sw.setTiming(func(*timing) { sc.sw.fdLimit = 0 })
	sc.Share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(btc, "11", "btc-1")
	sc.Answered(btc, "10")
	sc.Answered(btc, "11")
	btc.ExpectClosed()
	late := func(id, job string) {
		t.Helper()
		sc.Miner.SendLine(shareLine(id, job))
		sc.Miner.ExpectLine(lostAnswer(id))
	}
	late("12", "btc-1")
	bsv := sc.switchTo("bsv", "bsv-1")
	bcc.ExpectClosed()
	late("13", "bcc-1")
	late("14", "btc-1")
	sc.Share(bsv, "15", "bsv-1")
	sc.Answered(bsv, "15")
	if n := sc.sw.draining.Load(); n != 0 {
		t.Errorf("%d links drain, want none", n)
	}
}

// A pool that picks the extranonce gives each connection another one. Shares for jobs
// of a former connection go there, also if the pool is in use again with the same
// jobs, which the miner then knows by other IDs.
func TestDrainPickingPoolInUseAgain(t *testing.T) {
	t.Parallel()
	pools := map[string]*testkit.ScriptedPool{"a": testkit.StartScriptedPool(t), "b": testkit.StartScriptedPool(t)}
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "a"}), nil, func(c *Config) {
		c.ExtraNonce2Size = 3
		c.StratumServerMap = make(map[string]StratumServerInfo)
		for name, p := range pools {
			c.StratumServerMap[name] = StratumServerInfo{URL: p.Addr(), UserSuffix: name, ExtraNonce: extranonceOfPool}
		}
	})
	s := &testkit.PickingScene{T: t, Miner: stratumtest.DialRaw(t, sw.addr)}
	serve := func(pool, p, job, told string) *stratumtest.Raw {
		t.Helper()
		s.Pool = pools[pool].Next()
		s.Handshake(p, 4, nil, []string{difficultyLine, sceneJob(job, "01", "02", true)})
		s.Miner.ExpectLine(difficultyLine)
		s.Miner.ExpectLine(sceneJob(told, "01"+p, "02", true))
		return s.Pool
	}
	share := func(link *stratumtest.Raw, id int, told, job string) {
		t.Helper()
		s.Miner.SendLine(sceneShare(id, told, "aabbcc"))
		link.ExpectLine(sceneShare(id, job, "80aabbcc"))
		link.SendLine(goodAnswer(fmt.Sprint(id)))
		s.Miner.ExpectLine(goodAnswer(fmt.Sprint(id)))
	}
	s.Miner.Send(joinLines(rawSubscribe, rawAuthorize))
	s.Miner.Line(stratumtest.Patience)
	s.Pool = pools["a"].Next()
	s.Handshake("aa", 4, nil, []string{sceneJob("j", "01", "02", true)})
	s.Miner.ExpectLine(goodAnswer("2"))
	s.Miner.ExpectLine(sceneJob("j", "01aa", "02", true))
	first := s.Pool

	sw.coins.set("alice", "b")
	other := serve("b", "bb", "k", "k")
	sw.coins.set("alice", "a")
	second := serve("a", "cc", "j", "ja")
	share(first, 10, "j", "j")
	share(second, 11, "ja", "j")
	share(other, 12, "k", "k")

	second.SendLine(`{"id":null,"method":"client.reconnect","params":[]}`)
	third := serve("a", "dd", "j", "jb")
	share(second, 13, "ja", "j")
	share(third, 14, "jb", "j")
	share(first, 15, "j", "j")

	// The former connection is closed: its shares are stale, and not given to the
	// next one.
	second.Close()
	s.Miner.SendLine(sceneShare(16, "ja", "aabbcc"))
	s.Miner.ExpectLine(staleAnswer("16"))
	share(third, 17, "jb", "j")
}

// Two pools use the empty job ID. Each share reaches the pool of its job, also after the
// second pool has been left.
func TestDrainEmptyJobID(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv")
	btc.SendLine(jobLine("", true))
	sc.Miner.ExpectLine(jobLine("", true))
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Serve("bcc", "")
	sc.ExpectWork("0")
	sc.Share(btc, "10", "")
	sc.ShareAs(bcc, "11", "0", "")
	sc.Answered(bcc, "11")
	sc.Answered(btc, "10")
	bcc.SendLine(jobLine("", false)) // the pool repeats its job
	sc.Miner.ExpectLine(jobLine("0", false))
	bsv := sc.switchTo("bsv", "bsv-1")
	sc.ShareAs(bcc, "12", "0", "")
	sc.Share(btc, "13", "")
	sc.Share(bsv, "14", "bsv-1")
}

// Job IDs that are longer than those of any known pool are remembered too, also if the
// miner comes back to a pool.
func TestDrainLongJobIDs(t *testing.T) {
	t.Parallel()
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc")
	long := func(name string) string { return name + strings.Repeat("-", stratum.MaxJobID+10) }
	bcc := sc.switchTo("bcc", long("bcc-1"))
	btc := sc.switchTo("btc", long("btc-2"))
	sc.Share(bcc, "10", long("bcc-1"))
	sc.Share(btc, "11", long("btc-2"))
	bcc2 := sc.switchTo("bcc", long("bcc-2"))
	sc.Share(btc, "12", long("btc-2"))
	sc.Share(bcc2, "13", long("bcc-1")) // the new link to the same pool takes these
	sc.Share(bcc2, "14", long("bcc-2"))
	sc.Answered(btc, "11")
	sc.Answered(bcc, "10")
	sc.Answered(btc, "12")
	sc.Answered(bcc2, "13")
	sc.Answered(bcc2, "14")
}
