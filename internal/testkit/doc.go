// Package testkit has what the tests of the switcher share, whether they run it
// inside their own process or as a separate one: waiting, simulated pools and
// miners that end with the test, and clients and pools that do unusual things.
package testkit
