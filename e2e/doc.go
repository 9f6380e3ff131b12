// Package e2e tests the built daemon from outside: switches, upgrades, outages,
// load, leaks, packages, privileges, network partitions and random faults.
//
// All of its files but this one have the build tag e2e, so "go test ./..." runs the
// unit tests only. The tests need Linux, root (for network namespaces and file
// systems of their own), Java with ZooKeeper, and more that
// scripts/install-test-tools.sh installs:
//
//	make e2e                                          all of them
//	go test -tags e2e -race -run TestUpgrade ./e2e    some
//	make torture SEED=… MINUTES=30                    the random tests for long
//
// Tests of load and time come first, one after the other. All others are parallel.
//
// internal/daemontest runs the daemon, internal/stratumtest simulates pools and
// miners, internal/zktest runs ZooKeeper.
package e2e
