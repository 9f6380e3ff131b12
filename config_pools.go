package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// StratumServerInfo is one coin's pool, an entry of StratumServerMap. Its fields
// are documented like those of Config, and its rows are in poolKeys.
type StratumServerInfo struct {
	// URL is the pool's host:port, with stratum+ssl:// or stratum+tls:// before it
	// if the pool uses TLS there. It is required. Default: none.
	URL string

	// UserSuffix is for a second try with worker names: if the pool refuses a worker
	// with the sub-account's plain name, the name with an underscore and this suffix
	// is tried. Default: the coin's name.
	UserSuffix string

	// BackupURLs lists more addresses, each written like URL. They are tried in
	// order when URL does not answer. Default: none.
	BackupURLs []string `json:",omitempty"`

	// ExtraNonce says who picks the extranonce. "session" means the switcher,
	// for pools that were built to work behind one; "pool" means the pool, and
	// works with ChainType bitcoin only. Default: session.
	ExtraNonce string `json:",omitempty"`

	// Worker is the template of the worker names at this pool, with {account},
	// {miner} (the part after the dot) and {suffix}. Without a template, the
	// name is account.miner, then account_SUFFIX.miner. Default: none.
	Worker string `json:",omitempty"`

	// Password replaces the miners' passwords. If it is empty, they keep their
	// own. Default: none.
	Password string `json:",omitempty"`

	// TLSServerName is the name that is sent to the pool (SNI) and that must be in its
	// certificate. If it is absent, the host of the address is used. Default: none.
	TLSServerName string `json:",omitempty"`

	// TLSCAFile is the PEM file of the authorities that may have signed the pool's
	// certificate. If it is absent, those that the system trusts are used.
	// Default: none.
	TLSCAFile string `json:",omitempty"`

	// TLSFingerprint is the SHA-256 of the pool's certificate in hexadecimal
	// digits, or several of them, separated by commas. It replaces all other checks of
	// the certificate. Default: none.
	TLSFingerprint string `json:",omitempty"`

	// TLSVerify says whether the pool's certificate is checked; nil means true.
	// Default: true.
	TLSVerify *bool `json:",omitempty"`
}

// poolKeys returns a row for each field of StratumServerInfo, like configKeys.
// Checks may depend on c, the configuration that the pool belongs to.
func poolKeys(c *Config) []configKey[StratumServerInfo] {
	return []configKey[StratumServerInfo]{
		{"URL", textValue(func(s *StratumServerInfo) *string { return &s.URL }, "", wantAddr), func(s *StratumServerInfo, key string, p *configProblems) {
			if s.URL == "" {
				p.add(key, "is missing or empty, must be "+wantAddr)
			} else {
				c.checkPoolURL(key, s.URL, p)
			}
		}},
		{"UserSuffix", textValue(func(s *StratumServerInfo) *string { return &s.UserSuffix }, "", "a string"), nil},
		{"BackupURLs", listValue(func(s *StratumServerInfo) *[]string { return &s.BackupURLs }, nil, wantBackups, wantAddr), func(s *StratumServerInfo, key string, p *configProblems) {
			for i, backup := range s.BackupURLs {
				c.checkPoolURL(fmt.Sprintf("%s[%d]", key, i), backup, p)
			}
		}},
		{"ExtraNonce", textValue(func(s *StratumServerInfo) *string { return &s.ExtraNonce }, "", wantExtraNonce), func(s *StratumServerInfo, key string, p *configProblems) {
			switch s.ExtraNonce {
			case "", extranonceOfSession:
			case extranonceOfPool:
				if strings.ToLower(c.ChainType) != stratum.Bitcoin.String() {
					p.add(key, `is "pool", must be "session" with ChainType `+c.ChainType)
				}
			default:
				p.add(key, "is "+strconv.Quote(s.ExtraNonce)+", must be "+wantExtraNonce)
			}
		}},
		{"Worker", textValue(func(s *StratumServerInfo) *string { return &s.Worker }, "", wantTemplate), func(s *StratumServerInfo, key string, p *configProblems) {
			if err := checkWorkerTemplate(s.Worker); err != nil {
				p.add(key, fmt.Sprintf("is %q (%v), must be %s", s.Worker, err, wantTemplate))
			}
		}},
		{"Password", textValue(func(s *StratumServerInfo) *string { return &s.Password }, "", "a string"), nil},
		{"TLSServerName", textValue(func(s *StratumServerInfo) *string { return &s.TLSServerName }, "", wantServerName), (*StratumServerInfo).checkTLSServerName},
		{"TLSCAFile", textValue(func(s *StratumServerInfo) *string { return &s.TLSCAFile }, "", wantCAFile), (*StratumServerInfo).checkTLSCAFile},
		{"TLSFingerprint", textValue(func(s *StratumServerInfo) *string { return &s.TLSFingerprint }, "", wantFingerprint), (*StratumServerInfo).checkTLSFingerprint},
		{"TLSVerify", verifyValue, (*StratumServerInfo).checkTLSVerify},
	}
}

