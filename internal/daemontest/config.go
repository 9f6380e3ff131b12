package daemontest

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Config has the keys of config.json. The daemon's own Config documents them. A test of
// package main makes sure that both have the same keys and defaults.
type Config struct {
	ServerID                      uint8
	ChainType                     string
	ListenAddr                    string
	StratumServerMap              map[string]PoolConfig
	ZKBroker                      []string
	ZKServerIDAssignDir           string
	ZKSwitcherWatchDir            string
	ZKAutoRegWatchDir             string
	ZKUserCaseInsensitiveIndex    string
	EnableUserAutoReg             bool
	AutoRegMaxWaitUsers           int
	StratumServerCaseInsensitive  bool
	EnableHTTPDebug               bool
	HTTPDebugListenAddr           string
	CoinFile                      string `json:",omitempty"`
	EventFile                     string `json:",omitempty"`
	ReconnectOnLostVersionRolling bool   `json:",omitempty"`
	TLSCertFile                   string `json:",omitempty"`
	TLSKeyFile                    string `json:",omitempty"`
	TLSRequired                   bool   `json:",omitempty"`
	DrainSeconds                  int
	PoolIdleSeconds               int
	ExtraNonce2Size               int      `json:",omitempty"`
	TrustedProxies                []string `json:",omitempty"`
	AgentUserAgents               []string `json:",omitempty"`
	MaxPoolDials                  int
	MaxPoolDialsPerSecond         int
	MaxSessions                   int `json:",omitempty"`
	MaxSessionsPerIP              int `json:",omitempty"`
	MaxConnectsPerSecond          int `json:",omitempty"`
	ZKSessionTimeoutSeconds       int
	ZKAuditSeconds                int
}

// PoolConfig configures the pool of one coin.
type PoolConfig struct {
	URL        string
	UserSuffix string
	BackupURLs []string `json:",omitempty"`
	ExtraNonce string   `json:",omitempty"`
	Worker     string   `json:",omitempty"`
	Password   string   `json:",omitempty"`

	TLSServerName  string `json:",omitempty"`
	TLSCAFile      string `json:",omitempty"`
	TLSFingerprint string `json:",omitempty"`
	TLSVerify      *bool  `json:",omitempty"`
}

// DefaultConfig returns a configuration with the daemon's default for each key.
func DefaultConfig() *Config {
	return &Config{
		ServerID:   0,
		ChainType:  "bitcoin",
		ListenAddr: "0.0.0.0:18080",

		ZKBroker:                   []string{"127.0.0.1:2181"},
		ZKServerIDAssignDir:        "/stratumSwitcher/bitcoin_swid/",
		ZKSwitcherWatchDir:         "/stratumSwitcher/btcbcc/",
		ZKAutoRegWatchDir:          "/stratumSwitcher/bitcoin_autoreg/",
		ZKUserCaseInsensitiveIndex: "/stratumSwitcher/bitcoin_case/",

		EnableUserAutoReg:            true,
		AutoRegMaxWaitUsers:          50,
		StratumServerCaseInsensitive: false,

		EnableHTTPDebug:     false,
		HTTPDebugListenAddr: "127.0.0.1:6060",

		DrainSeconds:            5,
		PoolIdleSeconds:         120,
		MaxPoolDials:            128,
		MaxPoolDialsPerSecond:   20000,
		ZKSessionTimeoutSeconds: 20,
		ZKAuditSeconds:          300,
	}
}

// FileConfig returns a configuration that has these pools and uses a coin file.
func FileConfig(pools ...*stratumtest.Pool) *Config {
	c := DefaultConfig()
	c.ServerID = 1
	c.ListenAddr = "127.0.0.1:0"
	c.ZKBroker = []string{}
	c.CoinFile = "coins.json"
	c.StratumServerMap = make(map[string]PoolConfig)
	for _, p := range pools {
		c.StratumServerMap[p.Name()] = PoolConfig{URL: p.Addr(), UserSuffix: p.Name()}
	}
	return c
}

// At sets the address on which the daemon listens.
func (c *Config) At(addr string) *Config {
	c.ListenAddr = addr
	return c
}

// PoolsPick configures these pools as pools that pick the extranonce.
func (c *Config) PoolsPick(own ...*stratumtest.Pool) {
	for _, p := range own {
		pool := c.StratumServerMap[p.Name()]
		pool.ExtraNonce = "pool"
		c.StratumServerMap[p.Name()] = pool
	}
}
