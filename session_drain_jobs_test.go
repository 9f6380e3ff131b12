package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// The pool's link is renewed while the one before the switch still drains: jobs
// of the renewed pool's former link are that pool's.
func TestDrainKeepsJobsOfARenewedPool(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.switchTo("bcc", "bcc-1")
	sc.renew(nil)
	bcc := sc.serve("bcc", "bcc-2")
	sc.expectWork("bcc-2")
	sc.share(bcc, "10", "bcc-1")
	sc.share(bcc, "11", "bcc-2")
	sc.share(btc, "12", "btc-1")
	sc.answered(bcc, "10")
	sc.answered(btc, "12")
	sc.answered(bcc, "11")
}

// There and back and on again: the jobs of the first visit go with the second
// one's link, also those from before anything was noted.
func TestDrainKeepsJobsOfAPoolVisitedTwice(t *testing.T) {
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv")
	sc.visitTwice(sc.switchTo, func() {})
}

// visitTwice moves the miner from btc to bcc, back, and on to bsv, with shares
// for jobs of all links. between is called after each move.
func (sc *scene) visitTwice(move func(name, job string) *stratumtest.Raw, between func()) {
	sc.t.Helper()
	bcc := move("bcc", "bcc-1")
	between()
	btc := move("btc", "btc-2")
	between()
	sc.share(btc, "10", "btc-1")
	sc.share(bcc, "11", "bcc-1")
	bsv := move("bsv", "bsv-1")
	between()
	sc.share(btc, "12", "btc-1")
	sc.share(btc, "13", "btc-2")
	sc.share(bcc, "14", "bcc-1")
	sc.share(bsv, "15", "bsv-1")
	for id, link := range map[string]*stratumtest.Raw{"10": btc, "11": bcc, "12": btc, "13": btc, "14": bcc, "15": bsv} {
		sc.answered(link, id)
	}
}

// Both pools give a job the same ID: the miner knows the later one's by another,
// also when the session is back at the first.
func TestDrainSameJobAtAPoolVisitedTwice(t *testing.T) {
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.switchTo("bcc", "bcc-1")
	sc.switchTo("btc", "same")
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.serve("bcc", "same")
	sc.expectWork("samea")
	btc := sc.switchTo("btc", "btc-3")
	sc.shareAs(bcc, "10", "samea", "same")
	sc.share(btc, "11", "same")
	sc.share(btc, "12", "btc-3")
	sc.answered(bcc, "10")
	sc.answered(btc, "11")
	sc.answered(btc, "12")
}

// With descriptors short a former link stays only for answers that are owed.
// Shares for its jobs are answered with an error then, not given to the next
// pool.
func TestDrainWithDescriptorsShort(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc", "bsv")
	sc.sw.setTiming(func(*timing) { sc.sw.fdLimit = 0 })
	sc.share(btc, "10", "btc-1")
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.share(btc, "11", "btc-1")
	sc.answered(btc, "10")
	sc.answered(btc, "11")
	btc.ExpectClosed()
	late := func(id, job string) {
		t.Helper()
		sc.miner.SendLine(shareLine(id, job))
		sc.miner.ExpectLine(lostAnswer(id))
	}
	late("12", "btc-1")
	bsv := sc.switchTo("bsv", "bsv-1")
	bcc.ExpectClosed()
	late("13", "bcc-1")
	late("14", "btc-1")
	sc.share(bsv, "15", "bsv-1")
	sc.answered(bsv, "15")
	if n := sc.sw.draining.Load(); n != 0 {
		t.Errorf("%d links drain", n)
	}
}
