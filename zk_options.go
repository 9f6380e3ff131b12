package main

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/golang/glog"
)

const (
	zkDefaultSessionTimeout = 20 * time.Second
	// zkDefaultRegTimeout is below the 60 s a miner has to get authorized.
	zkDefaultRegTimeout = 45 * time.Second
)

// zkOptions says where a zkCoinSource finds its nodes.
type zkOptions struct {
	Brokers     []string
	CoinDir     string
	ServerIDDir string
	AutoRegDir  string
	// CaseIndexDir may be empty: no case index.
	CaseIndexDir string

	AutoReg bool
	// AutoRegMaxWait is how many accounts may wait for registration at a time.
	AutoRegMaxWait int
	AutoRegTimeout time.Duration // 0: 45 s

	SessionTimeout time.Duration // 0: 20 s
	// AuditEvery is how often watched nodes are read again. 0: not at all.
	AuditEvery time.Duration

	// FixedServerID is given out as it is, and its node is claimed if there is
	// a directory for it, so that others see that it is taken. 0: claim any.
	FixedServerID uint8
	Metadata      zkMetadata
	// PreviousServerID is the ID this process had before an upgrade, and
	// PreviousOwner the ephemeral owner of its node (see ServerIDNode); 0 if
	// the state file does not tell.
	PreviousServerID uint8
	PreviousOwner    int64
}

// zkMetadata is the content of a server ID's node.
type zkMetadata struct {
	ChainType  string
	Coins      []string
	IPs        []string
	HostName   string
	ListenAddr string
}

// complete checks the options and fills in what was left open.
func (o *zkOptions) complete() error {
	if len(o.Brokers) == 0 {
		return errors.New("zookeeper: no broker given")
	}
	for _, broker := range o.Brokers {
		if strings.TrimSpace(broker) == "" {
			return errors.New("zookeeper: a broker's address is empty")
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
		err := checkZKDir(dir)
		if err != nil && d.dir == &o.ServerIDDir && !d.needed {
			// This key had no meaning beside a ServerID once.
			glog.Warningf("zookeeper: server ID %d is used without being claimed, so that others may take it too: ZKServerIDAssignDir %q %v",
				o.FixedServerID, *d.dir, err)
			dir, err = "", nil
		}
		if err != nil {
			return fmt.Errorf("zookeeper: %s directory %q: %w", d.name, *d.dir, err)
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
	return nil
}

// checkZKDir returns an error unless dir, with or without a slash at its end, can
// be a directory in ZooKeeper. It is the only judge of that.
func checkZKDir(dir string) error {
	names, absolute := strings.CutPrefix(dir, "/")
	if !absolute {
		return errors.New("must start with /")
	}
	if names == "" {
		return nil
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "/"), "/") {
		if !validZKName(name) {
			return fmt.Errorf("%q can not be the name of a node", name)
		}
	}
	return nil
}
