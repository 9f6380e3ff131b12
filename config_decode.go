package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// The file is parsed into a tree that remembers line numbers, and the tables
// below convert the tree into a Config. So one run reports all mistakes, each
// with its key.

// configProblems collects the mistakes in a file, but only the first one of
// each key, because further ones mostly follow from it.
type configProblems struct {
	errs []error
	keys []string
}

func (p *configProblems) add(key, problem string) {
	for _, known := range p.keys {
		if key == known || strings.HasPrefix(key, known+".") || strings.HasPrefix(key, known+"[") {
			return
		}
	}
	p.keys = append(p.keys, key)
	p.errs = append(p.errs, errors.New(key+" "+problem))
}

// value reports a string that is not allowed.
func (p *configProblems) value(key, value, want string) {
	p.add(key, "is "+strconv.Quote(strictjson.Shorten(value))+", must be "+want)
}

// address reports an address that is not allowed, and why.
func (p *configProblems) address(key, addr string, why error, want string) {
	p.add(key, fmt.Sprintf("is %q (%v), must be %s", strictjson.Shorten(addr), why, want))
}

// wrongType reports a value of the wrong type or out of range.
func (p *configProblems) wrongType(key string, v *strictjson.Node, want string) {
	p.add(key, "is "+v.Written()+", must be "+want)
}

// setter stores a value that is not null in a T.
type setter[T any] func(dst *T, key string, v *strictjson.Node, p *configProblems)

// setting is one key and where its value goes.
type setting[T any] struct {
	key string
	set setter[T]
}

// configSettings are the known keys.
var configSettings = []setting[Config]{
	{"ServerID", func(c *Config, key string, v *strictjson.Node, p *configProblems) {
		id := 0
		intInto(v, &id, 0, 255, key, "a whole number 0-255 (0: claim a free one in ZooKeeper)", p)
		c.ServerID = uint8(id)
	}},
	{"ChainType", stringSetter(func(c *Config) *string { return &c.ChainType }, "a string, one of "+strings.Join(chainTypeNames, ", "))},
	{"ListenAddr", stringSetter(func(c *Config) *string { return &c.ListenAddr }, wantListen)},
	{"StratumServerMap", setPools},
	{"ZKBroker", listSetter(func(c *Config) *[]string { return &c.ZKBroker }, wantBrokers, wantBroker)},
	{"ZKServerIDAssignDir", stringSetter(func(c *Config) *string { return &c.ZKServerIDAssignDir }, wantZKDir)},
	{"ZKSwitcherWatchDir", stringSetter(func(c *Config) *string { return &c.ZKSwitcherWatchDir }, wantZKDir)},
	{"ZKAutoRegWatchDir", stringSetter(func(c *Config) *string { return &c.ZKAutoRegWatchDir }, wantZKDir)},
	{"ZKUserCaseInsensitiveIndex", stringSetter(func(c *Config) *string { return &c.ZKUserCaseInsensitiveIndex }, wantZKDir+`, or "" (off)`)},
	{"EnableUserAutoReg", boolSetter(func(c *Config) *bool { return &c.EnableUserAutoReg })},
	{"AutoRegMaxWaitUsers", func(c *Config, key string, v *strictjson.Node, p *configProblems) {
		// The lower limit depends on EnableUserAutoReg.
		intInto(v, &c.AutoRegMaxWaitUsers, -1<<31, 1<<31-1, key, "a whole number, at least 1", p)
	}},
	{"StratumServerCaseInsensitive", boolSetter(func(c *Config) *bool { return &c.StratumServerCaseInsensitive })},
	{"EnableHTTPDebug", boolSetter(func(c *Config) *bool { return &c.EnableHTTPDebug })},
	{"HTTPDebugListenAddr", stringSetter(func(c *Config) *string { return &c.HTTPDebugListenAddr }, wantHTTP)},
	{"CoinFile", stringSetter(func(c *Config) *string { return &c.CoinFile }, `a file name, such as "coins.json"`)},
	{"DrainSeconds", intSetter(func(c *Config) *int { return &c.DrainSeconds }, 0, 600, " (0: off)")},
	{"PoolIdleSeconds", intSetter(func(c *Config) *int { return &c.PoolIdleSeconds }, 0, 86400, " (0: off)")},
	{"MaxPoolDials", intSetter(func(c *Config) *int { return &c.MaxPoolDials }, 1, 10000, "")},
	{"TrustedProxies", listSetter(func(c *Config) *[]string { return &c.TrustedProxies }, `a list of networks, such as ["10.0.0.0/8"]`, `a network, such as "10.0.0.0/8"`)},
	{"AgentUserAgents", listSetter(func(c *Config) *[]string { return &c.AgentUserAgents }, `a list of beginnings of user agents, such as ["farm-agent/"]`, `the beginning of a user agent, such as "farm-agent/"`)},
	{"ExtraNonce2Size", intSetter(func(c *Config) *int { return &c.ExtraNonce2Size }, 0, 8, " (0: as fits)")},
	{"MaxPoolDialsPerSecond", intSetter(func(c *Config) *int { return &c.MaxPoolDialsPerSecond }, 0, 1000000, " (0: off)")},
	{"MaxSessions", intSetter(func(c *Config) *int { return &c.MaxSessions }, 0, 10000000, " (0: as many as descriptors allow)")},
	{"MaxSessionsPerIP", intSetter(func(c *Config) *int { return &c.MaxSessionsPerIP }, 0, 10000000, " (0: off)")},
	{"MaxConnectsPerSecond", intSetter(func(c *Config) *int { return &c.MaxConnectsPerSecond }, 0, 1000000, " (0: off)")},
	{"ZKSessionTimeoutSeconds", intSetter(func(c *Config) *int { return &c.ZKSessionTimeoutSeconds }, 1, 120, "")},
	{"ZKAuditSeconds", intSetter(func(c *Config) *int { return &c.ZKAuditSeconds }, 0, 86400, " (0: off)")},
}

