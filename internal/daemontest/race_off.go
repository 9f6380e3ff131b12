//go:build !race

package daemontest

// RaceDetector: the daemon is built with the race detector if the tests are.
const RaceDetector = false
