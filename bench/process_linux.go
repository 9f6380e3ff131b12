package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/child"
)

const (
	stopLimit = 5 * time.Second
	pollEvery = 50 * time.Millisecond
	tailLines = 2000
)

// process is a child in a process group of its own, so that Ctrl-C reaches
// only the bench, which then stops what it started. stop may be called twice.
type process struct {
	*child.Process
	name string
}

func startProcess(name string, cmd *exec.Cmd) (*process, error) {
	// If the bench is killed its children are told to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p, err := child.Start(cmd, tailLines)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &process{p, name}, nil
}

// waitLog waits for a line, from number n on, that matches.
func (p *process) waitLog(ctx context.Context, n int, pattern *regexp.Regexp) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	m, err := p.WaitLine(ctx, n, pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return m, nil
}

// failed adds the log's end to an error.
func (p *process) failed(err error) error { return fmt.Errorf("%s: %w", p.name, p.Failed(err)) }

// stop ends the process, and then what is left of its group.
func (p *process) stop() {
	p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Ended:
	case <-time.After(stopLimit):
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.Ended
}

// family is the process and its children.
func (p *process) family() []int {
	pids := []int{p.PID()}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := statFields(pid); len(fields) > 1 && fields[1] == strconv.Itoa(p.PID()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// statFields are those of /proc/PID/stat from the third, the state, on.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
	if !ok {
		return nil
	}
	return strings.Fields(rest)
}

// cpuTime is the user and system time of processes, in steps of 10 ms each.
func cpuTime(pids []int) (time.Duration, error) {
	var ticks int64
	for _, pid := range pids {
		fields := statFields(pid)
		if len(fields) < 13 {
			return 0, fmt.Errorf("process %d is gone", pid)
		}
		for _, text := range fields[11:13] {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			ticks += n
		}
	}
	const perSecond = 100 // of USER_HZ, on all of Linux's architectures
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// privateMemory is what processes share with nobody, in KB of 1024 bytes.
func privateMemory(pids []int) (kb float64, err error) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if fields := strings.Fields(line); strings.HasPrefix(line, "Private_") && len(fields) > 1 {
				n, err := strconv.ParseFloat(fields[1], 64)
				if err != nil {
					return 0, fmt.Errorf("/proc/%d/smaps_rollup: %w", pid, err)
				}
				kb += n
			}
		}
	}
	return kb, nil
}

// sleep is time.Sleep that ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
