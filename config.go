package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// Config is the content of config.json, complete and checked: parseConfig
// fills in defaults and normalises values, so that users of a Config need not.
// It is not changed after loading.
//
// A key that is absent or null has the default given here, which for the keys
// of config.default.json is the value in that file.
type Config struct {
	// ServerID (0-255) is the top byte of every session ID. 0, the default:
	// claim a free one in ZooKeeper, or use 1 with CoinFile.
	ServerID uint8

	// ChainType is, in lower case, one of chainTypeNames. Default: bitcoin.
	ChainType string

	// ListenAddr is the host:port miners connect to; an empty host means all
	// addresses, port 0 one the kernel chooses. Default: 0.0.0.0:18080.
	ListenAddr string

	// StratumServerMap has the pools by coin. There is no default: without a
	// pool there is nothing to switch to.
	StratumServerMap map[string]StratumServerInfo

	// ZKBroker is the list of ZooKeeper servers, each host:port.
	// Default: 127.0.0.1:2181, or none if CoinFile is given.
	ZKBroker []string

	// ZKServerIDAssignDir is where server IDs are claimed: a free one if
	// ServerID is 0, otherwise that one, so that others see that it is taken.
	// With a ServerID it may be empty; then nothing is claimed. Default:
	// /stratumSwitcher/bitcoin_swid/.
	//
	// This and the three directories below are absolute paths that end in /.
	ZKServerIDAssignDir string

	// ZKSwitcherWatchDir holds one node per sub-account, its content the coin.
	// Default: /stratumSwitcher/btcbcc/.
	ZKSwitcherWatchDir string

	// ZKAutoRegWatchDir is where registrations are requested if
	// EnableUserAutoReg is set. Default: /stratumSwitcher/bitcoin_autoreg/.
	ZKAutoRegWatchDir string

	// ZKUserCaseInsensitiveIndex holds one node per lower-cased name, its
	// content the name as registered. Empty: off.
	// Default: /stratumSwitcher/bitcoin_case/.
	ZKUserCaseInsensitiveIndex string

	// EnableUserAutoReg turns the registration of unknown sub-accounts on.
	// Default: true.
	EnableUserAutoReg bool

	// AutoRegMaxWaitUsers is how many new users may wait for their
	// registration at a time, at least 1. Default: 50.
	AutoRegMaxWaitUsers int

	// StratumServerCaseInsensitive lower-cases sub-account names. The case
	// index is not used then. Default: false.
	StratumServerCaseInsensitive bool

	// EnableHTTPDebug starts the HTTP listener (metrics, status page, health,
	// pprof) at HTTPDebugListenAddr. Defaults: false, 127.0.0.1:6060.
	EnableHTTPDebug     bool
	HTTPDebugListenAddr string

	// CoinFile is the JSON file of the embedded coin source, which takes the
	// place of ZooKeeper when ZKBroker is empty.
	// Default: empty, off.
	CoinFile string `json:",omitempty"`

	// DrainSeconds (0-600) is how long after a switch the old pool's link is
	// kept for shares still on their way. 0: not at all. Default: 5.
	DrainSeconds int

	// PoolIdleSeconds (0-86400) is how long a pool may be silent before its
	// link counts as dead. 0: for ever. Default: 120.
	PoolIdleSeconds int

	// ExtraNonce2Size (1-8) is how many bytes miners may count in if there are
	// coins with ExtraNonce "pool". 0, the default: 4 or, if all coins are like
	// that, the largest of 8, 4, 3 and 2 for which all pools have room.
	ExtraNonce2Size int `json:",omitempty"`

	// TrustedProxies are the networks or addresses of load balancers that
	// report the miner's address by the PROXY protocol. Default: none.
	TrustedProxies []string `json:",omitempty"`

	// AgentUserAgents are prefixes, in any case, of the user agents of programs
	// that speak BTCAgent's protocol, in addition to "btccom-agent/". Default:
	// none.
	AgentUserAgents []string `json:",omitempty"`

	// MaxPoolDials (1-10000) is how many pool handshakes may be under way at
	// a time. Default: 128.
	MaxPoolDials int

	// MaxPoolDialsPerSecond (0-1000000) is how many pool handshakes may be
	// begun in a second. 0: limited by MaxPoolDials only. Default: 20000.
	MaxPoolDialsPerSecond int

	// MaxSessions (0-10000000) is how many miners' connections may be open at a
	// time. 0, the default: as many as descriptors allow, which always is the
	// upper limit.
	MaxSessions int `json:",omitempty"`

	// MaxSessionsPerIP (0-10000000) is how many of them may come from one IPv4
	// address or one IPv6 /64. Addresses of TrustedProxies are exempt; the
	// client addresses that they report are counted. 0, the default: off.
	MaxSessionsPerIP int `json:",omitempty"`

	// MaxConnectsPerSecond (0-1000000) is how many connections may become
	// sessions per second, with bursts of up to one second's worth. 0, the
	// default: off, because all miners reconnect within the same second after a
	// network outage, and refusing them would cost their work.
	MaxConnectsPerSecond int `json:",omitempty"`

	// ZKSessionTimeoutSeconds (1-120) is how long ZooKeeper keeps a claimed
	// server ID for a switcher it does not hear from. Default: 20.
	ZKSessionTimeoutSeconds int

	// ZKAuditSeconds (0-86400) is how often all watched nodes are read again,
	// for changes for which no watch fired. 0: off. Default: 300.
	ZKAuditSeconds int
}

