package zktest

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// run starts the server and waits until it ends. The server must not outlive a test that
// crashes, so the kernel kills it when the thread that started it ends. The goroutine is
// locked to that thread, because the thread must not end earlier.
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
