//go:build linux && !portable_relay

package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
)

// The configuration of a program that has replaced another, and the pools of the former
// configuration that resumed sessions still use.

// lastGoodConfig makes the daemon use the former process's configuration, because the
// file's cannot be used for the reason why. It returns why if the former configuration is
// missing or invalid too.
func (d *daemon) lastGoodConfig(st *runtimeState, why error) error {
	if st.Config == nil {
		return why
	}
	text, err := json.Marshal(st.Config)
	if err != nil {
		return why
	}
	// The state file may hold anything, so it is checked like a configuration
	// file.
	config, err := parseConfig(text)
	if err != nil {
		glog.Errorf("resume: the last good configuration: %v", err)
		return why
	}
	glog.Errorf("resume: %v; SERVING WITH THE LAST GOOD CONFIGURATION", why)
	d.config, d.configRefused = config, why
	return nil
}

// recordConfig adds the event that this process has refused the configuration file, or
// that it uses other values than the former process, whose configuration is before.
func (d *daemon) recordConfig(before *Config) {
	mon := d.manager.monitor
	if mon.file == nil || before == nil {
		return
	}
	if d.configRefused != nil {
		mon.recordReload("configuration refused", d.configRefused.Error())
	} else if changed := changedKeys(before, d.config); len(changed) > 0 {
		mon.recordReload("configuration taken", "changed: "+strings.Join(changed, ", "))
	}
}

// changedKeys returns the keys whose values differ between two configurations.
func changedKeys(a, b *Config) (changed []string) {
	keys := func(c *Config) (m map[string]json.RawMessage) {
		if text, err := json.Marshal(c); err == nil {
			_ = json.Unmarshal(text, &m) // it was just composed
		}
		return m
	}
	before, now := keys(a), keys(b)
	for i := range configKeys {
		if name := configKeys[i].name; !bytes.Equal(before[name], now[name]) {
			changed = append(changed, name)
		}
	}
	return changed
}

// otherPool returns the configuration of p if StratumServerMap no longer has p for its
// coin, because the next process would not find it there. Otherwise it returns nil.
func (m *sessionManager) otherPool(p *pool) *StratumServerInfo {
	if m.pools[p.coin] == p {
		return nil
	}
	return &p.server
}

// formerPool returns the pool to which a session of the former process was connected.
// That is server or, if server is nil, the coin's pool in the former configuration. If
// the coin's present pool is the same, formerPool returns that.
func (m *sessionManager) formerPool(coin string, server *StratumServerInfo) *pool {
	m.mu.Lock()
	defer m.mu.Unlock()
	former := m.former[coin]
	if server != nil {
		// Different servers differ in their JSON too.
		text, err := json.Marshal(server)
		if err != nil {
			glog.Errorf("resume: former pool: %v", err)
			return nil
		}
		key := otherPoolKey{coin, string(text)}
		if former = m.otherPools[key]; former == nil {
			pools, err := newPools(&Config{StratumServerMap: map[string]StratumServerInfo{coin: *server}}, m.health)
			if err != nil {
				m.limitedLog.Errorf("former pool", "resume: former pool: %v", err)
				return nil
			}
			if m.otherPools == nil {
				m.otherPools = make(map[otherPoolKey]*pool)
			}
			former = pools[coin]
			m.rates.adopt(pools)
			m.otherPools[key] = former
		}
	}
	if former == nil {
		return m.pools[coin]
	}
	if p := m.pools[coin]; p != nil && p.sameAs(former) {
		return p
	}
	return former
}

// connectedPool makes a pool from the peer address of a connection. It is for sessions of
// an older switcher whose coin is no longer in the configuration.
func (m *sessionManager) connectedPool(coin string, fd int) *pool {
	addr, err := relay.PeerAddr(fd)
	if err != nil {
		return nil
	}
	return m.formerPool(coin, &StratumServerInfo{URL: addr.String(), UserSuffix: coin})
}
