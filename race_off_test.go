//go:build !race

package main

// raceDetector: tests build the daemon with the race detector if they have it
// themselves.
const raceDetector = false
