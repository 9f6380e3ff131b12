//go:build !linux

package main

import (
	"errors"
	"os"
)

// upgrades is whether the switcher can replace its own program here.
const upgrades = false

func signalUpgrade(*os.Process) error { return errors.ErrUnsupported }
