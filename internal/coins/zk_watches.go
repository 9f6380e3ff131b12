package coins

import "errors"

// zkWatch is a watch that has not fired yet, so its node should not have changed since
// it was set. If it has, the watch is lost: ZooKeeper drops a watch without a word
// when its owner may not read the node at the moment of a change.
type zkWatch struct {
	// known says that the node's state is known since the watch was set. changed is
	// the transaction that changed the node last, or 0 if there is no node.
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
			return node, err // there is no node to watch
		}
		w, _ = c.arm(path)
	}
	node, err := c.getWatched(path)
	if err != nil {
		c.disarm(path)
	} else {
		c.see(w, node.changed)
	}
	return node, err
}

// watchAbsent sets a watch on a node that may not exist, and reports whether it does.
func (c *zkConn) watchAbsent(path string) (bool, error) {
	w, armed := c.arm(path)
	exists, changed, err := c.exists(path, !armed)
	switch {
	case armed:
		// If the node exists the caller reads it, which shows whether the watch is lost.
	case err != nil:
		c.disarm(path)
	default:
		c.see(w, changed)
	}
	return exists, err
}

// see records the state of a node with a new watch.
func (c *zkConn) see(w *zkWatch, changed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.known, w.changed = true, changed
}

// lost accepts what a read of a watched node gave, and reports whether the watch w is
// lost. It is lost if the node has changed and w has not fired, because events come
// before the answers to later requests. A lost watch is forgotten.
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

// unseeLocked forgets the state of all watched nodes. After a reconnect the client
// sets its watches again, and what has changed meanwhile does not mean that a watch is
// lost.
func (c *zkConn) unseeLocked() {
	for _, w := range c.armed {
		w.known = false
	}
}

// watchesRefused is called if a broker has refused to set the old watches again. All
// are then set anew.
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
