package coins

import "errors"

// zkWatch is a watch that has not fired yet, so its node should not have changed since
// the watch was set. If the node has changed, the watch is lost: ZooKeeper silently
// drops a watch if the client is not permitted to read the node when the node changes.
type zkWatch struct {
	// known means that the node's state has been read since the watch was set. changed
	// is the transaction that changed the node last, or 0 if there is no node.
	known   bool
	changed int64
}

// watch reads a node and sets a watch on it. It sets none if the node does not exist.
// Only one goroutine at a time may watch a path.
func (c *zkConn) watch(path string) (zkNode, error) {
	w, armed := c.arm(path)
	if armed {
		node, err := c.get(path)
		if !c.lost(path, w, node, err) {
			return node, err
		}
		if err != nil {
			return node, err // there is no node that could be watched
		}
		w, _ = c.arm(path)
	}
	node, err := c.getWatched(path)
	if err != nil {
		c.disarm(path)
	} else {
		c.recordState(w, node.changed)
	}
	return node, err
}

// watchAbsent sets a watch on a node that may not exist, and reports whether it does.
func (c *zkConn) watchAbsent(path string) (bool, error) {
	w, armed := c.arm(path)
	exists, changed, err := c.exists(path, !armed)
	switch {
	case armed:
		// If the node exists, the caller reads it and finds out whether the watch is lost.
	case err != nil:
		c.disarm(path)
	default:
		c.recordState(w, changed)
	}
	return exists, err
}

// recordState records the state of a node with a new watch.
func (c *zkConn) recordState(w *zkWatch, changed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.known, w.changed = true, changed
}

// lost compares the result of reading a watched node with the state recorded for the
// watch w, and reports whether w is lost. It is lost if the node has changed and w has
// not fired, because events arrive before the answers to later requests. A lost watch
// is forgotten.
func (c *zkConn) lost(path string, w *zkWatch, node zkNode, err error) bool {
	if err != nil && !errors.Is(err, errZKNoNode) {
		return false
	}
	c.mu.Lock()
	if c.armed[path] != w {
		c.mu.Unlock()
		return false
	}
	if !w.known || w.changed == node.changed {
		w.known, w.changed = true, node.changed
		c.mu.Unlock()
		return false
	}
	delete(c.armed, path)
	c.mu.Unlock()
	c.onEvent(zkEvent{kind: zkWatchLost, path: path})
	return true
}

func (c *zkConn) watchCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.armed)
}

// arm records that a path is watched from now on, and reports whether it was before.
func (c *zkConn) arm(path string) (w *zkWatch, before bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, before = c.armed[path]
	if !before {
		w = &zkWatch{}
		c.armed[path] = w
	}
	return w, before
}

// disarm forgets the watch on a path, and reports whether there was one.
func (c *zkConn) disarm(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, was := c.armed[path]
	delete(c.armed, path)
	return was
}

// forgetStatesLocked forgets the states of all watched nodes. After a reconnect the
// client sets its watches again, so a change in the meantime does not mean that a watch
// is lost.
func (c *zkConn) forgetStatesLocked() {
	for _, w := range c.armed {
		w.known = false
	}
}

// watchesRefused is called if a broker has refused to set the old watches again. The
// owner then sets new watches on all nodes.
func (c *zkConn) watchesRefused() {
	c.mu.Lock()
	session := c.session
	if session {
		clear(c.armed)
	}
	c.mu.Unlock()
	if session {
		c.onEvent(zkEvent{kind: zkConnected})
	}
}
