//go:build !windows

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Signals, which Windows has not.

func TestTerminationSignal(t *testing.T) {
	t.Parallel()
	p := play(t, nil, "-interval", "300ms")
	p.until("shall mine")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.end(0)
}

func TestSignalWhileBuilding(t *testing.T) {
	t.Parallel()
	p := play(t, nil)
	p.until("Building")
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.end(0)
}

func TestClosedOutput(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	temp := t.TempDir()
	cmd := exec.Command(demoBinary)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.Stdout = write
	err = cmd.Run()
	write.Close()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
