package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/child"
)

const (
	daemonPackage = "github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher"
	stopLimit     = 5 * time.Second
	tailLines     = 20
)

// buildDaemon builds the switcher in dir.
func buildDaemon(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "stratumSwitcher")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, daemonPackage)
	// What an interrupted build leaves behind goes with the directory.
	cmd.Env = append(os.Environ(), "GOTMPDIR="+dir)
	inOwnGroup(cmd)
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = stopLimit
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the switcher: %w\n%s", err, output)
	}
	return binary, nil
}

// daemon is the switcher as a child process.
type daemon struct{ *child.Process }

func startDaemon(binary, config string) (*daemon, error) {
	cmd := exec.Command(binary, "-config", config, "-logtostderr", "-v", "1")
	inOwnGroup(cmd)
	p, err := child.Start(cmd, tailLines)
	if err != nil {
		return nil, fmt.Errorf("starting the switcher: %w", err)
	}
	return &daemon{p}, nil
}

var listening = regexp.MustCompile(`listening addr=(\S+)`)

// waitListening returns the address miners connect to.
func (d *daemon) waitListening(ctx context.Context, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, err := d.WaitLine(ctx, 0, listening)
	switch {
	case errors.Is(err, child.ErrEnded):
		return "", d.unexpectedEnd()
	case errors.Is(err, context.DeadlineExceeded):
		return "", errors.New("the switcher does not listen")
	case err != nil:
		return "", err
	}
	return m[1], nil
}

func (d *daemon) unexpectedEnd() error {
	return fmt.Errorf("the switcher ended (%v); its log ends with\n%s", d.Err, d.logTail())
}

func (d *daemon) logTail() string { return d.Tail(tailLines) }

// close ends the process and waits for that.
func (d *daemon) close() {
	if interrupt(d.Cmd.Process) == nil {
		select {
		case <-d.Ended:
			return
		case <-time.After(stopLimit):
		}
	}
	d.Cmd.Process.Kill()
	<-d.Ended
}

// interrupt asks a process to end, where the system can.
func interrupt(p *os.Process) error {
	if runtime.GOOS == "windows" {
		return p.Kill()
	}
	return p.Signal(os.Interrupt)
}
