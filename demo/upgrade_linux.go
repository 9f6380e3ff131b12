package main

import (
	"os"
	"syscall"
)

// upgrades is whether the switcher can replace its own program here.
const upgrades = true

func signalUpgrade(p *os.Process) error { return p.Signal(syscall.SIGUSR2) }
