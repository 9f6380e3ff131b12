//go:build !windows

package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// These tests use signals, which Windows does not have.

func TestTerminationSignal(t *testing.T) {
	t.Parallel()
	p := play(t, nil, "-pause", "300ms")
	p.until("is to mine")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.end(0)
}

// The page can be read while the demo runs.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	p := play(t, nil, "-times", "0", "-pause", "1m")
	p.until("21 miners of")
	page := regexp.MustCompile(`status page is (\S+)`).FindStringSubmatch(p.said.String())[1]
	reply, err := http.Get(page + "api/status")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	reply.Body.Close()
	if err != nil || !bytes.Contains(text, []byte(`"version":"demo-1"`)) {
		t.Errorf("the page at %s says %q, %v", page, text, err)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
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
		t.Errorf("the demo ended with %v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("the demo has left %v", left)
	}
}
