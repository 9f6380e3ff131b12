//go:build !race

package daemontest

// raceDetector: the tests have the race detector. So has the daemon then, unless
// DaemonRace is set.
const raceDetector = false
