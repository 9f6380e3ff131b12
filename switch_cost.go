package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

// costSpan is how long before and after a change of the coin refused work is
// compared.
const costSpan = time.Minute

// switchRun is one move of a sub-account's miners to another coin, and what it
// costs. It begins with the change of the coin. The cost is reported when all miners
// have moved and costSpan is over, or earlier if the coin changes again or the last
// miner leaves. The log has a line when the switch begins, when the last miner has
// moved, and when the cost is known.
//
// The book's mu guards all fields except late and those that never change.
type switchRun struct {
	from  string
	coin  string
	began time.Time

	moved  int
	failed int           // links
	took   time.Duration // until the last miner had moved; 0 while some have not
	cut    string        // why the switch ended early; empty if it did not

	late [lateEnds]atomic.Uint64 // counted by the loops

	// Work is in units of difficulty. lostBase is the part of the account's counter
	// from before the switch. It is negative if the process before an upgrade has
	// counted a part of the switch.
	lostBefore, lostAfter float64
	lostBase              float64
	before, after         time.Duration // the time that lostBefore and lostAfter cover; after is 0 until lostAfter is known

	timer *time.Timer // runs until costSpan is over
}

// lateEnd says what became of a late share. A late share was sent after the miner's
// switch, for a job of the former pool.
type lateEnd uint8

const (
	lateFormerAccepted lateEnd = iota
	lateFormerRefused
	lateNewAccepted // by the new pool, which was given it because no link to the former one is left
	lateNewRefused
	lateLost       // its connection ended before the answer
	lateUnanswered // some pools do not answer agents' shares
	lateEnds
)

// lateEndNames are used in metrics and events. lateEndTexts follow a number in
// sentences.
var (
	lateEndNames = [lateEnds]string{"former_accepted", "former_refused", "new_accepted", "new_refused", "lost", "unanswered"}
	lateEndTexts = [lateEnds]string{
		"accepted by the former pool", "refused by the former pool", "accepted by the new pool", "refused by the new pool",
		"lost with a connection", "without an answer",
	}
)

func (e lateEnd) String() string { return lateEndNames[e] }

// lateShare marks an unanswered share as late. The other seven bits are the
// generation of the difficulty of its job.
const lateShare hashrate.Generation = 1 << 7

// countLate counts what became of a late share. Shares for a former link to the same
// coin are not late in this sense, because they are not part of a switch's cost.
func (s *Session) countLate(end lateEnd) {
	if r := s.account.costing.Load(); r != nil {
		r.late[end].Add(1)
	}
}

// countLateAnswer is countLate for a share that the pool of a link has answered.
func (s *Session) countLateAnswer(from *link, accepted bool) {
	end := lateFormerRefused
	if from == s.link {
		end = lateNewRefused
	}
	if accepted {
		end--
	}
	s.countLate(end)
}

// countLateLost is countLate for a request that its link will not answer any more,
// if the request is a late share.
func (s *Session) countLateLost(generation hashrate.Generation, share bool) {
	if share && generation&lateShare != 0 {
		s.countLate(lateLost)
	}
}

// countsLate reports whether shares may be late, so that the job of each share has
// to be looked up. It is true for a minute after a switch.
func (s *Session) countsLate() bool {
	return s.account.costing.Load() != nil && s.link.tag != firstTag && !s.link.restJobs
}

// lateMark returns the mark of a share that goes to a former link: lateShare if the
// link is to another pool, otherwise 0.
func (s *Session) lateMark(to *link) hashrate.Generation {
	if to.pool == s.link.pool {
		return 0
	}
	return lateShare
}

// beginRun begins a switch. b.mu is held.
func (b *accountBook) beginRun(a *subAccount, from, coin string) {
	r := &switchRun{from: from, coin: coin, began: time.Now()}
	r.lostBefore, r.before = b.rates.lostBefore(a.name)
	r.lostBase = a.shares.Totals().LostWork()
	a.lastSwitch, a.run = r.began, r
	b.follow(a, r)
}

