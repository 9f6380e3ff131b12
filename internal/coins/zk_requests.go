package coins

import (
	"errors"
	"net"
	"time"

	"github.com/samuel/go-zookeeper/zk"
)

// The requests that a connection makes with the client library, and the library's errors
// in this package's terms.

var (
	errZKNoNode     = errors.New("node does not exist")
	errZKNodeExists = errors.New("node already exists")
	errZKBadVersion = errors.New("node was changed meanwhile")
	errZKBadPath    = errors.New("path not allowed")
	// errZKUnavailable means that there is no session, or that it was lost before the
	// answer came. A write may have happened or not.
	errZKUnavailable = errors.New("zookeeper is unavailable")
)

// zkNode is the content and state of a node.
type zkNode struct {
	Value   []byte
	Version int32
	// Owner is the session that an ephemeral node belongs to, or 0.
	Owner int64
	// changed is the transaction that last changed the node.
	changed int64
}

func newZKNode(value []byte, stat *zk.Stat) zkNode {
	return zkNode{value, stat.Version, stat.EphemeralOwner, stat.Mzxid}
}

func (c *zkConn) get(path string) (zkNode, error) {
	var node zkNode
	err := c.call(func() error {
		value, stat, err := c.client.Get(path)
		if err == nil {
			node = newZKNode(value, stat)
		}
		return err
	})
	return node, err
}

// getWatched is get that sets a watch on the node.
func (c *zkConn) getWatched(path string) (zkNode, error) {
	var node zkNode
	err := c.call(func() error {
		value, stat, _, err := c.client.GetW(path)
		if err == nil {
			node = newZKNode(value, stat)
		}
		return err
	})
	return node, err
}

// exists reports whether there is a node and which transaction last changed it. If watch
// is set, it also sets a watch.
func (c *zkConn) exists(path string, watch bool) (exists bool, changed int64, err error) {
	err = c.call(func() (err error) {
		var stat *zk.Stat
		if watch {
			exists, stat, _, err = c.client.ExistsW(path)
		} else {
			exists, stat, err = c.client.Exists(path)
		}
		if exists {
			changed = stat.Mzxid
		}
		return err
	})
	return exists, changed, err
}

func (c *zkConn) children(path string) ([]string, error) {
	var names []string
	err := c.call(func() (err error) {
		names, _, err = c.client.Children(path)
		return err
	})
	return names, err
}

func (c *zkConn) create(path string, value []byte, ephemeral bool) error {
	return c.call(func() error {
		_, err := c.client.Create(path, value, zkFlags(ephemeral), zk.WorldACL(zk.PermAll))
		return err
	})
}

// set changes a node that has the given version, and returns its new state.
func (c *zkConn) set(path string, value []byte, version int32) (zkNode, error) {
	var node zkNode
	err := c.call(func() error {
		stat, err := c.client.Set(path, value, version)
		if err == nil {
			node = newZKNode(value, stat)
		}
		return err
	})
	return node, err
}

func (c *zkConn) remove(path string, version int32) error {
	return c.call(func() error {
		return c.client.Delete(path, version)
	})
}

// replace replaces a node that has the given version by an ephemeral one of this
// session, in one transaction.
func (c *zkConn) replace(path string, version int32, value []byte) error {
	return c.call(func() error {
		_, err := c.client.Multi(
			&zk.CheckVersionRequest{Path: path, Version: version},
			&zk.DeleteRequest{Path: path, Version: version},
			&zk.CreateRequest{Path: path, Data: value, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral})
		return err
	})
}

// call makes one request with the library.
func (c *zkConn) call(request func() error) error {
	c.mu.Lock()
	if c.closing || !c.session {
		c.mu.Unlock()
		return errZKUnavailable
	}
	c.calls.Add(1)
	gate, socket := c.rearmed, c.socket
	c.mu.Unlock()
	defer c.calls.Done()

	<-gate
	limit := time.AfterFunc(zkRequestTimeout, func() { c.cut(socket) })
	defer limit.Stop()
	return zkError(request())
}

func zkFlags(ephemeral bool) int32 {
	if ephemeral {
		return zk.FlagEphemeral
	}
	return 0
}

func zkError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, zk.ErrNoNode):
		return errZKNoNode
	case errors.Is(err, zk.ErrNodeExists):
		return errZKNodeExists
	case errors.Is(err, zk.ErrBadVersion):
		return errZKBadVersion
	case errors.Is(err, zk.ErrInvalidPath), errors.Is(err, zk.ErrBadArguments):
		return errZKBadPath
	case errors.Is(err, zk.ErrConnectionClosed), errors.Is(err, zk.ErrSessionExpired), errors.Is(err, zk.ErrClosing),
		errors.Is(err, zk.ErrNoServer), errors.Is(err, zk.ErrSessionMoved):
		return errZKUnavailable
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, net.ErrClosed) {
		return errZKUnavailable
	}
	return err
}

// makeParents creates the directories above a node. It blocks, so only a zkJob may call
// it.
func makeParents(conn *zkConn, node string) error {
	for i := 1; i < len(node); i++ {
		if node[i] != '/' {
			continue
		}
		if err := conn.create(node[:i], nil, false); err != nil && !errors.Is(err, errZKNodeExists) {
			return err
		}
	}
	return nil
}
