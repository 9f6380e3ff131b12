// Package child runs a program as a child process and reads the lines of its
// standard error. The demo, the bench and the tests of the built daemon use it to
// start daemons.
//
// Any goroutine may use a Process. The caller that starts one must end it.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// maxLine is the length of the longest line that is kept. A longer line, and everything
// after it, is read and dropped.
const maxLine = 1 << 20

// Process is a program that was started.
type Process struct {
	Cmd   *exec.Cmd
	Ended chan struct{} // closed when the process has ended and all its lines are read
	Err   error         // the error of Cmd.Wait; valid once Ended is closed

	keep int // how many lines are kept; 0 means all

	mu    sync.Mutex    // guards the following fields
	lines []string      // the latest lines
	first int           // the number of lines[0]
	more  chan struct{} // closed when there is another line
}

// Start starts cmd, whose Stderr must not be set, and reads its standard error. keep is
// how many of the latest lines are kept, or 0 for all.
func Start(cmd *exec.Cmd, keep int) (*Process, error) {
	p := &Process{Cmd: cmd, Ended: make(chan struct{}), keep: keep, more: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.follow(stderr)
	return p, nil
}

// StartUnread is Start for a program whose standard error goes elsewhere.
func StartUnread(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Ended: make(chan struct{}), more: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.wait()
	return p, nil
}

// follow reads the lines until the process closes its standard error.
func (p *Process) follow(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		if p.keep > 0 && len(p.lines) > p.keep {
			p.lines = p.lines[1:]
			p.first++
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, stderr)
	p.wait()
}

func (p *Process) wait() {
	p.Err = p.Cmd.Wait()
	close(p.Ended)
}

// PID returns the process's ID.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// Logged returns the number of the next line.
func (p *Process) Logged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first + len(p.lines)
}

// Lines returns the lines from number n on that are still kept.
func (p *Process) Lines(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines[min(max(0, n-p.first), len(p.lines)):])
}

// Tail returns the last n lines as one text.
func (p *Process) Tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-n):], "\n")
}

// ErrEnded means that the process has ended without the awaited line.
var ErrEnded = errors.New("it has ended")

// WaitLine waits for a line, from number n on, that matches, and returns its
// submatches. An error contains the end of the log.
func (p *Process) WaitLine(ctx context.Context, n int, pattern *regexp.Regexp) ([]string, error) {
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
		case <-p.Ended:
			if p.Logged() > n {
				continue // the process wrote more lines before it ended
			}
			return nil, p.Failed(ErrEnded)
		case <-ctx.Done():
			return nil, p.Failed(fmt.Errorf("its log has no line like %q: %w", pattern, ctx.Err()))
		}
	}
}

// failedLines is how many lines of the log an error contains.
const failedLines = 20

// Failed adds the end of the log to an error.
func (p *Process) Failed(err error) error {
	return fmt.Errorf("%w; its log ends with\n%s", err, p.Tail(failedLines))
}
