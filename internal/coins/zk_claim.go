package coins

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
)

// The requests of a claim: how a node for a server ID is found, created or taken over.
// When to claim is decided in zk_server_id.go.

// idClaimer makes the requests of a claim, in a worker.
type idClaimer struct {
	conn     *zkConn
	dir      string
	value    []byte
	hostName string
	// listenAddr must be the same in a node that is ours, like the host's name. It is
	// ignored if it is empty.
	listenAddr string
	// passedOn are sessions of former processes that may own the node.
	passedOn []int64
	// mayClaim is asked before a request that makes the session the owner of a node.
	mayClaim func(session int64) bool
}

var errNoFreeServerID = fmt.Errorf("all server IDs from 1 to %d are taken", zkMaxServerID)

// idClaim is the result of a claim. tried and session may be set even if it failed.
type idClaim struct {
	tried   uint8
	session int64
	// holder is the existing node if the claim has failed with errZKNodeExists. It is
	// zero if it could not be read.
	holder zkNode
}

// claim claims the previous ID if there is one and its node is free or ours, otherwise
// any other ID. held means that this process itself held the previous ID, in the session
// owner, and did not take it over in an upgrade.
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
	// The search does not begin at 1, because an ID that another process has just lost
	// may still be in use by its miners.
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
	if !c.mayClaim(session) {
		return idClaim{}, errZKUnavailable
	}
	err := c.conn.create(node, c.value, true)
	if errors.Is(err, errZKNoNode) {
		if err = makeParents(c.conn, node); err == nil {
			err = c.conn.create(node, c.value, true)
		}
	}
	if err != nil {
		// The node may exist although the answer was lost.
		if errors.Is(err, errZKUnavailable) {
			return idClaim{tried: id, session: session}, err
		}
		return idClaim{}, err
	}
	return c.watched(id)
}

// watched sets a watch on a node that was just created, and checks that it is ours.
func (c *idClaimer) watched(id uint8) (idClaim, error) {
	session := c.conn.sessionID()
	node, err := c.conn.watch(c.dir + strconv.Itoa(int(id)))
	if err == nil && node.Owner != session || errors.Is(err, errZKNoNode) {
		err = errZKUnavailable // the node was lost between the two requests, so it is claimed again
	}
	return idClaim{tried: id, session: session}, err
}

// claimPrevious claims the ID that this process had. It fails with errZKNodeExists if
// another process has the node.
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
		return idClaim{holder: node}, errZKNodeExists
	}
	// If another process replaces the node at this moment, its node has version 0 as
	// well. Raising the version first makes them different.
	raised, err := c.conn.set(path, node.Value, node.Version)
	if err == nil && raised.Owner != node.Owner {
		err = errZKNodeExists
	}
	if err == nil && !c.mayClaim(session) {
		err = errZKUnavailable
	}
	if err == nil {
		err = c.conn.replace(path, raised.Version, c.value)
	}
	switch {
	case errors.Is(err, errZKNoNode):
		return c.create(id)
	case errors.Is(err, errZKBadVersion):
		return idClaim{}, errZKUnavailable // the ID is claimed again
	case err != nil:
		return idClaim{}, err
	}
	return c.watched(id)
}

// formerlyOurs reports whether the node was left behind by an earlier session of this
// process, or by this process before an upgrade.
func (c *idClaimer) formerlyOurs(node zkNode, owner int64, held bool) bool {
	if slices.Contains(c.passedOn, node.Owner) {
		return true
	}
	if owner != 0 {
		return node.Owner == owner
	}
	if held || node.Owner == 0 || c.hostName == "" {
		return false
	}
	var content Metadata
	return json.Unmarshal(node.Value, &content) == nil && content.HostName == c.hostName &&
		(c.listenAddr == "" || content.ListenAddr == c.listenAddr)
}
