package coins

import (
	"time"
)

const (
	// zkAuditParts is the most parts that an audit has.
	zkAuditParts     = 300
	zkAuditLeastStep = 10 * time.Millisecond

	// A node that could not be read is read again after zkUnreadFirst. The pause
	// doubles each time up to zkUnreadMost, or up to zkUnreadWaiting if miners wait
	// for the node.
	zkUnreadFirst   = time.Second
	zkUnreadWaiting = 3 * time.Second
	zkUnreadMost    = time.Minute
)

// zkAudit reads all watched nodes again, one part after the other, because watches can
// get lost: ZooKeeper drops a watch without a word if its owner may not read the node
// at the moment of a change. These reads set no watches, as the client keeps each one
// for ever. Only a node whose watch turns out to be lost gets a new one. The audit
// belongs to the owner.
type zkAudit struct {
	source *ZooKeeper
	step   time.Duration
	// parts hold the sub-accounts with a node. Those that were forgotten are removed
	// when it is their part's turn.
	parts [][]*zkAccount
	next  int // the part to be read next
	put   int // the part to which the next sub-account is added
	// reading counts the audit's reads that are under way.
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
	d.parts[d.put] = append(d.parts[d.put], a)
	d.put = (d.put + 1) % len(d.parts)
}

// readPart reads the next part, unless the previous one has not been answered.
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
		if !a.reading && a.unread == nil && a.registration == nil {
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

// watchLost counts a change that no watch reported. The node was read, and the change
// is handled as if a watch had reported it.
func (s *ZooKeeper) watchLost(path string) {
	s.missed.Add(1)
	s.lostWatches.add("no watch told that %s has changed, it was found by reading it again", path)
}

// unreadable has a node read again later. It could not be read, so it may have no
// watch.
func (s *ZooKeeper) unreadable(a *zkAccount, err error) {
	s.unreadNodes.add("reading %s: %v, trying again", a.path, err)
	if a.unread != nil {
		return
	}
	if a.unreadWait == 0 {
		s.unread.Add(1)
	}
	a.unreadWait = min(max(2*a.unreadWait, zkUnreadFirst), zkUnreadMost)
	wait := a.unreadWait
	if len(a.waiting) > 0 {
		wait = min(wait, zkUnreadWaiting)
	}
	a.unread = s.after(wait, func() {
		a.unread = nil
		s.readCoinOf(a)
	})
}

// readable ends what unreadable began.
func (s *ZooKeeper) readable(a *zkAccount) {
	if a.unreadWait == 0 {
		return
	}
	a.unreadWait = 0
	s.unread.Add(-1)
	if a.unread != nil {
		a.unread.Stop()
		a.unread = nil
	}
}
