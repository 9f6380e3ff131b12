//go:build !unix

package main

// ignoreTerminal does nothing: terminals stop nobody here.
func ignoreTerminal() {}