// StratumServerInfo is one coin's pool.
type StratumServerInfo struct {
	// URL is the pool's host:port. It is required.
	URL string

	// UserSuffix is tried after the sub-account's name, with an underscore
	// between, if the pool refuses the plain name. Default: the coin's name.
	UserSuffix string

	// BackupURLs are the host:port to try, in order, when URL does not
	// answer. Default: none.
	BackupURLs []string `json:",omitempty"`

	// ExtraNonce says who picks the extranonce: "session" (the default), the
	// switcher, for pools built for one; or "pool", for all others. "pool" is
	// for ChainType bitcoin.
	ExtraNonce string `json:",omitempty"`

	// Worker is the template for worker names at this pool, with {account},
	// {miner} (the part after the dot) and {suffix}. Default: empty,
	// account.miner, then account_SUFFIX.miner.
	Worker string `json:",omitempty"`

	// Password replaces the miners' passwords. Default: empty, which keeps the
	// miners' own.
	Password string `json:",omitempty"`
}

// chainTypeNames are the values ChainType may have.
var chainTypeNames = []string{"bitcoin", "decred-normal", "decred-gominer", "ethereum"}

// Allowed values, as messages describe them.
const (
	wantCoins    = `an object with at least one coin, such as {"btc": {"URL": "127.0.0.1:3333"}}`
	wantCoin     = `an object, such as {"URL": "127.0.0.1:3333", "UserSuffix": "btc"}`
	wantCoinName = "a name without spaces and control characters"
	wantAddr     = `"host:port" with port 1-65535, such as "127.0.0.1:3333"`
	wantListen   = `"host:port" with port 0-65535, such as "0.0.0.0:18080"`
	wantHTTP     = `"host:port" with port 0-65535, such as "127.0.0.1:6060"`
	wantBroker   = `"host:port" with port 1-65535, such as "127.0.0.1:2181"`
	wantBrokers  = `a list of strings, such as ["127.0.0.1:2181"]`
	wantBackups  = `a list of strings, such as ["127.0.0.1:3333"]`
	wantZKDir    = `an absolute ZooKeeper path of names without control characters, "." and "..", such as "/stratumSwitcher/btcbcc/"`
)

