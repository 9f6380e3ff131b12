package main

import (
	"os/exec"
	"syscall"
)

// inOwnGroup keeps a console's Ctrl-C from the child: the demo ends it when
// the miners are done.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
