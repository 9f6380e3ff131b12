// Package daemontest builds, starts, follows, upgrades and stops the daemon, for
// tests that run it as its users do.
//
// It does not import the daemon: Config is the shape of config.json, and all else
// is seen from outside. Build compiles the daemon once for all tests of a process;
// Start runs it until the end of a test. Its log is read line by line, and what
// the log and /metrics say is what tests wait for.
package daemontest

// Package is the import path from which the daemon is built.
const Package = "github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher"
