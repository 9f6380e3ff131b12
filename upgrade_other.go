//go:build !linux || portable_relay

package main

import (
	"errors"
	"os"
)

var errNoUpgrade = errors.New("hot upgrades need Linux")

type upgrader struct{}

func newUpgrader(*daemon) (*upgrader, error) { return nil, errNoUpgrade }

func (*upgrader) upgrade() error { return errNoUpgrade }

func (*daemon) resume(string, string) error { return errNoUpgrade }

// notifyUpgrade does nothing, because this system has no signal for upgrades.
func notifyUpgrade(chan os.Signal) {}
