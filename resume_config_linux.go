//go:build linux && !portable_relay

package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/golang/glog"
)

// The configuration of a program that has replaced another.

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
