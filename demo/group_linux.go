package main

import (
	"os/exec"
	"syscall"
)

// inOwnGroup keeps a terminal's Ctrl-C from the child, because the demo ends the child
// after the miners. If the demo is killed, the kernel sends SIGTERM to the child.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
