package coins

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

const (
	zkMaxServerID = 255
	// zkNoFreeIDWait is the pause while all server IDs are taken.
	zkNoFreeIDWait = 3 * time.Second
	// zkTakenEvery is how often it is logged that another process holds a fixed ID.
	zkTakenEvery = 10 * time.Minute
	// zkMaxClaims bounds the sessions that are remembered for an upgrade because they may
	// own the node of the server ID.
	zkMaxClaims = 8
)

// zkServerID claims and keeps this process's server ID, which is an ephemeral node. It
// belongs to the owner.
type zkServerID struct {
	source *ZooKeeper
	// id is the ID that the sink was given, or 0 if it has not been given any.
	id   uint8
	path string
	// previous is the ID that is claimed first: the last one held, or one whose
	// creation was not answered. lastOwner is the session that held it.
	previous   uint8
	lastOwner  int64
	busy       bool // a claim is being made
	checkAgain bool // check has to be called once more after the claim
	warned     bool
	timer      *time.Timer // calls check

	// The fields below are for a fixed ID, which is used even if its node cannot be
	// claimed.

	// owned means that the node is ours.
	owned bool
	// takenSince is when another process was first found to have the node, and
	// takenLogged is when that was last logged.
	takenSince, takenLogged time.Time
	refusedWait             time.Duration
}

// ServerIDNode returns the node of this process's server ID and the session that owns
// it, for the process that takes it over in an upgrade. The path is empty if there is
// no such node. Any goroutine may call it.
func (s *ZooKeeper) ServerIDNode() (path string, ephemeralOwner int64) {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	return s.idPath, s.idOwner
}

// PassServerIDOn returns the session that owns the server ID's node, or 0 if it is not
// known, and the sessions that may own it too, because it is not known how their claims
// have ended. The process that follows in an upgrade may take the node over from any of
// them. No claim begins after that, until KeepServerID. Any goroutine may call it.
func (s *ZooKeeper) PassServerIDOn() (owner int64, claims []int64) {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	s.idPassedOn = true
	return s.idOwner, slices.Clone(s.idClaims)
}

// KeepServerID undoes PassServerIDOn, because there was no upgrade. Any goroutine may
// call it.
func (s *ZooKeeper) KeepServerID() {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	s.idPassedOn = false
}

// mayClaim reports whether a request may be sent that makes session the owner of a
// server ID's node. The session is remembered until it is known who owns the node.
func (s *ZooKeeper) mayClaim(session int64) bool {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	if s.idPassedOn {
		return false
	}
	if !slices.Contains(s.idClaims, session) {
		// The sessions of the oldest claims have expired.
		s.idClaims = append(s.idClaims[max(0, len(s.idClaims)-zkMaxClaims+1):], session)
	}
	return true
}

// begin reports a fixed ID at once. Its node is claimed later.
func (n *zkServerID) begin() {
	s := n.source
	id := s.opts.FixedServerID
	if id == 0 {
		return
	}
	if n.previous != id {
		n.previous, n.lastOwner = id, 0
	}
	n.id = id
	if s.opts.ServerIDDir != "" {
		n.path = s.opts.ServerIDDir + strconv.Itoa(int(id))
	}
	s.sink.ServerIDClaimed(id)
}

// check claims a node unless this process has one.
func (n *zkServerID) check() {
	s := n.source
	fixed := s.opts.FixedServerID != 0
	if !s.connected || fixed && n.path == "" {
		return
	}
	if n.busy {
		n.checkAgain = true
		return
	}
	n.busy = true
	// A fixed ID is reported even if its node is not ours.
	held, previous, owner := n.id != 0 && !fixed || n.owned, n.previous, n.lastOwner
	claimer := &idClaimer{conn: s.conn, dir: s.opts.ServerIDDir, value: s.metadata, hostName: s.opts.Metadata.HostName,
		passedOn: s.opts.PreviousClaims, mayClaim: s.mayClaim}
	if fixed {
		// Only an upgrade may take over the node of another process.
		held = held || s.opts.PreviousServerID != s.opts.FixedServerID
		claimer.listenAddr = s.opts.Metadata.ListenAddr
	}
	s.do(true, func() func() {
		var claim idClaim
		var err error
		if fixed {
			claim, err = claimer.claimPrevious(previous, owner, held)
		} else {
			claim, err = claimer.claim(previous, owner, held)
		}
		return func() { n.claimed(claim, err) }
	})
}

// checkLater calls check after a pause.
func (n *zkServerID) checkLater(wait time.Duration) {
	if n.timer != nil {
		n.timer.Stop()
	}
	n.timer = n.source.after(wait, n.check)
}

