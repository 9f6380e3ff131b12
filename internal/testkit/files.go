package testkit

import (
	"os"
	"testing"
)

// WriteFile writes a file that only its owner can read.
func WriteFile(t testing.TB, path, content string) {
	t.Helper()
	Must(t, os.WriteFile(path, []byte(content), 0o600))
}
