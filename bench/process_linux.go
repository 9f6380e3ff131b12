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

// process is a child in its own process group, so that Ctrl-C reaches only the bench,
// which then stops its children. stop may be called twice.
type process struct {
	*child.Process
	name string
}

func startProcess(name string, cmd *exec.Cmd) (*process, error) {
	// If the bench is killed, the kernel sends SIGTERM to its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p, err := child.Start(cmd, tailLines)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &process{p, name}, nil
}

// waitLog waits at most a minute for a line of the log, from number n on, that matches
// pattern. It returns the match and its groups.
func (p *process) waitLog(ctx context.Context, n int, pattern *regexp.Regexp) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	m, err := p.WaitLine(ctx, n, pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return m, nil
}

// failed adds the end of the process's log to an error.
func (p *process) failed(err error) error { return fmt.Errorf("%s: %w", p.name, p.Failed(err)) }

// stop ends the process, and then kills what is left of its group.
func (p *process) stop() {
	p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Ended:
	case <-time.After(stopLimit):
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.Ended
}

// family returns the IDs of the process and of its children.
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

// statFields returns the fields of /proc/PID/stat from the third on, which is the state
// (proc_pid_stat(5)). It returns nil if the process does not exist.
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

// cpuTime returns the sum of the user and system times of processes. The kernel reports
// each in steps of 10 ms.
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
	const perSecond = 100 // USER_HZ, which is the same on all common architectures
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// privateMemory returns the memory that the processes share with no other process, in
// KB of 1,024 bytes.
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

// sleep waits for d. It returns an error if ctx ends earlier.
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
