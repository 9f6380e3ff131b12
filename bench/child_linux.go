package main

import "fmt"

// runChild is the bench as one of its own children. Each ends at the end of
// its standard input, so none outlives the bench.
func runChild(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pools":
		return runPools()
	case len(args) == 4 && args[0] == "relay":
		return runRelay(args[1], args[2], args[3])
	}
	return fmt.Errorf("no such child: %q", args)
}
