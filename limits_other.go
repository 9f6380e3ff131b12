//go:build !linux

package main

func raiseDescriptorLimit() {}

// descriptorLimit is a guess where the system has no such limit or another one.
func descriptorLimit() int { return 8192 }
