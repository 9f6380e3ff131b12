package main

import (
	"fmt"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// Config is the content of config.json, after parseConfig has filled in the defaults and
// has checked and normalised the values. It does not change after it is loaded.
//
// The comment on a field says what the key means and which values it may have. The key's
// row in configKeys below enforces that. A key that is absent or null has its default.
type Config struct {
	// ServerID (0-255) is the top byte of every session ID. 0 means that a free
	// one is claimed in ZooKeeper or, with CoinFile, that 1 is used. Default: 0.
	ServerID uint8

	// ChainType is one of stratum.ChainNames, in lower case. Default: bitcoin.
	ChainType string

	// ListenAddr is the host:port that miners connect to. An empty host means
	// all addresses; port 0 lets the kernel choose. Default: 0.0.0.0:18080.
	ListenAddr string

	// StratumServerMap has the pool of each coin. It is required and has at
	// least one coin. Default: none.
	StratumServerMap map[string]StratumServerInfo

	// ZKBroker lists the ZooKeeper servers, each as host:port.
	// Default: 127.0.0.1:2181, or none if CoinFile is given.
	ZKBroker []string

	// ZKServerIDAssignDir is the directory in which a server ID is claimed: a
	// free one if ServerID is 0, otherwise that one, so that other switchers see
	// that it is taken. With a ServerID it may be empty, and nothing is claimed.
	// Default: /stratumSwitcher/bitcoin_swid/.
	//
	// This directory and the next three are absolute paths that end in a slash.
	ZKServerIDAssignDir string

	// ZKSwitcherWatchDir holds one node for each sub-account. The node's content
	// is the coin. Default: /stratumSwitcher/btcbcc/.
	ZKSwitcherWatchDir string

	// ZKAutoRegWatchDir is the directory in which registrations are requested
	// if EnableUserAutoReg is set. Default: /stratumSwitcher/bitcoin_autoreg/.
	ZKAutoRegWatchDir string

	// ZKUserCaseInsensitiveIndex holds one node for each name in lower case. The
	// node's content is the name as it was registered. An empty string disables
	// the index. Default: /stratumSwitcher/bitcoin_case/.
	ZKUserCaseInsensitiveIndex string

	// EnableUserAutoReg requests the registration of unknown sub-accounts.
	// Default: true.
	EnableUserAutoReg bool

	// AutoRegMaxWaitUsers is how many sub-accounts may wait for their
	// registration at the same time. It is at least 1. Default: 50.
	AutoRegMaxWaitUsers int

	// StratumServerCaseInsensitive converts the names of sub-accounts to lower
	// case. The case index is not used then. Default: false.
	StratumServerCaseInsensitive bool

	// EnableHTTPDebug starts the HTTP listener with the status page, metrics,
	// health and pprof. Default: false.
	EnableHTTPDebug bool

	// HTTPDebugListenAddr is the host:port of the HTTP listener.
	// Default: 127.0.0.1:6060.
	HTTPDebugListenAddr string

	// CoinFile is the JSON file that coins come from if ZKBroker is empty.
	// Default: none.
	CoinFile string `json:",omitempty"`

	// EventFile is the file that events are written to, one JSON object a line.
	// Default: none.
	EventFile string `json:",omitempty"`

	// ReconnectOnLostVersionRolling closes the connection of a miner that has lost
	// version rolling because of a switch, so that it reconnects and negotiates it
	// again. Default: false.
	ReconnectOnLostVersionRolling bool `json:",omitempty"`

	// TLSCertFile is the PEM file of the certificate and its chain. With it and
	// TLSKeyFile, miners may connect to ListenAddr with TLS. Default: none.
	TLSCertFile string `json:",omitempty"`

	// TLSKeyFile is the PEM file of the certificate's private key. Default: none.
	TLSKeyFile string `json:",omitempty"`

	// TLSRequired refuses miners that connect without TLS. Default: false.
	TLSRequired bool `json:",omitempty"`

	// DrainSeconds (0-600) is how long the link to the previous pool is kept
	// after a switch for shares that are still on their way. 0 disables this.
	// Default: 5.
	DrainSeconds int

	// PoolIdleSeconds (0-86400) is how long a pool may be silent before its link
	// counts as lost. 0 means forever. Default: 120.
	PoolIdleSeconds int

	// ExtraNonce2Size (0-8) is the size in bytes of the miners' extranonce2 if
	// some coins have ExtraNonce "pool". 0 means 4 or, if all coins have it, the
	// largest of 8, 4, 3 and 2 that all pools have room for.
	// Default: 0.
	ExtraNonce2Size int `json:",omitempty"`

	// TrustedProxies lists the networks or addresses of load balancers that
	// report a miner's address with the PROXY protocol. Default: none.
	TrustedProxies []string `json:",omitempty"`

	// AgentUserAgents lists prefixes of the user agents of programs that use
	// BTCAgent's protocol, in addition to "btccom-agent/". Case is ignored.
	// Default: none.
	AgentUserAgents []string `json:",omitempty"`

	// MaxPoolDials (1-10000) is how many connections to pools may be set up at
	// the same time. Default: 128.
	MaxPoolDials int

	// MaxPoolDialsPerSecond (0-1000000) is how many connections to pools may be
	// started per second. 0 means no limit. Default: 20000.
	MaxPoolDialsPerSecond int

	// MaxSessions (0-10000000) is how many miners' connections may be open at
	// the same time. 0 means as many as there are descriptors for, which is the
	// upper limit in any case. Default: 0.
	MaxSessions int `json:",omitempty"`

	// MaxSessionsPerIP (0-10000000) is how many miners' connections may come from one
	// IPv4 address or one IPv6 /64. Addresses of TrustedProxies are exempt; the
	// client addresses that they report are counted. 0 means no limit.
	// Default: 0.
	MaxSessionsPerIP int `json:",omitempty"`

	// MaxConnectsPerSecond (0-1000000) is how many connections may become
	// sessions per second. A burst may use one second's worth. 0 means no limit,
	// because after a network outage all miners reconnect within the same
	// second, and refusing them would cost their work. Default: 0.
	MaxConnectsPerSecond int `json:",omitempty"`

	// ZKSessionTimeoutSeconds (1-120) is how long ZooKeeper keeps the server ID
	// of a switcher that it does not hear from. Default: 20.
	ZKSessionTimeoutSeconds int

	// ZKAuditSeconds (0-86400) is how often all watched nodes are read again to
	// find changes that no watch reported. 0 disables this. Default: 300.
	ZKAuditSeconds int
}

// configKeys has a row for each field of Config, in the same order. A row has the key, the
// field with its default and the type and range of its values, and a check of what type
// and range do not cover, or nil. Mistakes of one kind are reported in this order. To add
// a key, see "Where to change" in docs/architecture.md.
var configKeys = []configKey[Config]{
	{"ServerID", numberValue(func(c *Config) *uint8 { return &c.ServerID }, 0, 0, 255, " (0: claim a free one in ZooKeeper)"), nil},
	{"ChainType", textValue(func(c *Config) *string { return &c.ChainType }, "bitcoin", "a string, "+wantChainType), (*Config).checkChainType},
	{"ListenAddr", textValue(func(c *Config) *string { return &c.ListenAddr }, "0.0.0.0:18080", wantListen), (*Config).checkListenAddr},
	{"StratumServerMap", poolsValue, (*Config).checkPools},
	{"ZKBroker", listValue(func(c *Config) *[]string { return &c.ZKBroker }, []string{"127.0.0.1:2181"}, wantBrokers, wantBroker), (*Config).checkBrokers},
	{"ZKServerIDAssignDir", textValue(func(c *Config) *string { return &c.ZKServerIDAssignDir }, "/stratumSwitcher/bitcoin_swid/", wantZKDir),
		zkDirCheck(func(c *Config) (string, bool) { return c.ZKServerIDAssignDir, c.ServerID == 0 })},
	{"ZKSwitcherWatchDir", textValue(func(c *Config) *string { return &c.ZKSwitcherWatchDir }, "/stratumSwitcher/btcbcc/", wantZKDir),
		zkDirCheck(func(c *Config) (string, bool) { return c.ZKSwitcherWatchDir, true })},
	{"ZKAutoRegWatchDir", textValue(func(c *Config) *string { return &c.ZKAutoRegWatchDir }, "/stratumSwitcher/bitcoin_autoreg/", wantZKDir),
		zkDirCheck(func(c *Config) (string, bool) { return c.ZKAutoRegWatchDir, c.EnableUserAutoReg })},
	{"ZKUserCaseInsensitiveIndex", textValue(func(c *Config) *string { return &c.ZKUserCaseInsensitiveIndex }, "/stratumSwitcher/bitcoin_case/", wantZKDir+`, or "" (off)`),
		zkDirCheck(func(c *Config) (string, bool) { return c.ZKUserCaseInsensitiveIndex, c.usesCaseIndex() })},
	{"EnableUserAutoReg", boolValue(func(c *Config) *bool { return &c.EnableUserAutoReg }, true), nil},
	{"AutoRegMaxWaitUsers", anyNumberValue(func(c *Config) *int { return &c.AutoRegMaxWaitUsers }, 50, "a whole number, at least 1"), (*Config).checkAutoRegMax},
	{"StratumServerCaseInsensitive", boolValue(func(c *Config) *bool { return &c.StratumServerCaseInsensitive }, false), nil},
	{"EnableHTTPDebug", boolValue(func(c *Config) *bool { return &c.EnableHTTPDebug }, false), nil},
	{"HTTPDebugListenAddr", textValue(func(c *Config) *string { return &c.HTTPDebugListenAddr }, "127.0.0.1:6060", wantHTTP), (*Config).checkHTTPAddr},
	{"CoinFile", textValue(func(c *Config) *string { return &c.CoinFile }, "", `a file name, such as "coins.json"`), (*Config).checkCoinFile},
	{"EventFile", textValue(func(c *Config) *string { return &c.EventFile }, "", `a file name, such as "events.json"`), (*Config).checkEventFileName},
	{"ReconnectOnLostVersionRolling", boolValue(func(c *Config) *bool { return &c.ReconnectOnLostVersionRolling }, false), nil},
	{"TLSCertFile", textValue(func(c *Config) *string { return &c.TLSCertFile }, "", wantCertFile), (*Config).checkTLSCertFile},
	{"TLSKeyFile", textValue(func(c *Config) *string { return &c.TLSKeyFile }, "", wantKeyFile), (*Config).checkTLSKeyFile},
	{"TLSRequired", boolValue(func(c *Config) *bool { return &c.TLSRequired }, false), (*Config).checkTLSRequired},
	{"DrainSeconds", numberValue(func(c *Config) *int { return &c.DrainSeconds }, 5, 0, 600, " (0: off)"), nil},
	{"PoolIdleSeconds", numberValue(func(c *Config) *int { return &c.PoolIdleSeconds }, 120, 0, 86400, " (0: off)"), nil},
	{"ExtraNonce2Size", numberValue(func(c *Config) *int { return &c.ExtraNonce2Size }, 0, 0, 8, " (0: as fits)"), nil},
	{"TrustedProxies", listValue(func(c *Config) *[]string { return &c.TrustedProxies }, nil, `a list of networks, such as ["10.0.0.0/8"]`, `a network, such as "10.0.0.0/8"`),
		(*Config).checkTrustedProxies},
	{"AgentUserAgents", listValue(func(c *Config) *[]string { return &c.AgentUserAgents }, nil, `a list of beginnings of user agents, such as ["farm-agent/"]`,
		`the beginning of a user agent, such as "farm-agent/"`), (*Config).checkAgentUserAgents},
	{"MaxPoolDials", numberValue(func(c *Config) *int { return &c.MaxPoolDials }, 128, 1, 10000, ""), nil},
	{"MaxPoolDialsPerSecond", numberValue(func(c *Config) *int { return &c.MaxPoolDialsPerSecond }, 20000, 0, 1000000, " (0: off)"), nil},
	{"MaxSessions", numberValue(func(c *Config) *int { return &c.MaxSessions }, 0, 0, 10000000, " (0: as many as descriptors allow)"), nil},
	{"MaxSessionsPerIP", numberValue(func(c *Config) *int { return &c.MaxSessionsPerIP }, 0, 0, 10000000, " (0: off)"), nil},
	{"MaxConnectsPerSecond", numberValue(func(c *Config) *int { return &c.MaxConnectsPerSecond }, 0, 0, 1000000, " (0: off)"), nil},
	{"ZKSessionTimeoutSeconds", numberValue(func(c *Config) *int { return &c.ZKSessionTimeoutSeconds }, 20, 1, 120, ""), nil},
	{"ZKAuditSeconds", numberValue(func(c *Config) *int { return &c.ZKAuditSeconds }, 300, 0, 86400, " (0: off)"), nil},
}

// Allowed values, as messages describe them.
var wantChainType = "one of " + strings.Join(stratum.ChainNames(), ", ")

const (
	wantListen  = `"host:port" with port 0-65535, such as "0.0.0.0:18080"`
	wantHTTP    = `"host:port" with port 0-65535, such as "127.0.0.1:6060"`
	wantBroker  = `"host:port" with port 1-65535, such as "127.0.0.1:2181"`
	wantBrokers = `a list of strings, such as ["127.0.0.1:2181"]`
	wantZKDir   = `an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`
)

// The checks run before normalise, so that messages show values as they are written in the
// file. They ignore values that are not used, because these do no harm in existing files.

func (c *Config) checkChainType(key string, p *configProblems) {
	if _, err := stratum.ParseChain(c.ChainType); err != nil {
		p.value(key, c.ChainType, wantChainType)
	}
}

func (c *Config) checkListenAddr(key string, p *configProblems) {
	if err := checkHostPort(c.ListenAddr, true); err != nil {
		p.address(key, c.ListenAddr, err, wantListen)
	}
}

func (c *Config) checkBrokers(key string, p *configProblems) {
	if len(c.ZKBroker) == 0 && c.CoinFile == "" {
		p.add(key, `is empty and so is CoinFile, a source of coins is needed: ZKBroker, such as ["127.0.0.1:2181"], or CoinFile, such as "coins.json"`)
	}
	for i, broker := range c.ZKBroker {
		if err := checkHostPort(brokerAddr(broker), false); err != nil {
			p.address(fmt.Sprintf("%s[%d]", key, i), broker, err, wantBroker)
		}
	}
}

// zkDirCheck checks a directory in ZooKeeper. directory also reports whether the
// configuration uses it if it uses ZooKeeper.
func zkDirCheck(directory func(*Config) (dir string, used bool)) func(*Config, string, *configProblems) {
	return func(c *Config, key string, p *configProblems) {
		if dir, used := directory(c); used && c.usesZooKeeper() && coins.CheckDir(dir) != nil {
			p.value(key, dir, wantZKDir)
		}
	}
}

func (c *Config) checkAutoRegMax(key string, p *configProblems) {
	if c.usesZooKeeper() && c.EnableUserAutoReg && c.AutoRegMaxWaitUsers < 1 {
		p.add(key, fmt.Sprintf("is %d, must be at least 1 with EnableUserAutoReg", c.AutoRegMaxWaitUsers))
	}
}

func (c *Config) checkHTTPAddr(key string, p *configProblems) {
	if !c.EnableHTTPDebug {
		return
	}
	if err := checkHostPort(c.HTTPDebugListenAddr, true); err != nil {
		p.address(key, c.HTTPDebugListenAddr, err, wantHTTP)
	} else if c.clashesWithListenAddr(c.HTTPDebugListenAddr) {
		p.add(key, fmt.Sprintf("is %q, where miners connect (ListenAddr is %q), must have another port or address",
			strictjson.Shorten(c.HTTPDebugListenAddr), strictjson.Shorten(c.ListenAddr)))
	}
}

func (c *Config) checkCoinFile(key string, p *configProblems) {
	if c.CoinFile != "" && c.usesZooKeeper() {
		p.add(key, fmt.Sprintf("is %q beside ZKBroker, must be left out, or ZKBroker must be: coins come from one of them", strictjson.Shorten(c.CoinFile)))
	}
}

func (c *Config) checkEventFileName(key string, p *configProblems) {
	if c.EventFile != "" && c.EventFile == c.CoinFile {
		p.add(key, fmt.Sprintf("is %q, which is the CoinFile too, must be another file", strictjson.Shorten(c.EventFile)))
	}
}

func (c *Config) checkTrustedProxies(key string, p *configProblems) {
	for i, network := range c.TrustedProxies {
		if _, err := parseNetworks([]string{network}); err != nil {
			p.add(fmt.Sprintf("%s[%d]", key, i), fmt.Sprintf("is %q, must be a network or an address, such as \"10.0.0.0/8\"", network))
		}
	}
}

func (c *Config) checkAgentUserAgents(key string, p *configProblems) {
	for i, prefix := range c.AgentUserAgents {
		if prefix == "" {
			p.add(fmt.Sprintf("%s[%d]", key, i), `is "", which all user agents begin with, must be the beginning of an agent's, such as "farm-agent/"`)
		}
	}
}

// usesZooKeeper reports whether coins come from ZooKeeper and not from a
// CoinFile.
func (c *Config) usesZooKeeper() bool { return len(c.ZKBroker) > 0 }

// usesCaseIndex reports whether names are looked up in the case index. The index
// is in ZooKeeper, and lower-cased names do not need it.
func (c *Config) usesCaseIndex() bool {
	return c.usesZooKeeper() && !c.StratumServerCaseInsensitive && c.ZKUserCaseInsensitiveIndex != ""
}
