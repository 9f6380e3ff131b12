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
//	make torture SEED=… MINUTES=30                    the random tests for half an hour or longer
//
// With -race, the daemon and the test program both have the race detector. "make e2e"
// and "make test" give it to the daemon only (-args -daemon-race): the simulated pools
// and miners, which would take as much of the processors as the daemon, have it in the
// unit tests and in "make torture".
//
// Tests of load, memory, leaks and time run first, one after the other. All others
// are parallel.
//
// Package main has the unit tests, and two files of tests with the tag, which need
// its internals and something to be installed:
//
//	leak_entries_linux_test.go    the lengths of all maps and lists after short sessions; ZooKeeper
//	status_browser_test.go        the page with names that no miner can send, at times that the test sets; chromium
//
// Tests with the tag in packages below internal are those of ZooKeeper and of the
// tunnel process.
//
// internal/daemontest runs the daemon, internal/stratumtest simulates pools and
// miners, internal/zktest runs ZooKeeper.
package e2e
