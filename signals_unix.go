//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreTerminal sees that a terminal's setting (stty tostop) does not stop the
// whole process when it writes a line to it from the background.
func ignoreTerminal() { signal.Ignore(syscall.SIGTTOU) }