// poolSettings are the known keys of an entry of StratumServerMap.
var poolSettings = []setting[StratumServerInfo]{
	{"URL", stringSetter(func(s *StratumServerInfo) *string { return &s.URL }, wantAddr)},
	{"UserSuffix", stringSetter(func(s *StratumServerInfo) *string { return &s.UserSuffix }, "a string")},
	{"ExtraNonce", stringSetter(func(s *StratumServerInfo) *string { return &s.ExtraNonce }, `"session" or "pool"`)},
	{"Worker", stringSetter(func(s *StratumServerInfo) *string { return &s.Worker }, "text with {account}, {miner} and {suffix}")},
	{"Password", stringSetter(func(s *StratumServerInfo) *string { return &s.Password }, "a string")},
	{"BackupURLs", listSetter(func(s *StratumServerInfo) *[]string { return &s.BackupURLs }, wantBackups, wantAddr)},
}

// decodeObject stores an object's values in dst and returns the keys that have
// a value. A null leaves dst unchanged.
func decodeObject[T any](dst *T, settings []setting[T], path string, object *strictjson.Node, p *configProblems) (given map[string]bool) {
	lines := make(map[string]int)
	given = make(map[string]bool)
	for _, m := range object.Members {
		// Keys have always been case-insensitive.
		i := slices.IndexFunc(settings, func(s setting[T]) bool { return strings.EqualFold(s.key, m.Key) })
		if i < 0 {
			known := make([]string, len(settings))
			for i, s := range settings {
				known[i] = s.key
			}
			p.add(joinKey(path, m.Key), fmt.Sprintf("(line %d, value %s) is not a known key%s", m.Line, m.Value.Written(), unknownKeyHint(m.Key, known)))
			continue
		}
		s := settings[i]
		key := joinKey(path, s.key)
		if first, ok := lines[s.key]; ok {
			p.add(key, fmt.Sprintf("is given twice, in lines %d and %d, must be given once", first, m.Line))
			continue
		}
		lines[s.key] = m.Line
		if m.Value.Kind != strictjson.Null {
			given[s.key] = true
			s.set(dst, key, m.Value, p)
		}
	}
	return given
}

func setPools(c *Config, key string, v *strictjson.Node, p *configProblems) {
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
		if m.Value.Kind == strictjson.Object {
			decodeObject(&pool, poolSettings, coinKey, m.Value, p)
		} else {
			p.wrongType(coinKey, m.Value, wantCoin)
		}
		c.StratumServerMap[m.Key] = pool
	}
}

func stringSetter[T any](field func(*T) *string, want string) setter[T] {
	return func(dst *T, key string, v *strictjson.Node, p *configProblems) {
		if v.Kind != strictjson.String {
			p.wrongType(key, v, want)
			return
		}
		*field(dst) = v.Text
	}
}

func boolSetter[T any](field func(*T) *bool) setter[T] {
	return func(dst *T, key string, v *strictjson.Node, p *configProblems) {
		if v.Kind != strictjson.Bool {
			p.wrongType(key, v, "true or false")
			return
		}
		*field(dst) = string(v.Raw) == "true"
	}
}

func intSetter[T any](field func(*T) *int, min, max int, note string) setter[T] {
	want := fmt.Sprintf("a whole number %d-%d%s", min, max, note)
	return func(dst *T, key string, v *strictjson.Node, p *configProblems) {
		intInto(v, field(dst), min, max, key, want, p)
	}
}

func intInto(v *strictjson.Node, dst *int, min, max int, key, want string, p *configProblems) {
	n, err := strconv.Atoi(v.Text)
	if v.Kind != strictjson.Number || err != nil || n < min || n > max {
		p.wrongType(key, v, want)
		return
	}
	*dst = n
}

func listSetter[T any](field func(*T) *[]string, want, wantItem string) setter[T] {
	return func(dst *T, key string, v *strictjson.Node, p *configProblems) {
		if v.Kind != strictjson.Array {
			p.wrongType(key, v, want)
			return
		}
		list := make([]string, len(v.Items))
		for i, item := range v.Items {
			if item.Kind != strictjson.String {
				p.wrongType(fmt.Sprintf("%s[%d]", key, i), item, wantItem)
				continue
			}
			list[i] = item.Text
		}
		*field(dst) = list
	}
}

// joinKey returns the full path of a key and quotes unusual keys.
func joinKey(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[] ") || strconv.Quote(key) != `"`+key+`"` {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
