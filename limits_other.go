//go:build !linux

package main

func raiseDescriptorLimit() {}

// descriptorLimit returns a guess, because other systems have no such limit or read it in
// another way.
func descriptorLimit() int { return 8192 }
