package main

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang/glog"
)

// This file is the door for coins: it makes the source that the configuration
// names. What the source reports goes to the session manager, which is its
// CoinSink.

// newCoinSource makes the source of coins that the configuration names. st is
// what a former process left, or nil at a start.
func newCoinSource(c *Config, st *runtimeState) (CoinSource, error) {
	if len(c.ZKBroker) > 0 {
		opts := zkOptionsOf(c)
		if st != nil {
			opts.PreviousServerID, opts.PreviousOwner = st.ServerID, st.ServerIDOwner
		}
		return newZKCoinSource(opts)
	}
	if st != nil {
		// The former configuration serves on if this one names another file,
		// which seems wrong. If it does not, there is no better one.
		if st.Config != nil && st.Config.CoinFile != c.CoinFile {
			if err := checkCoinFolder(c.CoinFile); err != nil {
				return nil, err
			}
		}
		return resumeFileCoinSource(c.CoinFile, c.ServerID, coinFileRulesOf(c), st.Wanted), nil
	}
	return newFileCoinSource(c.CoinFile, c.ServerID, coinFileRulesOf(c))
}

// coinFileRulesOf is what a coin file has to agree with.
func coinFileRulesOf(c *Config) coinFileRules {
	known := make(map[string]bool, len(c.StratumServerMap))
	for coin := range c.StratumServerMap {
		known[coin] = true
	}
	return coinFileRules{lowerCase: c.StratumServerCaseInsensitive, known: known}
}

// zkOptionsOf are the options of the source in ZooKeeper.
func zkOptionsOf(c *Config) zkOptions {
	host, err := os.Hostname()
	if err != nil {
		glog.Warningf("host name: %v", err)
	}
	// What is not used is not given, as it need not be valid.
	opts := zkOptions{
		Brokers:        c.ZKBroker,
		CoinDir:        c.ZKSwitcherWatchDir,
		ServerIDDir:    c.ZKServerIDAssignDir,
		AutoReg:        c.EnableUserAutoReg,
		AutoRegMaxWait: c.AutoRegMaxWaitUsers,
		SessionTimeout: time.Duration(c.ZKSessionTimeoutSeconds) * time.Second,
		AuditEvery:     time.Duration(c.ZKAuditSeconds) * time.Second,
		FixedServerID:  c.ServerID,
		Metadata: zkMetadata{
			ChainType:  c.ChainType,
			Coins:      slices.Sorted(maps.Keys(c.StratumServerMap)),
			IPs:        hostAddresses(),
			HostName:   host,
			ListenAddr: c.ListenAddr,
		},
	}
	if c.EnableUserAutoReg {
		opts.AutoRegDir = c.ZKAutoRegWatchDir
	}
	if c.usesCaseIndex() {
		opts.CaseIndexDir = c.ZKUserCaseInsensitiveIndex
	}
	return opts
}

// hostAddresses are the machine's own addresses but the loopback ones, for the
// reader of a server ID's node.
func hostAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		glog.Warningf("own addresses: %v", err)
	}
	ips := []string{}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			ips = append(ips, n.IP.String())
		}
	}
	return ips
}

// coinSourceName says where coins come from, for operators. A relative CoinFile
// is looked for in the working directory, so the whole path is told.
func coinSourceName(c *Config) string {
	if len(c.ZKBroker) > 0 {
		return "zookeeper:" + strings.Join(c.ZKBroker, ",")
	}
	path, err := filepath.Abs(c.CoinFile)
	if err != nil {
		path = c.CoinFile
	}
	return "file:" + path
}
