//go:build linux && !portable_relay

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Upgrades within one second want log files of the same names. None may end
// the process or lose what the one before has logged.
func TestUpgradesWithinASecondKeepTheirLogs(t *testing.T) {
	btc, bcc := twoPools(t)
	logs := t.TempDir()
	p := newProcess(t, t.TempDir())
	p.writeConfig(fileConfig(btc, bcc))
	p.setCoins(map[string]string{"alice": "btc"})
	p.startQuietly("-log_dir="+logs, "-logbuflevel=-1", "-v=1")
	count := func(what string) (n int) {
		files, err := filepath.Glob(filepath.Join(logs, "stratumSwitcher.*.log.INFO.*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			content, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				return -1 // renamed at this moment
			}
			if err != nil {
				t.Fatal(err)
			}
			n += strings.Count(string(content), what)
		}
		return n
	}
	eventually(t, "listening", func() bool { return count("listening addr=") == 1 })
	const upgrades = 12
	for i := 1; i <= upgrades; i++ {
		p.signal(syscall.SIGUSR2)
		eventually(t, "upgraded", func() bool {
			select {
			case <-p.ended:
				t.Fatalf("the daemon has ended after %d upgrades: %q", i-1, p.lines)
			default:
			}
			return count("upgraded version=") == i
		})
	}
	eventually(t, "all starts in the logs", func() bool { return count(" pid=") == upgrades+1 })
}

func TestMoveLogFiles(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	tests := map[string]string{
		"prog.host.me.log.INFO.20260102-030405.7":    "prog.host.me.log.INFO.20260102-030405.2.7", // .1.7 is there
		"prog.host.me.log.INFO.20260102-030405.1.7":  "",
		"prog.host.me.log.WARNING.20260102-030406.7": "prog.host.me.log.WARNING.20260102-030406.1.7", // the clock was set back
		"prog.host.me.log.ERROR.20260102-030404.7":   "",
		"prog.host.me.log.INFO.20260102-030405.17":   "",
		"prog.other.me.log.INFO.20260102-030405.7":   "",
		"gorp.host.me.log.INFO.20260102-030405.7":    "",
		"prog.host.txt.7":                            "",
	}
	dir := t.TempDir()
	var want []string
	for name, moved := range tests {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if moved == "" {
			moved = name
		}
		want = append(want, moved)
	}
	if err := moveLogFiles(dir, "prog.host.", 7, now); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := moveLogFiles(filepath.Join(dir, "missing"), "prog.", 7, now); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
