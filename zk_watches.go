package main

import "errors"

// zkWatch is a watch that did not fire yet. The node can not have changed since
// it was set; if it has, the watch is lost: ZooKeeper drops it unheard when its
// owner may not read the node at the moment of the change.
type zkWatch struct {
	// known says that the node's state at the watch is known: changed is the
	// transaction that changed it last, 0 if there is no node.
	known   bool
	changed int64
}

// watch reads a node and leaves a watch on it. There is no watch if there is
// no such node. One goroutine at a time may watch the same path.
func (c *zkConn) watch(path string) (zkNode, error) {
	w, armed := c.arm(path)
	if armed {
		node, err := c.get(path)
		if !c.lost(path, w, node, err) {
			return node, err
		}
		if err != nil {
			return node, err // without a node there is nothing to watch
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

// watchAbsent leaves a watch on a node that may not be there, and says if it is.
func (c *zkConn) watchAbsent(path string) (bool, error) {
	w, armed := c.arm(path)
	exists, changed, err := c.exists(path, !armed)
	switch {
	case armed:
		// The owner reads a node that is there, which tells if the watch is lost.
	case err != nil:
		c.disarm(path)
	default:
		c.see(w, changed)
	}
	return exists, err
}

// see notes the state of a node that a new watch is on.
func (c *zkConn) see(w *zkWatch, changed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.known, w.changed = true, changed
}

// lost takes in what a read of a watched node gave. If the node has changed
// and the watch that was there before the read is still there, it will never
// tell: events come before the answers to later requests. Such a watch is
// forgotten.
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

// arm notes that the path is watched from now on and says if it was before.
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

// disarm forgets the path's watch and says if there was one.
func (c *zkConn) disarm(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, was := c.armed[path]
	delete(c.armed, path)
	return was
}

// unseeLocked forgets the state of all watched nodes: after a reconnect the client
// asks the broker for the old watches, and what changed meanwhile is the
// reconnect's, not a lost watch's.
func (c *zkConn) unseeLocked() {
	for _, w := range c.armed {
		w.known = false
	}
}

// watchesRefused is called if a broker did not take the old watches: all are
// asked for anew.
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
