package main

import (
	"testing"
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
