package tunnel

import (
	"io"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A process may end while an upgrade begins. The next program, or the one after it, still
// finds that it was a child, because only the program that sees its end reaps it.
func TestEndedChildIsStillAChild(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !isChild(pid) {
			t.Error("the ended process is no child any more")
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if isChild(pid) {
		t.Error("the process is still a child after it was reaped")
	}
}

// A log that has ended is not handed to the next program, because the number of its
// descriptor may be another file's by then.
func TestEndedLogIsNotHandedOver(t *testing.T) {
	log, childEnd, err := newChildLog(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	childEnd.Close()
	log.copy()
	tun := &Tunnel{all: []*process{{pid: 1, controlFD: 3, log: log}}}
	for _, fd := range tun.State().Descriptors() {
		if fd != 3 {
			t.Errorf("descriptor %d is handed over", fd)
		}
	}
}
