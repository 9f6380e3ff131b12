package coins

import (
	"time"
)

const (
	// zkAuditParts is how many parts an audit has at most, and zkAuditLeastStep is the
	// shortest pause between two parts.
	zkAuditParts     = 300
	zkAuditLeastStep = 10 * time.Millisecond

	// A node that could not be read is read again after zkUnreadFirst. The pause doubles
	// each time up to zkUnreadMost, or up to zkUnreadWaiting if miners wait for the node.
	zkUnreadFirst   = time.Second
	zkUnreadWaiting = 3 * time.Second
	zkUnreadMost    = time.Minute
)

// zkAudit reads all watched nodes again, one part after the other, because watches can
// get lost: ZooKeeper silently drops a watch if the client is not permitted to read the
// node when the node changes. These reads set no watches, because the client would keep
// each of them for ever. Only a node whose watch turns out to be lost gets a new one.
// The audit belongs to the owner.
type zkAudit struct {
	source *ZooKeeper
	step   time.Duration
	// parts hold the sub-accounts with a node. Those that were forgotten are removed
	// when their part is read.
	parts  [][]*zkAccount
	next   int // the part to be read next
	fillAt int // the part to which the next sub-account is added
	// reading counts the reads of the audit that are in progress.
	reading int
	timer   *time.Timer
}

// begin starts the audit. Each part is read once in AuditEvery.
func (d *zkAudit) begin() {
	every := d.source.opts.AuditEvery
	if every <= 0 {
		return
	}
	d.step = max(every/zkAuditParts, zkAuditLeastStep)
	d.parts = make([][]*zkAccount, max(every/d.step, 1))
	d.timer = d.source.after(d.step, d.readPart)
}

// add includes a sub-account from now on.
func (d *zkAudit) add(a *zkAccount) {
	if a.audited || d.parts == nil {
		return
	}
	a.audited = true
	d.parts[d.fillAt] = append(d.parts[d.fillAt], a)
	d.fillAt = (d.fillAt + 1) % len(d.parts)
}

// readPart reads the next part, unless the previous one is still being read.
func (d *zkAudit) readPart() {
	s := d.source
	d.timer = s.after(d.step, d.readPart)
	if !s.connected || d.reading > 0 {
		return
	}
	part := d.parts[d.next]
	kept := part[:0]
	for _, a := range part {
		if s.accounts[a.name] != a {
			continue
		}
		kept = append(kept, a)
		// A node that is being read, that waits to be read again or that is polled
		// because of a registration needs no audit.
		if !a.reading && a.retryTimer == nil && a.registration == nil {
			a.auditing = true
			d.reading++
			s.readCoin(a)
		}
	}
	clear(part[len(kept):])
	d.parts[d.next] = kept
	if d.next = (d.next + 1) % len(d.parts); d.next == 0 {
		s.serverID.check()
	}
}

// readDone counts a read that may have been the audit's.
func (d *zkAudit) readDone(a *zkAccount) {
	if a.auditing {
		a.auditing = false
		d.reading--
	}
}

// watchLost counts a change that no watch has reported. The read that found the change
// handles it as if a watch had reported it.
func (s *ZooKeeper) watchLost(path string) {
	s.missed.Add(1)
	s.lostWatches.add("no watch has reported a change of %s, which was found by reading the node again", path)
}

// readFailed schedules another read of a node that could not be read and that may
// therefore have no watch.
func (s *ZooKeeper) readFailed(a *zkAccount, err error) {
	s.unreadNodes.add("reading %s: %v, trying again", a.path, err)
	if a.retryTimer != nil {
		return
	}
	if a.retryWait == 0 {
		s.unreadable.Add(1)
	}
	a.retryWait = min(max(2*a.retryWait, zkUnreadFirst), zkUnreadMost)
	wait := a.retryWait
	if len(a.waiting) > 0 {
		wait = min(wait, zkUnreadWaiting)
	}
	a.retryTimer = s.after(wait, func() {
		a.retryTimer = nil
		s.readCoinOf(a)
	})
}

// readSucceeded undoes readFailed.
func (s *ZooKeeper) readSucceeded(a *zkAccount) {
	if a.retryWait == 0 {
		return
	}
	a.retryWait = 0
	s.unreadable.Add(-1)
	if a.retryTimer != nil {
		a.retryTimer.Stop()
		a.retryTimer = nil
	}
}
