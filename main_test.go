package main

import (
	"os"
	"testing"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func TestMain(m *testing.M) {
	// The program that a test upgrades to.
	if _, preflight := os.LookupEnv(upgradeContextVariable); preflight {
		main()
		os.Exit(0)
	}
	// The log library opens a file when the first line of its severity comes. Tests
	// that count descriptors must not meet that.
	glog.Error("the tests begin")
	code := m.Run()
	testkit.Cleanup()
	os.Exit(code)
}
