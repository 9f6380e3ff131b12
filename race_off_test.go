//go:build !race

package main

// raceDetector: tests build the daemon with the detector if they have it.
const raceDetector = false
