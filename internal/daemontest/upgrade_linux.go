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

// OtherBinarySource is a program that stands in for the daemon's new binary.
// What it does, in the preflight and as the new process, is in a file of its
// working directory: a word, and the real binary that it becomes in the end.
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

// OtherBinary builds that program once for all tests of the process.
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

// InstallOther puts a binary in place that behaves as said, and is version two
// besides.
func (p *Daemon) InstallOther(behaviour string) {
	p.T.Helper()
	p.Install(OtherBinary(p.T))
	p.Replace(filepath.Join(p.Dir, "behaviour"), []byte(behaviour+" "+Build(p.T, "two")), 0o644)
}

// UpgradeWhile has during called when the old program is gone and the new one
// not there yet.
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
		p.T.Errorf("lost sessions: %s", m[0])
	}
	p.Install(Build(p.T, "one"))
}

// GoodUpgrade wants an upgrade to work.
func (p *Daemon) GoodUpgrade() {
	p.T.Helper()
	if _, lost, _ := p.Upgrade(); lost != "0" {
		p.T.Errorf("%s sessions lost", lost)
	}
}

func (p *Daemon) Path(name string) string { return filepath.Join(p.Dir, name) }

// WantNoUpgrade asks for an upgrade and wants it refused or undone for a
// reason.
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
		p.T.Error("runtime.json is left")
	}
}

// WaitIdle waits until no upgrade is under way: nothing more is logged.
func (p *Daemon) WaitIdle() {
	for n := -1; n != p.Logged(); {
		n = p.Logged()
		time.Sleep(500 * time.Millisecond)
	}
}

// Script puts a shell script in the binary's place.
func (p *Daemon) Script(text string) {
	p.T.Helper()
	p.Replace(p.Binary, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
}
