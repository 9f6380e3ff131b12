// Package testkit has what tests of the switcher share, whether they run it inside
// their process or as a process of its own: waiting, simulated pools and miners that
// end with the test, and clients and pools that do unusual things.
package testkit