// defaultConfig has the value of every absent key except StratumServerMap.
func defaultConfig() *Config {
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

// maxConfigFile bounds the configuration file.
const maxConfigFile = 16 << 20

// loadConfig reads and checks the configuration file at path.
func loadConfig(path string) (*Config, error) {
	text, err := regularfile.InTime(regularfile.Wait, func() ([]byte, error) {
		text, _, err := regularfile.Read(path, maxConfigFile)
		return text, err
	})
	if err != nil {
		if errors.Is(err, regularfile.ErrTooSlow) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// parseConfig decodes and checks a configuration. The error lists all mistakes,
// one per line, below a line with their number if there are several.
func parseConfig(text []byte) (*Config, error) {
	root, err := strictjson.Parse(text)
	if err != nil {
		return nil, err
	}
	if root.Kind != strictjson.Object {
		return nil, fmt.Errorf("the file's content is %s, must be an object {…}", root.Written())
	}
	c := defaultConfig()
	var p configProblems
	given := decodeObject(c, configSettings, "", root, &p)
	if c.CoinFile != "" && !given["ZKBroker"] {
		c.ZKBroker = []string{}
	}
	// The check comes first, so that messages show the values as written.
	c.check(&p)
	switch len(p.errs) {
	case 0:
	case 1:
		return nil, p.errs[0]
	default:
		return nil, fmt.Errorf("%d mistakes:\n%w", len(p.errs), errors.Join(p.errs...))
	}
	c.normalise()
	return c, nil
}

// normalise converts values that may be written in several ways to one form.
func (c *Config) normalise() {
	c.ChainType = strings.ToLower(c.ChainType)
	for coin, pool := range c.StratumServerMap {
		if pool.UserSuffix == "" {
			pool.UserSuffix = coin
		}
		if len(pool.BackupURLs) == 0 {
			pool.BackupURLs = nil
		}
		pool.URL = trimScheme(pool.URL)
		for i, backup := range pool.BackupURLs {
			pool.BackupURLs[i] = trimScheme(backup)
		}
		if pool.ExtraNonce == extranonceOfSession {
			pool.ExtraNonce = ""
		}
		c.StratumServerMap[coin] = pool
	}
	for i, broker := range c.ZKBroker {
		c.ZKBroker[i] = brokerAddr(broker)
	}
	for _, dir := range []*string{&c.ZKServerIDAssignDir, &c.ZKSwitcherWatchDir, &c.ZKAutoRegWatchDir, &c.ZKUserCaseInsensitiveIndex} {
		if *dir != "" && !strings.HasSuffix(*dir, "/") {
			*dir += "/"
		}
	}
}

// stratumScheme may stand before the host of a pool's URL.
const stratumScheme = "stratum+tcp://"

func trimScheme(url string) string {
	if stratum.HasPrefixFold(url, stratumScheme) {
		return url[len(stratumScheme):]
	}
	return url
}

// The values of ExtraNonce.
const (
	extranonceOfSession = "session"
	extranonceOfPool    = "pool"
)

// brokerAddr adds the default port, because the ZooKeeper client has always
// allowed it to be left out.
func brokerAddr(broker string) string {
	if broker == "" || strings.Contains(broker, ":") {
		return broker
	}
	return broker + ":2181"
}

// check reports every value that cannot work. Unused values are not checked,
// because they do no harm in existing files.
func (c *Config) check(p *configProblems) {
	if !slices.Contains(chainTypeNames, strings.ToLower(c.ChainType)) {
		p.value("ChainType", c.ChainType, "one of "+strings.Join(chainTypeNames, ", "))
	}
	if err := checkHostPort(c.ListenAddr, true); err != nil {
		p.address("ListenAddr", c.ListenAddr, err, wantListen)
	}
	c.checkPools(p)
	c.checkCoinSource(p)
	for i, network := range c.TrustedProxies {
		if _, err := parseNetworks([]string{network}); err != nil {
			p.add(fmt.Sprintf("TrustedProxies[%d]", i), fmt.Sprintf("is %q, must be a network or an address, such as \"10.0.0.0/8\"", network))
		}
	}
	for i, prefix := range c.AgentUserAgents {
		if prefix == "" {
			p.add(fmt.Sprintf("AgentUserAgents[%d]", i), `is "", which all user agents begin with, must be the beginning of an agent's, such as "farm-agent/"`)
		}
	}
	if c.EnableHTTPDebug {
		if err := checkHostPort(c.HTTPDebugListenAddr, true); err != nil {
			p.address("HTTPDebugListenAddr", c.HTTPDebugListenAddr, err, wantHTTP)
		}
	}
	c.checkOwnAddresses(p)
}

func (c *Config) checkPools(p *configProblems) {
	if c.StratumServerMap == nil {
		p.add("StratumServerMap", "is missing, must be "+wantCoins)
	} else if len(c.StratumServerMap) == 0 {
		p.add("StratumServerMap", "is {}, must be "+wantCoins)
	}
	names := make([]string, 0, len(c.StratumServerMap))
	for coin := range c.StratumServerMap {
		names = append(names, coin)
	}
	slices.Sort(names)
	for _, coin := range names {
		pool, key := c.StratumServerMap[coin], joinKey("StratumServerMap", coin)
		if coin == "" || strings.ContainsFunc(coin, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			p.add(key, "has the coin name "+strconv.Quote(coin)+", must be "+wantCoinName)
		}
		if len(coin) > coins.MaxCoin {
			p.add(joinKey("StratumServerMap", strictjson.Shorten(coin)), fmt.Sprintf("has a coin name of %d bytes, must be one of at most %d: no sub-account could have it", len(coin), coins.MaxCoin))
		}
		if pool.URL == "" {
			p.add(key+".URL", "is missing or empty, must be "+wantAddr)
		} else if err := checkPoolURL(pool.URL); err != nil {
			p.address(key+".URL", pool.URL, err, wantAddr)
		}
		switch {
		case pool.ExtraNonce != "" && pool.ExtraNonce != extranonceOfSession && pool.ExtraNonce != extranonceOfPool:
			p.add(key+".ExtraNonce", "is "+strconv.Quote(pool.ExtraNonce)+`, must be "session" or "pool"`)
		case pool.ExtraNonce == extranonceOfPool && strings.ToLower(c.ChainType) != stratum.Bitcoin.String():
			p.add(key+".ExtraNonce", `is "pool", must be "session" with ChainType `+c.ChainType)
		}
		if err := checkWorkerTemplate(pool.Worker); err != nil {
			p.add(key+".Worker", fmt.Sprintf("is %q (%v), must be text with {account}, {miner} and {suffix}", pool.Worker, err))
		}
		for i, backup := range pool.BackupURLs {
			if err := checkPoolURL(backup); err != nil {
				p.address(fmt.Sprintf("%s.BackupURLs[%d]", key, i), backup, err, wantAddr)
			}
		}
	}
}

func (c *Config) checkCoinSource(p *configProblems) {
	if len(c.ZKBroker) == 0 {
		if c.CoinFile == "" {
			p.add("ZKBroker", `is empty and so is CoinFile, a source of coins is needed: ZKBroker, such as ["127.0.0.1:2181"], or CoinFile, such as "coins.json"`)
		}
		return
	}
	if c.CoinFile != "" {
		p.add("CoinFile", fmt.Sprintf("is %q beside ZKBroker, must be left out, or ZKBroker must be: coins come from one of them", strictjson.Shorten(c.CoinFile)))
	}
	for i, broker := range c.ZKBroker {
		if err := checkHostPort(brokerAddr(broker), false); err != nil {
			p.address(fmt.Sprintf("ZKBroker[%d]", i), broker, err, wantBroker)
		}
	}
	if c.ServerID == 0 {
		p.zkDir("ZKServerIDAssignDir", c.ZKServerIDAssignDir)
	}
	p.zkDir("ZKSwitcherWatchDir", c.ZKSwitcherWatchDir)
	if c.EnableUserAutoReg {
		p.zkDir("ZKAutoRegWatchDir", c.ZKAutoRegWatchDir)
		if c.AutoRegMaxWaitUsers < 1 {
			p.add("AutoRegMaxWaitUsers", fmt.Sprintf("is %d, must be at least 1 with EnableUserAutoReg", c.AutoRegMaxWaitUsers))
		}
	}
	if c.usesCaseIndex() {
		p.zkDir("ZKUserCaseInsensitiveIndex", c.ZKUserCaseInsensitiveIndex)
	}
}

// usesCaseIndex reports whether names are looked up in the case index. It is in
// ZooKeeper, and lower-cased names do not need it.
func (c *Config) usesCaseIndex() bool {
	return len(c.ZKBroker) > 0 && !c.StratumServerCaseInsensitive && c.ZKUserCaseInsensitiveIndex != ""
}

// zkDir reports a directory that ZooKeeper cannot have.
func (p *configProblems) zkDir(key, dir string) {
	if coins.CheckDir(dir) != nil {
		p.value(key, dir, wantZKDir)
	}
}

// checkPoolURL checks a pool's address, with or without stratumScheme.
func checkPoolURL(url string) error {
	addr := trimScheme(url)
	if scheme, _, ok := strings.Cut(addr, "://"); ok {
		return fmt.Errorf("%s:// is not supported, %s is", scheme, stratumScheme)
	}
	return checkHostPort(addr, false)
}

// checkHostPort checks an address to listen at or to connect to. Only an
// address to listen at may omit the host or have port 0.
func checkHostPort(addr string, listen bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if e, ok := errors.AsType[*net.AddrError](err); ok {
			return errors.New(e.Err)
		}
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && !listen {
		return fmt.Errorf("bad port %q", port)
	}
	switch {
	case host == "" && listen:
		return nil
	case host == "":
		return errors.New("no host")
	case !isHost(host):
		return fmt.Errorf("bad host %q", host)
	}
	return nil
}

// isHost reports whether a text is an IP address or a host name. Underscores
// are not allowed in host names but common in those of containers.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || bad {
			return false
		}
	}
	// 10.0.0.256 and 10.0.0 are mistyped addresses, not names.
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return err != nil && len(host) <= 253
}
