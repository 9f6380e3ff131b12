package main

import (
	"os"
	"testing"
)

// testCleanups end what the package's tests share, last one first.
var testCleanups []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(testCleanups) - 1; i >= 0; i-- {
		testCleanups[i]()
	}
	os.Exit(code)
}
