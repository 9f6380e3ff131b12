//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreTerminal makes sure that a terminal's setting (stty tostop) does not stop the
// process when it writes a line to the terminal from the background.
func ignoreTerminal() { signal.Ignore(syscall.SIGTTOU) }
