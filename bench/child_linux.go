package main

import "fmt"

// runChild runs the bench as one of its own children. Each child ends when its standard
// input ends, so none outlives the bench.
func runChild(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pools":
		return runPools()
	case len(args) == 4 && args[0] == "relay":
		return runRelay(args[1], args[2], args[3])
	}
	return fmt.Errorf("no such child: %q", args)
}
