//go:build linux && !portable_relay

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

const (
	preflightTimeout = 10 * time.Second

	// answerTimeout bounds the wait for an answer, which should be in the pipe
	// already.
	answerTimeout = time.Second

	// preflightAnswerFD is where the new program writes its answer.
	preflightAnswerFD = 4

	// maxPreflightOutput bounds how much of a failed preflight's output is
	// kept.
	maxPreflightOutput = 4096

	// maxScript bounds the size of a script in the program's place.
	maxScript = 1 << 20

	// upgradeFDs is how many descriptors an upgrade may need for a moment.
	upgradeFDs = 16
)

// newProgram is the file that an upgrade runs, first in the preflight and then
// as the new process.
//
// A program is run by its open descriptor both times, so what passed the preflight is what
// is started, whatever happens to the path meanwhile. A script cannot be run this way,
// because its interpreter opens it again by name, and many scripts look for neighbouring
// files by that name. A script is run by its path, directly after a comparison with what
// passed the preflight, so that only microseconds are left in which it could be replaced.
// The programs that a script runs may change as well. That is the responsibility of
// whoever installs the script.
type newProgram struct {
	file   *os.File
	path   string // for exec
	script []byte // content of the script; nil if the file is not a script

	takesTunnels bool // the program can take over connections with TLS; see preflightAnswer
}

func openProgram(path string) (*newProgram, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: do not wait for the writer of a FIFO
	if err != nil {
		return nil, err
	}
	p, err := newProgramOf(file, path)
	if err != nil {
		file.Close()
		return nil, err
	}
	return p, nil
}

func newProgramOf(file *os.File, path string) (*newProgram, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return nil, fmt.Errorf("%s is not an executable file", path)
	}
	magic := make([]byte, 4)
	n, err := file.ReadAt(magic, 0)
	switch {
	case string(magic) == "\x7fELF":
		return &newProgram{file: file, path: fmt.Sprintf("/proc/self/fd/%d", file.Fd())}, nil
	case n >= 2 && string(magic[:2]) == "#!":
		p := &newProgram{file: file, path: path}
		if p.script, err = readScript(file); err != nil {
			return nil, fmt.Errorf("preflight of %s: %w", path, err)
		}
		return p, nil
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	}
	return nil, fmt.Errorf("preflight of %s: neither an ELF program nor a script: exec format error", path)
}

func readScript(file *os.File) ([]byte, error) {
	script, err := io.ReadAll(io.NewSectionReader(file, 0, maxScript+1))
	if err == nil && len(script) > maxScript {
		err = fmt.Errorf("a script of more than %d bytes", maxScript)
	}
	return script, err
}

// unchanged reports whether a script is still what passed the preflight.
func (p *newProgram) unchanged() error {
	if p.script == nil {
		return nil
	}
	file, err := os.OpenFile(p.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	now, err := file.Stat()
	if err != nil {
		return err
	}
	before, err := p.file.Stat()
	if err != nil {
		return err
	}
	script, err := readScript(file)
	if err != nil {
		return err
	}
	if !os.SameFile(before, now) || !bytes.Equal(script, p.script) {
		return fmt.Errorf("%s has changed since the preflight", p.path)
	}
	return nil
}

func (p *newProgram) close() { p.file.Close() }

// preflight runs the new program with -check, which also makes sure that the
// new process will be able to open what it needs. A good exit status is not
// enough, because many other programs end with one: the program has to answer
// from the process that was started, through a descriptor that it inherits as
// it will inherit the miners' connections.
func (u *upgrader) preflight(program *newProgram) error {
	if err := checkDescriptorRoom(); err != nil {
		return err
	}
	writable := func() (struct{}, error) { return struct{}{}, u.checkStateDirectory() }
	if _, err := inStep(u, u.state, regularfile.Wait, writable, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), preflightTimeout)
	defer cancel()
	defer u.cancelOnStop(cancel)()
	answer, answerTo, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answer.Close()
	defer answerTo.Close()
	from := upgradeContext{StateVersion: runtimeVersion, ListenAddr: u.config.ListenAddr, ChainType: u.config.ChainType, AnswerFD: preflightAnswerFD}
	if u.config.EnableHTTPDebug {
		from.HTTPAddr = u.config.HTTPDebugListenAddr
	}
	env, err := json.Marshal(from)
	if err != nil {
		return err
	}
	var output limitedBuffer
	// The descriptor gets another number in the child, because the child may
	// use its number here for a pipe on its way to exec.
	path := "/proc/self/fd/3"
	if program.script != nil {
		path = program.path
	}
	cmd := exec.CommandContext(ctx, path, append(withoutFlag(u.args, "runtime"), "-check")...)
	cmd.ExtraFiles = []*os.File{program.file, answerTo} // 3, preflightAnswerFD
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), upgradeContextVariable+"="+string(env))
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	// A new process group, so that signals from the terminal do not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := runPreflight(ctx, cmd); err != nil {
		if errors.Is(err, errPreflightStuck) {
			return fmt.Errorf("preflight of %s: %w", u.binary, err)
		}
		switch ctx.Err() {
		case context.DeadlineExceeded:
			err = fmt.Errorf("not done within %v", preflightTimeout)
		case context.Canceled:
			err = errStopped
		}
		return fmt.Errorf("preflight of %s: %w: %s", u.binary, err, bytes.TrimSpace(output.b))
	}
	answerTo.Close()
	said, err := readPreflightAnswer(answer)
	if err == nil {
		err = said.check(cmd.Process.Pid)
	}
	if err != nil {
		return fmt.Errorf("preflight of %s: %w: %s", u.binary, err, bytes.TrimSpace(output.b))
	}
	program.takesTunnels = said.Tunnels
	glog.V(1).Infof("upgrade preflight answered name=%s version=%q state_version=%d", said.Name, said.Version, said.StateVersion)
	return nil
}

