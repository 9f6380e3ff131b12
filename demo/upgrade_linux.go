package main

import (
	"os"
	"syscall"
)

// upgrades is true on systems where the switcher can replace its own program.
const upgrades = true

func signalUpgrade(p *os.Process) error { return p.Signal(syscall.SIGUSR2) }
