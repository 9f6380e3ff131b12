package main

import (
	"os"
	"testing"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// testCleanups end what the package's tests share, last one first.
var testCleanups []func()

func TestMain(m *testing.M) {
	// The log library opens a file when the first line of its severity comes. Tests
	// that count descriptors must not meet that.
	glog.Error("the tests begin")
	code := m.Run()
	for i := len(testCleanups) - 1; i >= 0; i-- {
		testCleanups[i]()
	}
	testkit.Cleanup()
	os.Exit(code)
}
