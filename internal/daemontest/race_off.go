//go:build !race

package daemontest

// raceDetector says whether the tests are built with the race detector. It is the default
// of DaemonRace.
const raceDetector = false
