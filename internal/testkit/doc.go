// Package testkit contains helpers for all tests of the switcher, whether they run it in
// their own process or as a separate one: functions that wait, simulated pools and miners
// that end with the test, and clients and pools that behave unusually.
package testkit