// follow counts what a switch costs until its time is over. b.mu is held.
func (b *accountBook) follow(a *subAccount, r *switchRun) {
	a.costing.Store(r)
	r.timer = time.AfterFunc(time.Until(r.began.Add(b.span)), func() { b.spanOver(a, r) })
}

// spanOver records the work that was refused since a switch began.
func (b *accountBook) spanOver(a *subAccount, r *switchRun) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.costing.Load() != r || b.handedOver {
		return
	}
	b.noteLost(a, r, b.span)
	if a.run != r {
		b.endCost(a)
	}
}

// noteLost records the work refused since the switch began, unless that has been
// recorded. after is how long ago it began. b.mu is held.
func (b *accountBook) noteLost(a *subAccount, r *switchRun, after time.Duration) {
	if r.after == 0 {
		r.after, r.lostAfter = after, max(0, a.shares.Totals().LostWork()-r.lostBase)
	}
}

// cutRun ends the account's switch early and reports its cost. It is a no-op if the
// cost has been reported. b.mu is held.
func (b *accountBook) cutRun(a *subAccount, why string) {
	r := a.costing.Load()
	if r == nil {
		return
	}
	r.cut = why
	a.run = nil
	b.noteLost(a, r, max(1, min(time.Since(r.began), b.span)))
	b.endCost(a)
}

// endCost reports what a switch has cost. b.mu is held.
func (b *accountBook) endCost(a *subAccount) {
	r := a.costing.Swap(nil)
	r.timer.Stop()
	c := r.cost()
	glog.V(1).Infof("switch account=%q from=%q to=%q miners=%d failed_links=%d ms=%s late=%d%s refused_work_before=%s refused_work_after=%s seconds_before=%.0f seconds_after=%.0f: cost%s",
		a.name, r.from, r.coin, r.moved, r.failed, r.milliseconds(), c.lateShares(), c.lateFields(),
		hashrate.FormatWork(c.lostBefore), hashrate.FormatWork(c.lostAfter), r.before.Seconds(), r.after.Seconds(), c.cutText())
	b.monitor.switchCost(a.name, c)
}

// milliseconds returns how long it took until the last miner had moved, or "-".
func (r *switchRun) milliseconds() string {
	if r.took == 0 {
		return "-"
	}
	return fmt.Sprint(r.took.Milliseconds())
}

// switchCost is the reported cost of a switch. Work is in hashes.
type switchCost struct {
	*switchRun
	lateCounts            [lateEnds]uint64
	lostBefore, lostAfter float64
}

func (r *switchRun) cost() *switchCost {
	c := &switchCost{switchRun: r, lostBefore: r.lostBefore * float64(hashrate.UnitBitcoin), lostAfter: r.lostAfter * float64(hashrate.UnitBitcoin)}
	for end := range r.late {
		c.lateCounts[end] = r.late[end].Load()
	}
	return c
}

func (c *switchCost) lateShares() (n uint64) {
	for _, count := range c.lateCounts {
		n += count
	}
	return n
}

// lateFields returns the late shares by their ends, as fields of a log line.
func (c *switchCost) lateFields() string {
	var b strings.Builder
	for end, n := range c.lateCounts {
		if n > 0 {
			fmt.Fprintf(&b, " late_%s=%d", lateEnd(end), n)
		}
	}
	return b.String()
}

func (c *switchCost) cutText() string {
	if c.cut == "" {
		return ""
	}
	return ", " + c.cut
}

// movedText describes how many miners have moved, and in what time.
func (r *switchRun) movedText() string {
	text := countMiners(r.moved) + " moved"
	if r.took > 0 {
		text += fmt.Sprintf(" in %d ms", r.took.Milliseconds())
	}
	if r.failed > 0 {
		text += ", " + countOf(r.failed, "link") + " failed meanwhile"
	}
	return text
}

