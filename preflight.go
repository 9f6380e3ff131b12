package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
)

// The preflight of an upgrade: before a process gives its place away, it has the
// program that is to take it check the configuration and say what it is. This
// file has what the two tell each other; preflight_linux.go runs the program.

// upgradeContext is what a process that wants to be replaced tells the
// preflight of its successor, in the environment.
type upgradeContext struct {
	StateVersion int // of the state file to come
	ListenAddr   string
	HTTPAddr     string // empty: no HTTP listener
	ChainType    string
	AnswerFD     int `json:",omitempty"` // where a preflightAnswer goes; 0: older programs want none
}

// preflightAnswer is what a program says of itself when it has passed the
// preflight, as JSON in one line.
type preflightAnswer struct {
	Name         string
	Version      string
	StateVersion int // the newest it reads
	PID          int
}

const programName = "stratumSwitcher"

// check sees whether the answer is that of a program which can take this one's
// place. pid is the process that was started: if another one answers, the new
// program would not get this process's pid and parent, and a script would keep
// all connections open beside it.
func (a *preflightAnswer) check(pid int) error {
	switch {
	case a.Name != programName:
		return fmt.Errorf("it is %q, must be %q", a.Name, programName)
	case a.Version == "":
		return errors.New("it does not tell its version")
	case a.StateVersion < runtimeVersion:
		return fmt.Errorf("it reads state files up to version %d, must read %d", a.StateVersion, runtimeVersion)
	case a.PID != pid:
		return fmt.Errorf("process %d has answered, not %d: a script has to run the program by exec", a.PID, pid)
	}
	return nil
}

// answer tells the process that wants to be replaced what this program is.
func (u *upgradeContext) answer() error {
	if u.AnswerFD <= 2 {
		return nil
	}
	line, err := json.Marshal(preflightAnswer{Name: programName, Version: version, StateVersion: runtimeVersion, PID: os.Getpid()})
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(u.AnswerFD), "preflight answer")
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("preflight answer: %w", err)
	}
	return nil
}

const upgradeContextVariable = "STRATUM_SWITCHER_PREFLIGHT"

// preflightContext is the context of a preflight, nil if this is none.
func preflightContext() (*upgradeContext, error) {
	text, ok := os.LookupEnv(upgradeContextVariable)
	if !ok {
		return nil, nil
	}
	var c upgradeContext
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return nil, fmt.Errorf("%s: %w", upgradeContextVariable, err)
	}
	return &c, nil
}

// check sees whether a process with configuration c could take the place of
// the one that c is the context of.
func (u *upgradeContext) check(c *Config) error {
	if c.ChainType != u.ChainType {
		return fmt.Errorf("ChainType is %q, must be %q as before: an upgrade can not change it", c.ChainType, u.ChainType)
	}
	if u.StateVersion > runtimeVersion {
		return fmt.Errorf("this program is too old: it reads state files up to version %d, not %d", runtimeVersion, u.StateVersion)
	}
	if c.ListenAddr != u.ListenAddr {
		if err := tryListen(c.ListenAddr); err != nil {
			return fmt.Errorf("ListenAddr: %w", err)
		}
	}
	if c.EnableHTTPDebug && c.HTTPDebugListenAddr != u.HTTPAddr {
		if err := tryListen(c.HTTPDebugListenAddr); err != nil {
			return fmt.Errorf("HTTPDebugListenAddr: %w", err)
		}
	}
	return nil
}

func tryListen(addr string) error {
	ln, err := net.Listen(listenNetwork(addr), addr)
	if err != nil {
		return err
	}
	return ln.Close()
}
