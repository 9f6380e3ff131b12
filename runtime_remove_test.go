package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRemoveState: a mistyped -runtime removes no other file.
func TestRemoveState(t *testing.T) {
	for name, stays := range map[string]bool{runtimeFile: false, "config.json": true, "runtime.json.bak": true} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		removeState(path)
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s: %v, want it to stay: %v", name, err, stays)
		}
	}
}
