//go:build !linux

package zktest

import (
	"errors"
	"os"
	"os/exec"
)

func (s *Server) run(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	err := cmd.Start()
	started <- err
	if err == nil {
		s.wait = cmd.Wait()
		close(ended)
	}
}

var errNoSignals = errors.New("zktest: a server can be paused only on Linux")

func terminate(p *os.Process) error { return p.Kill() }
func pause(*os.Process) error       { return errNoSignals }
func resume(*os.Process) error      { return errNoSignals }
