package coins

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

const (
	zkDefaultSessionTimeout = 20 * time.Second
	// zkDefaultRegTimeout is shorter than the 60 s in which a miner must be authorized.
	zkDefaultRegTimeout = 45 * time.Second
)

// ZooKeeperOptions are the options of NewZooKeeper. A directory may be given with or
// without a slash at its end.
type ZooKeeperOptions struct {
	Brokers     []string
	CoinDir     string
	ServerIDDir string
	AutoRegDir  string
	// CaseIndexDir may be empty if there is no case index.
	CaseIndexDir string

	// AutoReg means that another service registers unknown sub-accounts on request.
	AutoReg bool
	// AutoRegMaxWait is how many accounts may wait for registration at a time.
	AutoRegMaxWait int
	AutoRegTimeout time.Duration // 0 stands for 45 s

	SessionTimeout time.Duration // 0 stands for 20 s
	// AuditEvery is how often each watched node is read again. 0 disables that.
	AuditEvery time.Duration

	// FixedServerID is used even if its node cannot be claimed. If there is a directory
	// for server IDs, the node is claimed, so that others see that the ID is taken. 0
	// stands for any free ID.
	FixedServerID uint8
	Metadata      Metadata
	// PreviousServerID is the ID that this process had before an upgrade, and
	// PreviousOwner is the session that owned its node (see ServerIDNode). They are 0
	// if they are unknown.
	PreviousServerID uint8
	PreviousOwner    int64
	// PreviousClaims are sessions of this process before an upgrade that may own the node
	// too (see PassServerIDOn).
	PreviousClaims []int64
}

// Metadata is the content of a server ID's node.
type Metadata struct {
	ChainType  string
	Coins      []string
	IPs        []string
	HostName   string
	ListenAddr string
}

// Check returns the error that NewZooKeeper would return, and the warning that it would
// log, if any. It does not change the options and does not connect.
func (o ZooKeeperOptions) Check() (warning string, err error) { return o.complete() }

// complete checks the options and fills in the defaults. The warning is about a server ID
// that cannot be claimed.
func (o *ZooKeeperOptions) complete() (warning string, err error) {
	if len(o.Brokers) == 0 {
		return "", errors.New("zookeeper: no broker given")
	}
	for _, broker := range o.Brokers {
		if strings.TrimSpace(broker) == "" {
			return "", errors.New("zookeeper: a broker's address is empty")
		}
	}
	dirs := []struct {
		name   string
		dir    *string
		needed bool
	}{
		{"coin", &o.CoinDir, true},
		{"server ID", &o.ServerIDDir, o.FixedServerID == 0},
		{"auto-registration", &o.AutoRegDir, o.AutoReg},
		{"case index", &o.CaseIndexDir, false},
	}
	for _, d := range dirs {
		if *d.dir == "" && !d.needed {
			continue
		}
		dir := path.Clean(*d.dir)
		err := CheckDir(dir)
		if err != nil && d.dir == &o.ServerIDDir && !d.needed {
			// In former versions this key had no meaning beside a ServerID.
			warning = fmt.Sprintf("zookeeper: server ID %d is used without being claimed, so that others may take it too: ZKServerIDAssignDir %q %v",
				o.FixedServerID, *d.dir, err)
			dir, err = "", nil
		}
		if err != nil {
			return "", fmt.Errorf("zookeeper: %s directory %q: %w", d.name, *d.dir, err)
		}
		if dir != "" && dir != "/" {
			dir += "/"
		}
		*d.dir = dir
	}
	if o.AutoRegTimeout <= 0 {
		o.AutoRegTimeout = zkDefaultRegTimeout
	}
	if o.SessionTimeout <= 0 {
		o.SessionTimeout = zkDefaultSessionTimeout
	}
	return warning, nil
}

// CheckDir returns an error unless dir, with or without a slash at its end, can be a
// directory in ZooKeeper. Every check of such a directory uses this function.
func CheckDir(dir string) error {
	names, absolute := strings.CutPrefix(dir, "/")
	if !absolute {
		return errors.New("must start with /")
	}
	if names == "" {
		return nil
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "/"), "/") {
		if !validZKName(name) {
			return fmt.Errorf("%q cannot be the name of a node", name)
		}
	}
	return nil
}
