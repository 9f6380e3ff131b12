//go:build linux && !portable_relay

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// On its way to exec, the child of the preflight uses descriptors of its own, which
// may have the number that the program has here. So the program is not run by that
// number. The name of a process is the last part of the path by which it was run.
func TestUpgradePreflightRunsByAnotherDescriptor(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(shell)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 200)
	if err != nil {
		t.Fatal(err)
	}
	program, err := newProgramOf(os.NewFile(uintptr(fd), shell), shell)
	if err != nil {
		t.Fatal(err)
	}
	defer program.close()
	u := &upgrader{config: defaultConfig(), binary: shell, state: filepath.Join(t.TempDir(), runtimeFile)}
	u.args = []string{"-c", fmt.Sprintf(`read name </proc/$$/comm && echo "run as $name" && test "$name" != %d`, fd)}
	if err := u.preflight(program); !errors.Is(err, errNoAnswer) {
		t.Error(err)
	}
}

// The preflight also runs the right program while other goroutines open and close files.
// Only then would a mistake with the descriptor's number show.
func TestUpgradePreflightDescriptor(t *testing.T) {
	binary, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var churn sync.WaitGroup
	defer churn.Wait()
	defer close(done)
	for range 2 {
		churn.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var files []*os.File
				for range 8 {
					if f, err := os.Open(os.DevNull); err == nil {
						files = append(files, f)
					}
				}
				for _, f := range files {
					f.Close()
				}
			}
		})
	}
	u := &upgrader{config: defaultConfig(), binary: binary, state: filepath.Join(t.TempDir(), runtimeFile)}
	for range 100 {
		program, err := openProgram(binary)
		if err != nil {
			t.Fatal(err)
		}
		err = u.preflight(program)
		program.close()
		if !errors.Is(err, errNoAnswer) { // the program was run, and did not answer
			t.Fatal(err)
		}
	}
}