// readPreflightAnswer reads what the new program wrote before it ended. It uses
// a deadline, because a child left behind may hold the descriptor open.
func readPreflightAnswer(r *os.File) (*preflightAnswer, error) {
	if err := r.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(io.LimitReader(r, maxPreflightOutput)).ReadBytes('\n')
	if err != nil {
		return nil, errNoAnswer
	}
	var answer preflightAnswer
	if json.Unmarshal(line, &answer) != nil {
		return nil, errNoAnswer
	}
	return &answer, nil
}

// errNoAnswer is also the result for older builds, and for a script that closes
// the descriptors it inherits.
var errNoAnswer = errors.New("it ended without an error but did not answer: it is not " + programName + ", or it is a build too old to upgrade to (stop this one and start that)")

// cancelOnStop calls cancel when a signal to stop comes, and leaves the signal in the
// channel for its receiver. The function that it returns ends the wait for signals.
func (u *upgrader) cancelOnStop(cancel func()) func() {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case sig := <-u.stop:
			cancel()
			leaveSignal(u.stop, sig)
		case <-done:
		}
	}()
	return func() { close(done); <-ended }
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct{ b []byte }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), maxPreflightOutput-len(l.b))]...)
	return len(p), nil
}

// checkStateDirectory checks, before anything is stopped, whether a state file
// can be created. It does not check whether there is enough space.
func (u *upgrader) checkStateDirectory() error {
	f, err := os.CreateTemp(filepath.Dir(u.state), filepath.Base(u.state)+".*")
	if err != nil {
		return fmt.Errorf("the state file cannot be written: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 4096))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("the state file cannot be written: %w", err)
	}
	return nil
}

// checkDescriptorRoom refuses an upgrade if the descriptor limit was lowered below what is
// open. The new process would keep its connections but could open nothing else.
func checkDescriptorRoom() error {
	highest := 0
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil {
			highest = max(highest, fd)
		}
	}
	if limit := descriptorLimit(); limit < len(entries)+upgradeFDs || limit <= highest+1 {
		return fmt.Errorf("limit of %d file descriptors is too low for the %d open ones (highest %d)", limit, len(entries), highest)
	}
	return nil
}

// preflightEnd is how long a preflight that was killed may take to end.
const preflightEnd = 2 * time.Second

// errPreflightStuck means that the preflight waits for a file system and may not be
// killable until that answers. An upgrade would be stuck too, because exec first has to end
// the threads that wait there.
var errPreflightStuck = errors.New("it cannot be ended, as a file that it reads is on a file system that does not answer")

// runPreflight is cmd.Run for a command that ctx kills. It does not wait for a
// process that cannot be killed; the caller must not read the output then.
func runPreflight(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() {
		// Even Start does not return while the program file cannot be read.
		err := cmd.Start()
		if err == nil {
			err = cmd.Wait()
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit := time.NewTimer(preflightEnd)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
		return errPreflightStuck
	}
}
