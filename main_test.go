package main

import (
	"os"
	"testing"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func TestMain(m *testing.M) {
	// In the preflight of an upgrade, the test binary stands for the new program.
	if _, preflight := os.LookupEnv(upgradeContextVariable); preflight {
		main()
		os.Exit(0)
	}
	// The log library opens a file when the first line of a severity comes. That
	// must not happen in tests that count descriptors.
	glog.Error("the tests begin")
	code := m.Run()
	testkit.Cleanup()
	os.Exit(code)
}
