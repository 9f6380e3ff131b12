package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The library decoders stop at the first mistake, do not see duplicate keys
// and can not say where an unknown key is. So the file is read into a tree
// that remembers lines, and the tree into a Config by the tables below.

// jsonNode is one JSON value of the file.
type jsonNode struct {
	raw     []byte // the value as written
	kind    byte   // one of { [ " 0 t n
	text    string // of a string or number
	members []jsonMember
	items   []*jsonNode
}

type jsonMember struct {
	key   string
	line  int
	value *jsonNode
}

// configProblems collects what is wrong with a file: the first problem of a
// key, since further ones mostly follow from it.
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
	p.add(key, "is "+strconv.Quote(shorten(value))+", must be "+want)
}

// address reports an address that is not allowed, and why.
func (p *configProblems) address(key, addr string, why error, want string) {
	p.add(key, fmt.Sprintf("is %q (%v), must be %s", shorten(addr), why, want))
}

// wrongType reports a value of the wrong type or out of range.
func (p *configProblems) wrongType(key string, v *jsonNode, want string) {
	p.add(key, "is "+v.written()+", must be "+want)
}

// written is the value as in the file, for messages.
func (v *jsonNode) written() string {
	var line bytes.Buffer
	if json.Compact(&line, v.raw) != nil {
		return "?"
	}
	return shorten(line.String())
}

// setter puts a value that is not null into a T.
type setter[T any] func(dst *T, key string, v *jsonNode, p *configProblems)

// setting is one key and where its value goes.
type setting[T any] struct {
	key string
	set setter[T]
}

