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

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file makes the source of coins that the configuration names. The source reports
// changes to the session manager, which is its coins.Sink.

// newCoinSource makes the source of coins that the configuration names. st is the
// state that a former process left, or nil at a start.
func newCoinSource(c *Config, st *runtimeState) (coins.Source, error) {
	if len(c.ZKBroker) > 0 {
		opts := zkOptionsOf(c)
		if st != nil {
			opts.PreviousServerID, opts.PreviousOwner, opts.PreviousClaims = st.ServerID, st.ServerIDOwner, st.ServerIDClaims
		}
		return coins.NewZooKeeper(opts)
	}
	if st != nil {
		// After an error, the program uses the former configuration. That helps only if
		// it names another file, so the file's folder is checked only then.
		if st.Config != nil && st.Config.CoinFile != c.CoinFile {
			if err := coins.CheckFolder(c.CoinFile); err != nil {
				return nil, err
			}
		}
		return coins.ResumeFile(c.CoinFile, c.ServerID, coinFileRulesOf(c), st.Wanted), nil
	}
	return coins.NewFile(c.CoinFile, c.ServerID, coinFileRulesOf(c))
}

// coinFileRulesOf returns what the configuration requires of a coin file.
func coinFileRulesOf(c *Config) coins.FileRules {
	known := make(map[string]bool, len(c.StratumServerMap))
	for coin := range c.StratumServerMap {
		known[coin] = true
	}
	return coins.FileRules{
		LowerCase:      c.StratumServerCaseInsensitive,
		Coins:          known,
		FilterName:     stratum.FilterWorker,
		NameCharacters: "letters, digits and _:|^/-",
	}
}

// zkOptionsOf returns the options of the source in ZooKeeper.
func zkOptionsOf(c *Config) coins.ZooKeeperOptions {
	host, err := os.Hostname()
	if err != nil {
		glog.Warningf("host name: %v", err)
	}
	// Keys that are not used are left out, because they need not be valid.
	opts := coins.ZooKeeperOptions{
		Brokers:        c.ZKBroker,
		CoinDir:        c.ZKSwitcherWatchDir,
		ServerIDDir:    c.ZKServerIDAssignDir,
		AutoReg:        c.EnableUserAutoReg,
		AutoRegMaxWait: c.AutoRegMaxWaitUsers,
		SessionTimeout: time.Duration(c.ZKSessionTimeoutSeconds) * time.Second,
		AuditEvery:     time.Duration(c.ZKAuditSeconds) * time.Second,
		FixedServerID:  c.ServerID,
		Metadata: coins.Metadata{
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

// hostAddresses returns the machine's addresses, without loopback and link-local ones.
// They are written to the server ID's node for people who read it.
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

// coinSourceName returns a text for operators that names the source of coins. A CoinFile
// has its absolute path there, because a relative one is relative to the working directory.
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
