package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
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
type daemon struct {
	cmd       *exec.Cmd
	listening chan string   // gets the address once
	ended     chan struct{} // closed when the process has ended
	err       error         // its end; valid after ended

	mu   sync.Mutex
	tail []string // the log's last lines
}

func startDaemon(binary, config string) (*daemon, error) {
	d := &daemon{listening: make(chan string, 1), ended: make(chan struct{})}
	d.cmd = exec.Command(binary, "-config", config, "-logtostderr", "-v", "1")
	inOwnGroup(d.cmd)
	log, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the switcher: %w", err)
	}
	go d.follow(log)
	return d, nil
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// follow reads the log to its end, which is the process's end.
func (d *daemon) follow(log io.Reader) {
	lines := bufio.NewScanner(log)
	told := false
	for lines.Scan() {
		line := lines.Text()
		d.mu.Lock()
		d.tail = append(d.tail, line)
		if len(d.tail) > tailLines {
			d.tail = d.tail[1:]
		}
		d.mu.Unlock()
		if _, rest, ok := strings.Cut(line, "listening addr="); ok && !told {
			addr, _, _ := strings.Cut(rest, " ")
			d.listening <- addr
			told = true
		}
	}
	io.Copy(io.Discard, log)
	d.err = d.cmd.Wait()
	close(d.ended)
}

// waitListening returns the address miners connect to.
func (d *daemon) waitListening(ctx context.Context, limit time.Duration) (string, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case addr := <-d.listening:
		return addr, nil
	case <-d.ended:
		return "", d.unexpectedEnd()
	case <-timer.C:
		return "", errors.New("the switcher does not listen")
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (d *daemon) unexpectedEnd() error {
	return fmt.Errorf("the switcher ended (%v); its log ends with\n%s", d.err, d.logTail())
}

func (d *daemon) logTail() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.tail, "\n")
}

// close ends the process and waits for that.
func (d *daemon) close() {
	if interrupt(d.cmd.Process) == nil {
		select {
		case <-d.ended:
			return
		case <-time.After(stopLimit):
		}
	}
	d.cmd.Process.Kill()
	<-d.ended
}

// interrupt asks a process to end, where the system can.
func interrupt(p *os.Process) error {
	if runtime.GOOS == "windows" {
		return p.Kill()
	}
	return p.Signal(os.Interrupt)
}
