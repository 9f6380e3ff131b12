//go:build linux && !portable_relay

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// The child of the preflight uses descriptors of its own on its way to exec,
// which may be the number of the binary here. That takes others being opened
// and closed at that moment.
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
	for range 300 {
		program, err := openProgram(binary)
		if err != nil {
			t.Fatal(err)
		}
		err = u.preflight(program)
		program.close()
		if !errors.Is(err, errNoAnswer) { // it was run, and had nothing to say
			t.Fatal(err)
		}
	}
}
