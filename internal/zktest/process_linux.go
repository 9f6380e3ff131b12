package zktest

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// run starts the server and waits for its end. The server must not outlive a test
// that crashes. The kernel ends it with the thread that started it, so that thread
// is locked.
func (s *Server) run(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Start()
	started <- err
	if err == nil {
		s.wait = cmd.Wait()
		close(ended)
	}
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
func pause(p *os.Process) error     { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error    { return p.Signal(syscall.SIGCONT) }
