//go:build linux && !portable_relay

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestUpgradeScriptChanges: either the script that passed the preflight is run, or
// nothing is.
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
		{"unchanged", func() {}, true},
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
			t.Errorf("%s: got error %v", c.name, err)
		}
		program.close()
	}
}
