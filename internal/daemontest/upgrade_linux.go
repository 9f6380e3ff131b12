package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// OtherBinarySource is a program that tests install in place of the daemon's new binary.
// It reads two words from the file "behaviour" in its working directory. The first says
// what it does in the preflight and as the new program, and the second is the path of the
// real binary that it executes in the end.
const OtherBinarySource = `package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	text, err := os.ReadFile("behaviour")
	words := strings.Fields(string(text))
	if err != nil || len(words) != 2 {
		panic(fmt.Sprint("behaviour: ", words, err))
	}
	check := slices.Contains(os.Args, "-check")
	switch words[0] {
	case "exit":
		fmt.Fprintln(os.Stderr, "this one is broken")
		os.Exit(3)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		if check {
			fmt.Fprintln(os.Stderr, "hanging")
			time.Sleep(time.Hour)
		}
	case "wait":
		if check {
			break
		}
		fmt.Fprintln(os.Stderr, "between two programs")
		for {
			if _, err := os.Stat("go"); err == nil {
				os.Remove("go")
				break
			}
			time.Sleep(time.Millisecond)
		}
	case "spoil":
		if !check {
			if err := os.Rename("config.spoilt", "config.json"); err != nil {
				panic(err)
			}
		}
	}
	panic(syscall.Exec(words[1], os.Args, os.Environ()))
}
`

// OtherBinary builds OtherBinarySource once for all tests of the process.
func OtherBinary(t testing.TB) string {
	t.Helper()
	return testkit.SharedFile(t, "other binary", func(dir string) (string, error) {
		source, path := filepath.Join(dir, "main.go"), filepath.Join(dir, "other")
		if err := os.WriteFile(source, []byte(OtherBinarySource), 0o600); err != nil {
			return "", err
		}
		if out, err := exec.Command("go", "build", "-o", path, source).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	})
}

// InstallOther installs a binary that behaves in the given way and then executes version
// two of the daemon.
func (p *Daemon) InstallOther(behaviour string) {
	p.T.Helper()
	p.Install(OtherBinary(p.T))
	p.Replace(filepath.Join(p.Dir, "behaviour"), []byte(behaviour+" "+Build(p.T, "two")), 0o644)
}

// UpgradeWhile upgrades the daemon. It calls during after the old program has ended and
// before the new one starts.
func (p *Daemon) UpgradeWhile(during func()) {
	p.T.Helper()
	p.InstallOther("wait")
	n := p.Logged()
	p.Signal(syscall.SIGUSR2)
	p.WaitLogFrom(n, "between two programs")
	during()
	n = p.Logged()
	if err := os.WriteFile(filepath.Join(p.Dir, "go"), nil, 0o644); err != nil {
		p.T.Fatal(err)
	}
	if m := p.WaitLogFrom(n, `upgraded version=two sessions=\d+ lost=(\d+)`); m[1] != "0" {
		p.T.Errorf("sessions were lost: %s", m[0])
	}
	p.Install(Build(p.T, "one"))
}

// GoodUpgrade fails the test unless an upgrade succeeds and keeps all sessions.
func (p *Daemon) GoodUpgrade() {
	p.T.Helper()
	if _, lost, _ := p.Upgrade(); lost != "0" {
		p.T.Errorf("%s sessions were lost, want none", lost)
	}
}

func (p *Daemon) Path(name string) string { return filepath.Join(p.Dir, name) }

// WantNoUpgrade requests an upgrade and fails the test unless it is refused or undone for
// this reason.
func (p *Daemon) WantNoUpgrade(reason string) {
	p.T.Helper()
	n := p.Logged()
	p.Signal(syscall.SIGUSR2)
	line := p.WaitLogFrom(n, `upgraded version|upgrade (?:refused|undone).*`)[0]
	if !strings.Contains(line, reason) || strings.HasPrefix(line, "upgraded") {
		p.T.Errorf("the log says %q, want %q", line, reason)
	}
	p.CheckNoTemporary()
	if info, err := os.Lstat(p.Path("runtime.json")); err == nil && info.Mode().IsRegular() {
		p.T.Error("runtime.json still exists")
	}
}

// WaitIdle waits until nothing has been logged for half a second. No upgrade is in progress
// then.
func (p *Daemon) WaitIdle() {
	for n := -1; n != p.Logged(); {
		n = p.Logged()
		time.Sleep(500 * time.Millisecond)
	}
}

// Script replaces the binary with a shell script.
func (p *Daemon) Script(text string) {
	p.T.Helper()
	p.Replace(p.Binary, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
}
