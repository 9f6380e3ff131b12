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

// versions are the versions of the switcher between which upgrades alternate.
var versions = [2]string{"demo-1", "demo-2"}

func executable(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

// buildDaemon builds a version of the switcher, in a file in dir that has the version as
// its name.
func buildDaemon(ctx context.Context, dir, version string) error {
	// The version is given, so the state of the checkout does not matter. Without symbols
	// and debugging information, linking takes a third less time.
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+version, "-o", executable(dir, version), daemonPackage)
	// Files that an interrupted build leaves behind are removed with dir.
	cmd.Env = append(os.Environ(), "GOTMPDIR="+dir)
	inOwnGroup(cmd)
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = stopLimit
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the switcher: %w\n%s", err, output)
	}
	return nil
}

// daemon is the switcher as a child process.
type daemon struct {
	*child.Process
	dir     string // its working directory, with its binary
	version int    // index into versions
}

// startDaemon starts the first version.
func startDaemon(dir, config string) (*daemon, error) {
	d := &daemon{dir: dir}
	if err := d.install(0); err != nil {
		return nil, err
	}
	cmd := exec.Command(d.binary(), "-config", config, "-logtostderr", "-v", "1")
	cmd.Dir = dir
	inOwnGroup(cmd)
	p, err := child.Start(cmd, tailLines)
	if err != nil {
		return nil, fmt.Errorf("starting the switcher: %w", err)
	}
	d.Process = p
	return d, nil
}

func (d *daemon) binary() string { return executable(d.dir, "stratumSwitcher") }

// install replaces the daemon's binary with that of a version.
func (d *daemon) install(version int) error {
	next := executable(d.dir, "next")
	if err := os.Link(executable(d.dir, versions[version]), next); err != nil {
		return err
	}
	d.version = version
	return os.Rename(next, d.binary())
}

var (
	listening = regexp.MustCompile(`listening addr=(\S+)`)
	upgraded  = regexp.MustCompile(`(upgraded) version=(\S+) sessions=(\d+) lost=\d+.* pause_ms=(\S+)|upgrade (?:refused|undone|failed).*`)
)

// waitListening waits until the daemon listens and returns the address for miners.
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

// upgrade makes the process upgrade to the other version. sessions and pause (in
// milliseconds) are texts from its log.
func (d *daemon) upgrade(ctx context.Context, limit time.Duration) (sessions, pause string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := d.install(1 - d.version); err != nil {
		return "", "", err
	}
	logged := d.Logged()
	if err := signalUpgrade(d.Cmd.Process); err != nil {
		return "", "", err
	}
	m, err := d.WaitLine(ctx, logged, upgraded)
	switch {
	case errors.Is(err, child.ErrEnded):
		return "", "", d.unexpectedEnd()
	case err != nil:
		return "", "", err
	case m[1] == "" || m[2] != versions[d.version]:
		return "", "", fmt.Errorf("the switcher's log says %q", m[0])
	}
	return m[3], m[4], nil
}

func (d *daemon) unexpectedEnd() error {
	return fmt.Errorf("the switcher ended (%v); its log ends with\n%s", d.Err, d.logTail())
}

func (d *daemon) logTail() string { return d.Tail(tailLines) }

// close ends the process and waits until it has ended.
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

// interrupt asks a process to end or, on Windows, kills it.
func interrupt(p *os.Process) error {
	if runtime.GOOS == "windows" {
		return p.Kill()
	}
	return p.Signal(os.Interrupt)
}
