// Package daemontest builds, starts, follows, upgrades and stops the daemon, for
// tests that run it as its users do.
//
// It does not import the daemon: Config has the form of config.json, and the tests observe
// only what the daemon shows to others. Build compiles the daemon once for all tests of a
// process. Start runs it until the end of a test. Its log is read line by line, and tests
// wait for log lines and for values in /metrics.
package daemontest

// Package is the import path from which the daemon is built.
const Package = "github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher"
