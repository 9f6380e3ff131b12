package coins

import (
	"time"
)

const (
	// zkAuditParts is how many parts an audit has at most.
	zkAuditParts     = 300
	zkAuditLeastStep = 10 * time.Millisecond

	// A node that could not be read is tried again after zkUnreadFirst, then
	// after twice that, up to zkUnreadMost; where miners wait for it, after
	// zkUnreadWaiting at most.
	zkUnreadFirst   = time.Second
	zkUnreadWaiting = 3 * time.Second
	zkUnreadMost    = time.Minute
)

// zkAudit reads all watched nodes again, one part after the other, for watches
// can get lost: ZooKeeper drops a watch unheard if its owner may not read the
// node at the moment of a change. No watch is set for that, as the client keeps
// each one for ever; only a node whose watch is found lost gets a new one. It
// belongs to the source's owner goroutine.
type zkAudit struct {
	source *ZooKeeper
	step   time.Duration
	// parts have the sub-accounts with a node. Those that are forgotten leave
	// when their part is next.
	parts [][]*zkAccount
	next  int // part to be read
	put   int // part for the next sub-account that is new
	// reading counts the audit's reads that have not come back.
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

// add has a sub-account audited from now on.
func (d *zkAudit) add(a *zkAccount) {
	if a.audited || d.parts == nil {
		return
	}
	a.audited = true
	d.parts[d.put] = append(d.parts[d.put], a)
	d.put = (d.put + 1) % len(d.parts)
}

// readPart reads one part, unless the broker has not answered the one before.
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
		// Those that are being read or tried again, or polled because of their
		// registration, need no audit.
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

// readDone takes note of a read that may have been the audit's.
func (d *zkAudit) readDone(a *zkAccount) {
	if a.auditing {
		a.auditing = false
		d.reading--
	}
}

// watchLost counts a change that no watch told. It has been read, and what it
// asks for is done as if a watch had told.
func (s *ZooKeeper) watchLost(path string) {
	s.missed.Add(1)
	s.lostWatches.add("no watch told that %s has changed, it was found by reading it again", path)
}

// unreadable has a node that could not be read, and so may have no watch,
// tried again.
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

// readable ends the trying.
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