// text describes the cost in words.
func (c *switchCost) text() string {
	var b strings.Builder
	b.WriteString(c.movedText())
	if c.cut != "" {
		b.WriteString(", then " + c.cut)
	}
	if c.lateShares() == 0 {
		b.WriteString("; no late shares")
	} else {
		b.WriteString("; late shares: ")
		first := true
		for end, n := range c.lateCounts {
			if n == 0 {
				continue
			}
			if !first {
				b.WriteString(", ")
			}
			first = false
			fmt.Fprintf(&b, "%d %s", n, lateEndTexts[end])
		}
	}
	fmt.Fprintf(&b, "; refused work: %s in the %s after, %s in the %s before",
		hashrate.FormatWork(c.lostAfter), spanText(c.after), hashrate.FormatWork(c.lostBefore), spanText(c.before))
	return b.String()
}

func spanText(d time.Duration) string {
	if d == costSpan {
		return "minute"
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// switchState is a switchRun in runtime.json.
type switchState struct {
	From, Coin    string
	Age           time.Duration // since the coin changed
	Took          time.Duration `json:",omitempty"`
	Moved, Failed int
	Late          []uint64      // by lateEnd
	LostBefore    float64       // in units of difficulty
	Before        time.Duration // the time that LostBefore covers
	LostAfter     float64       // over the time After or, if that is 0, until the state was written
	After         time.Duration `json:",omitempty"`
}

// sound reports whether the values from a state file are possible.
func (st *switchState) sound() bool {
	return min(st.Age, st.Took, st.Before, st.After) >= 0 && min(st.Moved, st.Failed) >= 0 && min(st.LostBefore, st.LostAfter) >= 0
}

// switches describes, for the next process, the switches whose cost has not been
// reported. This process reports no more costs unless resumeCosts is called.
func (b *accountBook) switches() map[string]switchState {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handedOver = true
	all := make(map[string]switchState)
	for name, a := range b.accounts {
		r := a.costing.Load()
		if r == nil {
			continue
		}
		st := switchState{
			From: r.from, Coin: r.coin, Age: time.Since(r.began), Took: r.took, Moved: r.moved, Failed: r.failed,
			LostBefore: r.lostBefore, Before: r.before, LostAfter: r.lostAfter, After: r.after,
		}
		if r.after == 0 {
			st.LostAfter = max(0, a.shares.Totals().LostWork()-r.lostBase)
		}
		for end := range r.late {
			st.Late = append(st.Late, r.late[end].Load())
		}
		all[name] = st
	}
	return all
}

// resumeCosts makes this process report costs again, because the upgrade was undone.
func (b *accountBook) resumeCosts() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handedOver = false
	for _, a := range b.accounts {
		if r := a.costing.Load(); r != nil && r.after == 0 {
			r.timer.Reset(max(0, time.Until(r.began.Add(b.span))))
		}
	}
}

// resumeSwitches continues the switches of the former process, whose miners have
// been taken over. pause is how long ago that process stopped.
func (b *accountBook) resumeSwitches(all map[string]switchState, pools map[string]*pool, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, st := range all {
		a := b.accounts[name]
		if a == nil || !st.sound() || a.costing.Load() != nil {
			continue
		}
		r := &switchRun{
			from: st.From, coin: st.Coin, began: time.Now().Add(-min(st.Age, absentKept) - max(0, pause)), moved: st.Moved, failed: st.Failed,
			took: st.Took, lostBefore: st.LostBefore, before: st.Before, lostAfter: st.LostAfter, after: st.After,
		}
		r.lostBase = a.shares.Totals().LostWork() - st.LostAfter
		for end, n := range st.Late[:min(len(st.Late), int(lateEnds))] {
			r.late[end].Store(n)
		}
		b.follow(a, r)
		switch {
		case r.took > 0:
		case pools[r.coin] == nil || a.wanted != r.coin:
			b.cutRun(a, "the configuration changed")
		default:
			a.run = r
			b.finishRun(a)
		}
	}
}

// underWay reports whether k is the event of a switch that has not ended.
func (b *accountBook) underWay(k journal.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[k.Account]
	return a != nil && a.run != nil && a.run.key(k.Account) == k
}