func (n *zkServerID) claimed(claim idClaim, err error) {
	s := n.source
	n.busy = false
	checkAgain := n.checkAgain
	n.checkAgain = false
	if claim.tried != 0 {
		n.previous, n.lastOwner = claim.tried, claim.session
	}
	switch {
	case err == nil:
		n.hold(claim)
	case errors.Is(err, errZKUnavailable):
		if s.connected {
			n.checkLater(zkRetryWait)
		}
	case s.opts.FixedServerID == 0:
		if !n.warned {
			glog.Warningf("zookeeper: claiming a server ID in %s: %v, trying again", s.opts.ServerIDDir, err)
			n.warned = true
		}
		n.checkLater(zkNoFreeIDWait)
	case errors.Is(err, errZKNodeExists):
		n.heldByOther(claim.holder)
	default:
		if !n.warned {
			glog.Warningf("zookeeper: server ID %d is used without being claimed, so that others may take it too: %s: %v", n.id, n.path, err)
			n.warned = true
		}
		n.refusedWait = min(max(2*n.refusedWait, zkNoFreeIDWait), zkUnreadMost)
		n.checkLater(n.refusedWait)
	}
	if checkAgain {
		n.check()
	}
}

// heldByOther handles the case that another process has a fixed ID's node. A process
// that has ended may have left it behind. ZooKeeper deletes such a node within the
// session timeout, so nothing is logged before that.
func (n *zkServerID) heldByOther(holder zkNode) {
	s := n.source
	n.disown()
	if holder.changed == 0 {
		n.checkLater(zkRetryWait) // the node was created just now and has not been read
		return
	}
	now := time.Now()
	if n.takenSince.IsZero() {
		n.takenSince = now
	}
	// ZooKeeper looks for expired sessions at intervals, twice in the shortest session
	// timeout that it grants.
	timeout := s.conn.sessionTimeout()
	if wait := n.takenSince.Add(timeout + max(timeout/10, min(timeout/2, 2*time.Second))).Sub(now); wait > 0 {
		n.checkLater(wait)
		return
	}
	s.idTaken.Store(true)
	if now.Sub(n.takenLogged) >= zkTakenEvery {
		n.takenLogged = now
		s.limitedLog.Errorf("server ID held by others", "zookeeper: server ID %d is held by somebody else, %s: miners of both are given the same extranonces, "+
			"give one of them another ServerID", n.id, describeHolder(holder))
	}
	n.checkLater(zkTakenEvery)
}

// describeHolder describes the process that has a server ID's node, as far as the node
// contains it.
func describeHolder(holder zkNode) string {
	if holder.Owner == 0 {
		return "whose node is not ephemeral: it was made by hand, and is to be deleted if nobody else uses the ID"
	}
	var content Metadata
	if json.Unmarshal(holder.Value, &content) != nil {
		return fmt.Sprintf("session 0x%x", holder.Owner)
	}
	return fmt.Sprintf("host %q listening at %q, session 0x%x", journal.Clip(content.HostName, journal.MaxField),
		journal.Clip(content.ListenAddr, journal.MaxField), holder.Owner)
}

// disown records that the node is not ours.
func (n *zkServerID) disown() {
	s := n.source
	n.owned = false
	s.idMu.Lock()
	s.idPath, s.idOwner, s.idClaims = "", 0, nil
	s.idMu.Unlock()
}

// hold records a successful claim and reports the ID if it is another one than before.
func (n *zkServerID) hold(claim idClaim) {
	s := n.source
	n.warned, n.refusedWait = false, 0
	n.path = s.opts.ServerIDDir + strconv.Itoa(int(claim.tried))
	s.idMu.Lock()
	s.idPath, s.idOwner, s.idClaims = n.path, claim.session, nil
	s.idMu.Unlock()
	if s.opts.FixedServerID != 0 {
		if s.idTaken.Swap(false) {
			s.limitedLog.Infof("server ID held by nobody", "zookeeper: server ID %d is held by nobody else any more", n.id)
		}
		if !n.owned {
			glog.V(1).Infof("zookeeper: server ID %d is claimed", n.id)
		}
		n.owned, n.takenSince, n.takenLogged = true, time.Time{}, time.Time{}
	}
	if claim.tried == n.id {
		return
	}
	before := n.id
	if before == 0 {
		before = s.opts.PreviousServerID
	}
	if before != 0 && before != claim.tried {
		s.limitedLog.Errorf("server ID taken", "zookeeper: server ID %d was taken by somebody else, this is server %d now", before, claim.tried)
	} else {
		s.limitedLog.Infof("server ID claimed", "zookeeper: this is server %d", claim.tried)
	}
	n.id = claim.tried
	s.sink.ServerIDClaimed(n.id)
}
