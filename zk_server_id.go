package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/golang/glog"
)

const (
	zkMaxServerID = 255
	// zkNoFreeIDWait is the pause while all server IDs are taken.
	zkNoFreeIDWait = 3 * time.Second
)

var errNoFreeServerID = fmt.Errorf("all server IDs from 1 to %d are taken", zkMaxServerID)

// zkServerID keeps hold of this process's server ID, an ephemeral node. It
// belongs to the source's owner goroutine.
type zkServerID struct {
	source *zkCoinSource
	// id is what was told to the sink; 0: nothing yet.
	id   uint8
	path string
	// previous is the ID to be had if possible: the one before, or one whose
	// creation was not answered. lastOwner is the session that held it.
	previous  uint8
	lastOwner int64
	busy      bool
	again     bool
	warned    bool
}

// idClaim is what a claim has come to; tried and session also if it failed.
type idClaim struct {
	tried   uint8
	session int64
}

// ServerIDNode gives the node of the server ID held, and the session that owns
// it, for the process that takes it over in an upgrade. The path is empty if
// there is no such node. It may be called from any goroutine.
func (s *zkCoinSource) ServerIDNode() (path string, ephemeralOwner int64) {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	return s.idPath, s.idOwner
}

// check makes sure that the node is there and ours, and claims one if not.
func (n *zkServerID) check() {
	s := n.source
	if s.opts.FixedServerID != 0 || !s.connected {
		return
	}
	if n.busy {
		n.again = true
		return
	}
	n.busy = true
	held, previous, owner := n.id != 0, n.previous, n.lastOwner
	claimer := &idClaimer{conn: s.conn, dir: s.opts.ServerIDDir, value: s.metadata, hostName: s.opts.Metadata.HostName}
	s.do(true, func() func() {
		claim, err := claimer.claim(previous, owner, held)
		return func() { n.claimed(claim, err) }
	})
}

func (n *zkServerID) claimed(claim idClaim, err error) {
	s := n.source
	n.busy = false
	again := n.again
	n.again = false
	if claim.tried != 0 {
		n.previous, n.lastOwner = claim.tried, claim.session
	}
	switch {
	case err == nil:
		n.hold(claim)
		if again {
			n.check()
		}
	case errors.Is(err, errZKAway):
		if s.connected {
			s.after(zkRetryWait, n.check)
		}
	default:
		if !n.warned {
			glog.Warningf("zookeeper: claiming a server ID in %s: %v, trying again", s.opts.ServerIDDir, err)
			n.warned = true
		}
		s.after(zkNoFreeIDWait, n.check)
	}
}

func (n *zkServerID) hold(claim idClaim) {
	s := n.source
	n.warned = false
	n.path = s.opts.ServerIDDir + strconv.Itoa(int(claim.tried))
	s.idMu.Lock()
	s.idPath, s.idOwner = n.path, claim.session
	s.idMu.Unlock()
	if claim.tried == n.id {
		return
	}
	before := n.id
	if before == 0 {
		before = s.opts.PreviousServerID
	}
	if before != 0 && before != claim.tried {
		glog.Errorf("zookeeper: server ID %d was taken by somebody else, this is server %d now", before, claim.tried)
	} else {
		glog.Infof("zookeeper: this is server %d", claim.tried)
	}
	n.id = claim.tried
	s.sink.ServerIDClaimed(n.id)
}

// idClaimer makes the requests of a claim, in a worker.
type idClaimer struct {
	conn     *zkConn
	dir      string
	value    []byte
	hostName string
}

// claim gets hold of an ID: the previous one if there is one and it is free or
// ours, else any. held: this process held it, under the session owner, and
// did not just inherit it.
func (c *idClaimer) claim(previous uint8, owner int64, held bool) (idClaim, error) {
	if previous != 0 {
		claim, err := c.claimPrevious(previous, owner, held)
		if !errors.Is(err, errZKNodeExists) {
			return claim, err
		}
	}
	names, err := c.conn.children(c.dir[:max(len(c.dir)-1, 1)])
	if errors.Is(err, errZKNoNode) {
		err = makeParents(c.conn, c.dir)
	}
	if err != nil {
		return idClaim{}, err
	}
	taken := make(map[string]bool, len(names))
	for _, name := range names {
		taken[name] = true
	}
	// Not from 1 up: an ID that was lost just now may still be in use by the
	// miners of whoever lost it.
	first := rand.IntN(zkMaxServerID)
	for i := range zkMaxServerID {
		id := uint8((first+i)%zkMaxServerID + 1)
		if taken[strconv.Itoa(int(id))] {
			continue
		}
		claim, err := c.create(id)
		if !errors.Is(err, errZKNodeExists) {
			return claim, err
		}
	}
	return idClaim{}, errNoFreeServerID
}

// create makes the node of a free ID and watches it.
func (c *idClaimer) create(id uint8) (idClaim, error) {
	node := c.dir + strconv.Itoa(int(id))
	session := c.conn.sessionID()
	err := c.conn.create(node, c.value, true)
	if errors.Is(err, errZKNoNode) {
		if err = makeParents(c.conn, node); err == nil {
			err = c.conn.create(node, c.value, true)
		}
	}
	if err != nil {
		// Without an answer it may be ours nevertheless.
		if errors.Is(err, errZKAway) {
			return idClaim{tried: id, session: session}, err
		}
		return idClaim{}, err
	}
	return c.watched(id)
}

// watched leaves a watch on a node just created, and sees whose it is.
func (c *idClaimer) watched(id uint8) (idClaim, error) {
	session := c.conn.sessionID()
	node, err := c.conn.watch(c.dir + strconv.Itoa(int(id)))
	if err == nil && node.Owner != session || errors.Is(err, errZKNoNode) {
		err = errZKAway // lost again between two requests: look once more
	}
	return idClaim{tried: id, session: session}, err
}

// claimPrevious gets hold of the ID this process had. It fails with
// errZKNodeExists if the node is somebody else's.
func (c *idClaimer) claimPrevious(id uint8, owner int64, held bool) (idClaim, error) {
	path := c.dir + strconv.Itoa(int(id))
	node, err := c.conn.watch(path)
	if errors.Is(err, errZKNoNode) {
		return c.create(id)
	}
	if err != nil {
		return idClaim{}, err
	}
	session := c.conn.sessionID()
	if node.Owner == session {
		return idClaim{tried: id, session: session}, nil
	}
	if !c.formerlyOurs(node, owner, held) {
		return idClaim{}, errZKNodeExists
	}
	// A node made anew by somebody else in this very moment would have
	// version 0 as well. Raising the version first tells them apart.
	raised, err := c.conn.set(path, node.Value, node.Version)
	if err == nil && raised.Owner != node.Owner {
		err = errZKNodeExists
	}
	if err == nil {
		err = c.conn.replace(path, raised.Version, c.value)
	}
	switch {
	case errors.Is(err, errZKNoNode):
		return c.create(id)
	case errors.Is(err, errZKBadVersion):
		return idClaim{}, errZKAway // look once more
	case err != nil:
		return idClaim{}, err
	}
	return c.watched(id)
}

// formerlyOurs says if a node is what a former session of this process, or
// this process before an upgrade, left.
func (c *idClaimer) formerlyOurs(node zkNode, owner int64, held bool) bool {
	if owner != 0 {
		return node.Owner == owner
	}
	if held || node.Owner == 0 || c.hostName == "" {
		return false
	}
	var content zkMetadata
	return json.Unmarshal(node.Value, &content) == nil && content.HostName == c.hostName
}
