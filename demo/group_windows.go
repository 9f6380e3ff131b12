package main

import (
	"os/exec"
	"syscall"
)

// inOwnGroup keeps a console's Ctrl-C from the child, because the demo ends the child
// after the miners.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
