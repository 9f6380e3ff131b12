//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// script puts a shell script in the binary's place.
func (p *process) script(text string) {
	p.t.Helper()
	p.replace(p.binary, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
}

// TestUpgradeByScript: a script that ends in the program may stand in its
// place, and the next upgrade comes from the same place again.
func TestUpgradeByScript(t *testing.T) {
	btc, _ := twoPools(t)
	p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 3)
	pid := p.cmd.Process.Pid

	// Scripts find the program beside them, and send its output elsewhere.
	beside := filepath.Join(filepath.Dir(p.binary), "real")
	if err := os.Symlink(buildVersion(t, "two"), beside); err != nil {
		t.Fatal(err)
	}
	p.script(`exec "$(dirname "$0")/real" "$@" >/dev/null`)
	for range 2 {
		n := p.logged()
		p.goodUpgrade()
		p.waitLogFrom(n, `stratumSwitcher version=two pid=`+fmt.Sprint(pid))
		wantMining(t, miners, "btc")
		wantNewMiner(t, p.addr, "alice")
	}
	p.install(buildVersion(t, "one"))
	n := p.logged()
	p.goodUpgrade()
	p.waitLogFrom(n, `stratumSwitcher version=one`)
	wantMining(t, miners, "btc")

	p.install(buildVersion(t, "two"))
	p.goodUpgrade()
	wantMining(t, miners, "btc")
}

// TestUpgradeScriptChanges: what is run for good is the script that passed the
// preflight, or nothing is.
func TestUpgradeScriptChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("exec one")
	for _, c := range []struct {
		name   string
		change func()
		wants  bool
	}{
		{"not", func() {}, true},
		{"other content", func() { write("exec two") }, false},
		{"another file", func() { write("exec one") }, false},
		{"written over", func() { os.WriteFile(path, []byte("#!/bin/sh\nexec two\n"), 0o755) }, false},
		{"gone", func() { os.Remove(path) }, false},
	} {
		write("exec one")
		program, err := openProgram(path)
		if err != nil {
			t.Fatal(err)
		}
		c.change()
		if err := program.unchanged(); (err == nil) != c.wants {
			t.Errorf("%s: %v", c.name, err)
		}
		program.close()
	}
}

// TestSignalsNotUsed: signals that other daemons have a use for end nothing,
// at no moment of an upgrade.
func TestSignalsNotUsed(t *testing.T) {
	btc, _ := twoPools(t)
	p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
	miners := startMiners(t, p.addr, "alice", 3)
	p.signal(syscall.SIGHUP)
	p.waitLog("signal hangup is not used")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				p.cmd.Process.Signal(syscall.SIGHUP)
				p.cmd.Process.Signal(syscall.SIGUSR1)
			}
		}
	}()
	for range 5 {
		p.goodUpgrade()
	}
	close(stop)
	<-stopped
	wantMining(t, miners, "btc")
	n := p.logged()
	p.signal(syscall.SIGHUP)
	p.waitLogFrom(n, "signal hangup is not used")
	p.signal(syscall.SIGTERM)
	<-p.ended
}

// TestUpgradeHandshakeLines: an upgrade does not give a stranger another
// handful of lines.
func TestUpgradeHandshakeLines(t *testing.T) {
	btc, _ := twoPools(t)
	p := startProcess(t, fileConfig(btc), map[string]string{"*": "btc"})
	raw := stratumtest.DialRaw(t, p.addr)
	half := maxHandshakeLines - 10
	for i := range half {
		raw.SendLine(fmt.Sprintf(`{"id":%d,"method":"mining.capabilities","params":[]}`, i))
		raw.Line(upgradeWait)
	}
	p.goodUpgrade()
	for i := range maxHandshakeLines - half {
		raw.SendLine(fmt.Sprintf(`{"id":%d,"method":"mining.capabilities","params":[]}`, half+i))
		raw.Line(upgradeWait)
	}
	raw.SendLine(`{"id":1001,"method":"mining.capabilities","params":[]}`)
	raw.ExpectClosed()
}
