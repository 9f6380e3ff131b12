//go:build !unix

package main

// ignoreTerminal does nothing, because terminals do not stop processes on this system.
func ignoreTerminal() {}
