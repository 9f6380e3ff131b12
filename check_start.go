package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

// checkStart tries what a start with configuration c would do, in the same order
// (loadConfig, daemon.prepare, listeners). If it accepts a configuration, a start would
// work on this machine now. If it refuses one, the start would refuse it with the same
// message. For the preflight of an upgrade, before describes the process to be replaced,
// and that process's addresses are left alone; otherwise before is nil.
//
// The only exception is an address that is in use, which is mentioned in notes. In most
// cases the running switcher uses it, and its operator checks a configuration for later.
// Warnings are about settings that do not prevent a start but should be changed.
func checkStart(c *Config, before *upgradeContext) (warnings, notes []string, err error) {
	if len(c.ZKBroker) > 0 {
		var unclaimed string
		if unclaimed, err = zkOptionsOf(c).Check(); unclaimed != "" {
			warnings = append(warnings, "warning: "+unclaimed)
		}
	} else {
		var useless []string
		useless, err = coins.CheckFile(c.CoinFile, coinFileRulesOf(c))
		for _, warning := range useless {
			warnings = append(warnings, "warning: coin file "+c.CoinFile+": "+warning)
		}
		if before != nil && errors.Is(err, regularfile.ErrTooSlow) {
			// The next process continues with the coins of this one.
			warnings, err = append(warnings, "warning: "+err.Error()), nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := checkEventFile(c); err != nil {
		if before == nil || !errors.Is(err, regularfile.ErrTooSlow) {
			return nil, nil, err
		}
		warnings = append(warnings, "warning: "+err.Error()) // only events are lost
	}
	raiseDescriptorLimit()
	pools, err := newPools(c, newHealth())
	if err != nil {
		return nil, nil, err
	}
	room, err := sessionRoom(c, descriptorLimit())
	if err != nil {
		return nil, nil, err
	}
	for _, warning := range portWarnings(pools, room) {
		warnings = append(warnings, "warning: "+warning)
	}
	tlsWarnings, err := checkTLSFiles(c, pools, c.checkTLSPair)
	if err != nil {
		return nil, nil, err
	}
	for _, warning := range tlsWarnings {
		warnings = append(warnings, "warning: "+warning)
	}
	if warning := sizeWarning(c); warning != "" {
		warnings = append(warnings, "warning: "+warning)
	}
	if before != nil {
		return warnings, nil, before.check(c)
	}
	notes, err = tryListeners(c)
	return warnings, notes, err
}

// tryListeners opens both listeners as a start does, and closes them. The
// notes are about addresses that somebody else uses now.
func tryListeners(c *Config) (notes []string, err error) {
	ln, err := listen(c.ListenAddr)
	switch {
	case err == nil:
		defer ln.Close()
	case addressInUse(err):
		notes = append(notes, inUseNote("ListenAddr", c.ListenAddr))
	default:
		return nil, err
	}
	if !c.EnableHTTPDebug {
		return notes, nil
	}
	err = tryHTTP(c)
	if err == nil {
		return notes, nil
	}
	if !addressInUse(err) {
		return nil, err
	}
	if ln != nil {
		// The listener opened above may be what uses the address.
		ln.Close()
		if tryHTTP(c) == nil {
			return nil, err
		}
	}
	return append(notes, inUseNote("HTTPDebugListenAddr", c.HTTPDebugListenAddr)), nil
}

func tryHTTP(c *Config) error {
	ln, err := listenHTTP(c)
	if err != nil {
		return err
	}
	return ln.Close()
}

func addressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

func inUseNote(key, addr string) string {
	return fmt.Sprintf("note: %s %s is in use now, as it is if the switcher runs; a second one could not start", key, addr)
}
