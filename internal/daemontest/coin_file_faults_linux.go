package daemontest

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// PipeAt puts a pipe that nobody writes to in a file's place.
func (p *Daemon) PipeAt(name string) {
	p.T.Helper()
	path := filepath.Join(p.Dir, name)
	testkit.Must(p.T, unix.Mkfifo(path+".pipe", 0o644))
	testkit.Must(p.T, os.Rename(path+".pipe", path))
}
