package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// maxConfigFile bounds the size of the configuration file, in bytes.
const maxConfigFile = 16 << 20

// loadConfig reads and checks the configuration file at path. -check, the start,
// the preflight of an upgrade and the resumption after it all call it.
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

// parseConfig decodes and checks a configuration. The error lists all mistakes, one per
// line. If there are several, the first line gives their number.
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
	given := decodeObject(c, configKeys, "", root, &p)
	if c.CoinFile != "" && !given["ZKBroker"] {
		c.ZKBroker = []string{}
	}
	checkObject(c, configKeys, "", &p)
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

// defaultConfig has the value of every absent key except StratumServerMap.
func defaultConfig() *Config {
	c := new(Config)
	setDefaults(c, configKeys)
	return c
}

// normalise converts values that may be written in several ways to one form.
func (c *Config) normalise() {
	c.ChainType = strings.ToLower(c.ChainType)
	for coin, pool := range c.StratumServerMap {
		pool.normalise(coin)
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