// The values of ExtraNonce.
const (
	extranonceOfSession = "session"
	extranonceOfPool    = "pool"
)

// Allowed values, as messages describe them.
const (
	wantCoins      = `an object with at least one coin, such as {"btc": {"URL": "127.0.0.1:3333"}}`
	wantCoin       = `an object, such as {"URL": "127.0.0.1:3333", "UserSuffix": "btc"}`
	wantCoinName   = "a name without spaces and control characters"
	wantAddr       = `"host:port" with port 1-65535, such as "127.0.0.1:3333"`
	wantBackups    = `a list of strings, such as ["127.0.0.1:3333"]`
	wantExtraNonce = `"session" or "pool"`
	wantTemplate   = "text with {account}, {miner} and {suffix}"
)

// poolsValue is the value of StratumServerMap.
var poolsValue = keyValue[Config]{
	setDefault: func(*Config) {},
	decode: func(c *Config, key string, v *strictjson.Node, p *configProblems) {
		if v.Kind != strictjson.Object {
			p.wrongType(key, v, wantCoins)
			return
		}
		c.StratumServerMap = make(map[string]StratumServerInfo)
		lines := make(map[string]int)
		for _, m := range v.Members {
			coinKey := joinKey(key, m.Key)
			if first, ok := lines[m.Key]; ok {
				p.add(coinKey, fmt.Sprintf("is given twice, in lines %d and %d, must be given once", first, m.Line))
				continue
			}
			lines[m.Key] = m.Line
			var pool StratumServerInfo
			setDefaults(&pool, poolKeys(c))
			if m.Value.Kind == strictjson.Object {
				decodeObject(&pool, poolKeys(c), coinKey, m.Value, p)
			} else {
				p.wrongType(coinKey, m.Value, wantCoin)
			}
			c.StratumServerMap[m.Key] = pool
		}
	},
}

func (c *Config) checkPools(key string, p *configProblems) {
	if c.StratumServerMap == nil {
		p.add(key, "is missing, must be "+wantCoins)
	} else if len(c.StratumServerMap) == 0 {
		p.add(key, "is {}, must be "+wantCoins)
	}
	for _, coin := range slices.Sorted(maps.Keys(c.StratumServerMap)) {
		pool, coinKey := c.StratumServerMap[coin], joinKey(key, coin)
		if coin == "" || strings.ContainsFunc(coin, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			p.add(coinKey, "has the coin name "+strconv.Quote(coin)+", must be "+wantCoinName)
		}
		if len(coin) > coins.MaxCoin {
			p.add(joinKey(key, strictjson.Shorten(coin)), fmt.Sprintf("has a coin name of %d bytes, must be one of at most %d: no sub-account could have it", len(coin), coins.MaxCoin))
		}
		checkObject(&pool, poolKeys(c), coinKey, p)
	}
}

// checkPoolURL checks a pool's address. It may have a scheme, and it must not be
// an address at which this switcher itself listens.
func (c *Config) checkPoolURL(key, url string, p *configProblems) {
	addr, byTLS := splitPoolURL(url)
	if scheme, _, ok := strings.Cut(addr, "://"); ok {
		p.address(key, url, fmt.Errorf("%s:// is not supported; %s, %s and %s are", scheme, plainScheme, tlsScheme, tlsAlias), wantAddr)
	} else if err := checkHostPort(addr, false); err != nil {
		p.address(key, url, err, wantAddr)
	} else if c.leadsBackHere(addr) {
		p.add(key, fmt.Sprintf("is %q, where this switcher itself listens (ListenAddr is %q), must be a pool's address", strictjson.Shorten(url), strictjson.Shorten(c.ListenAddr)))
	} else if byTLS && !tlsSupported {
		p.add(key, fmt.Sprintf("is %q, must be an address without TLS: TLS needs Linux", strictjson.Shorten(url)))
	}
}

// normalise converts values that may be written in several ways to one form.
func (s *StratumServerInfo) normalise(coin string) {
	if s.UserSuffix == "" {
		s.UserSuffix = coin
	}
	if len(s.BackupURLs) == 0 {
		s.BackupURLs = nil
	}
	s.URL = normalPoolURL(s.URL)
	for i, backup := range s.BackupURLs {
		s.BackupURLs[i] = normalPoolURL(backup)
	}
	if s.verifies() {
		s.TLSVerify = nil
	}
	if s.ExtraNonce == extranonceOfSession {
		s.ExtraNonce = ""
	}
}
