package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
)

// The preflight of an upgrade: before a process is replaced, it runs the new
// program to check the configuration and to identify itself. This file has the
// messages between the two; preflight_linux.go runs the program.

// upgradeContext is what a process that wants to be replaced passes to the
// preflight of its successor, in the environment.
type upgradeContext struct {
	StateVersion int // of the state file to come
	ListenAddr   string
	HTTPAddr     string // empty if there is no HTTP listener
	ChainType    string
	AnswerFD     int `json:",omitempty"` // descriptor for the preflightAnswer; 0 if an older program asks, which wants none
}

// preflightAnswer is what a program says about itself after it has passed the
// preflight, as one line of JSON.
type preflightAnswer struct {
	Name         string
	Version      string
	StateVersion int // the newest version that it reads
	PID          int
	Tunnels      bool // it can take over connections with TLS
}

const programName = "stratumSwitcher"

// check returns an error unless the answer is that of a program that can
// replace this one. pid is the process that was started. If another process answers, a
// script has started the program as a child. The program would then not get this process's
// pid and parent, and the script would keep all connections open as well.
func (a *preflightAnswer) check(pid int) error {
	switch {
	case a.Name != programName:
		return fmt.Errorf("it is %q, must be %q", a.Name, programName)
	case a.Version == "":
		return errors.New("it does not give its version")
	case a.StateVersion < runtimeVersion:
		return fmt.Errorf("it reads state files up to version %d, must read %d", a.StateVersion, runtimeVersion)
	case a.PID != pid:
		return fmt.Errorf("process %d has answered, not %d: a script has to run the program by exec", a.PID, pid)
	}
	return nil
}

// answer identifies this program to the process that wants to be replaced.
func (u *upgradeContext) answer() error {
	if u.AnswerFD <= 2 {
		return nil
	}
	line, err := json.Marshal(preflightAnswer{Name: programName, Version: version, StateVersion: runtimeVersion, PID: os.Getpid(), Tunnels: tlsSupported})
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

// preflightContext returns the context if this process is a preflight, and otherwise nil.
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

// check returns an error if a process with configuration c could not replace
// the process that runs the preflight.
func (u *upgradeContext) check(c *Config) error {
	if c.ChainType != u.ChainType {
		return fmt.Errorf("ChainType is %q, must be %q as before: an upgrade cannot change it", c.ChainType, u.ChainType)
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
