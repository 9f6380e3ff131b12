// Package testkit has what tests of the switcher share, whether they run it inside
// their process or as a process of its own: waiting, simulated pools and miners that
// end with the test, and clients and pools that do unusual things.
package testkit

// Cleanups end what the tests of a process share. TestMain calls Cleanup.
var Cleanups []func()

// Cleanup calls Cleanups, the last one first.
func Cleanup() {
	for i := len(Cleanups) - 1; i >= 0; i-- {
		Cleanups[i]()
	}
	Cleanups = nil
}