// configSettings are the known keys.
var configSettings = []setting[Config]{
	{"ServerID", func(c *Config, key string, v *jsonNode, p *configProblems) {
		id := 0
		v.intInto(&id, 0, 255, key, "a whole number 0-255 (0: claim a free one in ZooKeeper)", p)
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
	{"AutoRegMaxWaitUsers", func(c *Config, key string, v *jsonNode, p *configProblems) {
		// The lower limit depends on EnableUserAutoReg.
		v.intInto(&c.AutoRegMaxWaitUsers, -1<<31, 1<<31-1, key, "a whole number, at least 1", p)
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

// decodeObject puts what an object gives into dst, and returns the keys it
// has a value for. A null leaves dst as it is.
func decodeObject[T any](dst *T, settings []setting[T], path string, object *jsonNode, p *configProblems) (given map[string]bool) {
	lines := make(map[string]int)
	given = make(map[string]bool)
	for _, m := range object.members {
		// Case was never looked at in keys.
		i := slices.IndexFunc(settings, func(s setting[T]) bool { return strings.EqualFold(s.key, m.key) })
		if i < 0 {
			known := make([]string, len(settings))
			for i, s := range settings {
				known[i] = s.key
			}
			p.add(joinKey(path, m.key), fmt.Sprintf("(line %d, value %s) is not a known key, must be one of %s", m.line, m.value.written(), strings.Join(known, ", ")))
			continue
		}
		s := settings[i]
		key := joinKey(path, s.key)
		if first, ok := lines[s.key]; ok {
			p.add(key, fmt.Sprintf("is given twice, in lines %d and %d, must be given once", first, m.line))
			continue
		}
		lines[s.key] = m.line
		if m.value.kind != 'n' {
			given[s.key] = true
			s.set(dst, key, m.value, p)
		}
	}
	return given
}

func setPools(c *Config, key string, v *jsonNode, p *configProblems) {
	if v.kind != '{' {
		p.wrongType(key, v, wantCoins)
		return
	}
	c.StratumServerMap = make(map[string]StratumServerInfo)
	lines := make(map[string]int)
	for _, m := range v.members {
		coinKey := joinKey(key, m.key)
		if first, ok := lines[m.key]; ok {
			p.add(coinKey, fmt.Sprintf("is given twice, in lines %d and %d, must be given once", first, m.line))
			continue
		}
		lines[m.key] = m.line
		var pool StratumServerInfo
		if m.value.kind == '{' {
			decodeObject(&pool, poolSettings, coinKey, m.value, p)
		} else {
			p.wrongType(coinKey, m.value, wantCoin)
		}
		c.StratumServerMap[m.key] = pool
	}
}

func stringSetter[T any](field func(*T) *string, want string) setter[T] {
	return func(dst *T, key string, v *jsonNode, p *configProblems) {
		if v.kind != '"' {
			p.wrongType(key, v, want)
			return
		}
		*field(dst) = v.text
	}
}

func boolSetter[T any](field func(*T) *bool) setter[T] {
	return func(dst *T, key string, v *jsonNode, p *configProblems) {
		if v.kind != 't' {
			p.wrongType(key, v, "true or false")
			return
		}
		*field(dst) = string(v.raw) == "true"
	}
}

func intSetter[T any](field func(*T) *int, min, max int, note string) setter[T] {
	want := fmt.Sprintf("a whole number %d-%d%s", min, max, note)
	return func(dst *T, key string, v *jsonNode, p *configProblems) {
		v.intInto(field(dst), min, max, key, want, p)
	}
}

func (v *jsonNode) intInto(dst *int, min, max int, key, want string, p *configProblems) {
	n, err := strconv.Atoi(v.text)
	if v.kind != '0' || err != nil || n < min || n > max {
		p.wrongType(key, v, want)
		return
	}
	*dst = n
}

func listSetter[T any](field func(*T) *[]string, want, wantItem string) setter[T] {
	return func(dst *T, key string, v *jsonNode, p *configProblems) {
		if v.kind != '[' {
			p.wrongType(key, v, want)
			return
		}
		list := make([]string, len(v.items))
		for i, item := range v.items {
			if item.kind != '"' {
				p.wrongType(fmt.Sprintf("%s[%d]", key, i), item, wantItem)
				continue
			}
			list[i] = item.text
		}
		*field(dst) = list
	}
}

// joinKey gives the full path of a key, with unusual ones quoted.
func joinKey(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[] ") || strconv.Quote(key) != `"`+key+`"` {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// shorten keeps messages readable when the value is not.
func shorten(value string) string {
	const most = 80
	if len(value) <= most {
		return value
	}
	cut := most
	for !utf8.RuneStart(value[cut]) {
		cut--
	}
	return value[:cut] + "…"
}

// parseJSON reads text into a tree. Its errors give line and column.
func parseJSON(text []byte) (*jsonNode, error) {
	text, err := trimByteOrderMark(text)
	if err != nil {
		return nil, err
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		offset := len(text)
		if e, ok := errors.AsType[*json.SyntaxError](err); ok && !strings.HasPrefix(e.Error(), "unexpected end") {
			offset = int(e.Offset) - 1
		}
		line, column := position(text, offset)
		return nil, fmt.Errorf("line %d column %d: %w", line, column, err)
	}
	t := treeReader{text: text, dec: json.NewDecoder(bytes.NewReader(text)), line: 1}
	t.dec.UseNumber()
	return t.value()
}

// position counts lines and characters from 1.
func position(text []byte, offset int) (line, column int) {
	before := text[:offset]
	line = 1 + bytes.Count(before, []byte("\n"))
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}

// treeReader reads text that is known to be valid JSON.
type treeReader struct {
	text    []byte
	dec     *json.Decoder
	counted int // bytes of text whose newlines are in line
	line    int
}

func (t *treeReader) value() (*jsonNode, error) {
	from := int(t.dec.InputOffset())
	from += len(t.text[from:]) - len(bytes.TrimLeft(t.text[from:], " \t\r\n,:"))
	token, err := t.dec.Token()
	if err != nil {
		return nil, err
	}
	v := &jsonNode{kind: 'n'}
	switch token := token.(type) {
	case string:
		v.kind, v.text = '"', token
	case json.Number:
		v.kind, v.text = '0', token.String()
	case bool:
		v.kind = 't'
	case json.Delim:
		v.kind = byte(token)
		if err := t.contents(v); err != nil {
			return nil, err
		}
	}
	v.raw = t.text[from:t.dec.InputOffset()]
	return v, nil
}

// contents reads what an object or array holds, and its end.
func (t *treeReader) contents(v *jsonNode) error {
	for t.dec.More() {
		if v.kind == '[' {
			item, err := t.value()
			if err != nil {
				return err
			}
			v.items = append(v.items, item)
			continue
		}
		token, err := t.dec.Token()
		if err != nil {
			return err
		}
		m := jsonMember{key: token.(string), line: t.lineHere()}
		if m.value, err = t.value(); err != nil {
			return err
		}
		v.members = append(v.members, m)
	}
	_, err := t.dec.Token()
	return err
}

// lineHere is the line of the token just read.
func (t *treeReader) lineHere() int {
	here := int(t.dec.InputOffset())
	t.line += bytes.Count(t.text[t.counted:here], []byte("\n"))
	t.counted = here
	return t.line
}
