package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stopLimit = 5 * time.Second
	pollEvery = 50 * time.Millisecond
	tailLines = 2000
)

// process is a child in a process group of its own, so that Ctrl-C reaches
// only the bench, which then stops what it started. stop may be called twice.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex // guards the following fields
	lines []string   // the last of its standard error
	first int        // number of lines[0]
	more  chan struct{}
}

func startProcess(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}), more: make(chan struct{})}
	// If the bench is killed its children are told to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go p.follow(bufio.NewScanner(stderr))
	return p, nil
}

// follow reads the log to its end, which is the process's end.
func (p *process) follow(log *bufio.Scanner) {
	for log.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, log.Text())
		if len(p.lines) > tailLines {
			p.lines = p.lines[1:]
			p.first++
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	p.cmd.Wait()
	close(p.ended)
}

// logged is the number of the next line of the log.
func (p *process) logged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first + len(p.lines)
}

// waitLog waits for a line, from number n on, that matches.
func (p *process) waitLog(ctx context.Context, n int, pattern *regexp.Regexp) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		p.mu.Lock()
		for n = max(n, p.first); n < p.first+len(p.lines); n++ {
			if m := pattern.FindStringSubmatch(p.lines[n-p.first]); m != nil {
				p.mu.Unlock()
				return m, nil
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
		case <-p.ended:
			return nil, p.failed(errors.New("it has ended"))
		case <-ctx.Done():
			return nil, p.failed(fmt.Errorf("no line in its log like %q: %w", pattern, ctx.Err()))
		}
	}
}

// failed adds the log's end to an error.
func (p *process) failed(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	tail := p.lines[max(0, len(p.lines)-10):]
	return fmt.Errorf("%s: %w; its log ends with\n%s", p.name, err, strings.Join(tail, "\n"))
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, and then what is left of its group.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
	}
	syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.ended
}

// family is the process and its children.
func (p *process) family() []int {
	pids := []int{p.pid()}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := statFields(pid); len(fields) > 1 && fields[1] == strconv.Itoa(p.pid()) {
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
