package daemontest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

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
