//go:build !linux

package main

import (
	"errors"
	"os"
)

// upgrades is true on systems where the switcher can replace its own program.
const upgrades = false

func signalUpgrade(*os.Process) error { return errors.ErrUnsupported }
