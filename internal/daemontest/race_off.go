//go:build !race

package daemontest

// RaceDetector: the daemon is built with the detector if the tests are.
const RaceDetector = false
